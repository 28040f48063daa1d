"""The bench: that its contenders compute the same, and that it reports what it measures."""

import json

import pytest
import torch

from src import checkpoint
from src.config import model_config
from staff.bench import contenders, machine, report, sections


@torch.inference_mode()
def test_the_contenders_are_the_same_model():
    config = model_config("gpt2-mini")
    model, _ = checkpoint.load(config, checkpoint.locate(config))
    plain, theirs = contenders.plain(config), contenders.transformers(config)
    ids = torch.randint(config.vocab_size, (2, 40))
    expected, _ = model(ids)
    torch.testing.assert_close(plain(ids)[0], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(theirs(ids).logits, expected, atol=1e-4, rtol=1e-4)
    _, past = plain(ids[:, :30])
    torch.testing.assert_close(plain(ids[:, 30:], past=past)[0], expected[:, 30:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("who", [("ours", False), ("plain", True)])
def test_a_decoder_times_each_token_and_the_model_within_it(who):
    _, is_plain = who
    sampler = contenders.Sampler("gpt2-mini", "float32", is_plain)
    whole, alone = sampler.decode(torch.zeros(2, 5, dtype=torch.long), 4)
    assert whole.shape == alone.shape == (3,)
    assert (alone > 0).all()
    assert (alone <= whole).all()


def test_contenders_take_turns_and_the_first_round_does_not_count():
    turns = []
    times = machine.in_turn({"a": lambda: turns.append("a"), "b": lambda: turns.append("b") or 7.0}, 2, "turns")
    assert turns == ["a", "b"] * 3
    assert times["b"] == [7.0, 7.0]
    assert len(times["a"]) == 2


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    assert machine.ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == 3.0


@pytest.mark.parametrize(
    ("value", "bound", "met"),
    [(1.2, 1.0, True), (0.9, 1.0, False), (3.0, -4.0, True), (5.0, -4.0, False), (1, None, None)],
)
def test_a_bound_is_a_least_or_with_a_minus_a_most(value, bound, met):
    assert sections.Line("what", value, "times", bound).met is met


def test_what_is_measured_is_printed_and_written(tmp_path, capsys):
    found = sections.run(["limits"], 1)
    found.curves["mini, batch 1"] = {"ours": {10: 2.0, 100: 2.5}}
    report.save(found, tmp_path)
    assert "large read" in capsys.readouterr().out
    assert f"Measured on {machine.described()}" in (tmp_path / "results.md").read_text(encoding="utf-8")
    lines = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["lines"]
    assert [line["value"] > 0 for line in lines] == [True] * 3
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
