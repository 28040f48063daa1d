"""`staff/bench/`: the implementations compute the same, and the report says what was measured."""

import json

import pytest
import torch

from src.model import checkpoint
from src.model.config import BUNDLED, Config, model_config
from src.model.gpt2 import GPT2
from staff.bench import implementations, machine, report, sections, timing
from staff.bench.measurements import Line, Measurements, text_of


@pytest.fixture(scope="module")
def bundled() -> tuple[GPT2, Config]:
    config = model_config(BUNDLED)
    return checkpoint.load(config, checkpoint.locate(config))[0], config


@pytest.fixture
def ids(bundled) -> torch.Tensor:
    return torch.randint(bundled[1].vocab_size, (2, 40))


@torch.inference_mode()
def test_the_plain_model_computes_the_same(bundled, ids):
    model, config = bundled
    torch.testing.assert_close(implementations.plain(config)(ids)[0], model(ids)[0], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_the_plain_model_computes_the_same_from_a_past(bundled, ids):
    model, config = bundled
    plain = implementations.plain(config)
    _, past = plain(ids[:, :30])
    torch.testing.assert_close(plain(ids[:, 30:], past=past)[0], model(ids)[0][:, 30:], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_the_library_s_model_computes_the_same(bundled, ids):
    model, config = bundled
    logits = implementations.transformers(config)(ids).logits
    torch.testing.assert_close(logits, model(ids)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("implementation", [implementations.Ours, implementations.Plain])
def test_decode_times_each_token_and_the_model_within_it(implementation):
    times = implementation(BUNDLED).decode(torch.zeros(2, 5, dtype=torch.long), 4)
    assert times.steps.shape == times.model.shape == (3,)
    assert (times.model > 0).all()
    assert (times.model <= times.steps).all()


def test_jobs_run_in_turn():
    calls = []
    timing.in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, "jobs")
    assert calls == ["a", "b"] * 3


def test_the_warm_up_round_does_not_count():
    seconds = iter([9.0, 7.0, 8.0])
    assert timing.in_turn({"a": lambda: next(seconds)}, 2, "jobs") == {"a": [7.0, 8.0]}


def test_a_job_without_a_result_is_timed_as_a_whole():
    times = timing.in_turn({"a": lambda: None}, 2, "jobs")
    assert [seconds > 0 for seconds in times["a"]] == [True, True]


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds():
    assert timing.ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == 3.0


@pytest.mark.parametrize(
    ("value", "bound", "met"),
    [(1.2, 1.0, True), (0.9, 1.0, False), (3.0, -4.0, True), (5.0, -4.0, False), (1, None, None)],
)
def test_a_negative_bound_is_an_upper_bound(value, bound, met):
    assert Line("what", value, "times", bound).met is met


def test_a_missed_bound_is_printed():
    assert text_of(Line("what", 5.0, "times", -4.0)).split() == ["what", "5", "times", "at", "most", "4", "MISSED"]


def test_a_section_prints_its_lines(capsys):
    measurements = sections.run(["limits"], 1)
    assert [line.value > 0 for line in measurements.lines] == [True] * 3
    assert capsys.readouterr().out.startswith("large read")


def test_the_report_has_the_lines_and_the_chart(tmp_path):
    measurements = Measurements(machine.description())
    measurements.add("what", 1.5, "times", 2.0, "a note")
    measurements.add_curve(f"{BUNDLED}, batch 1", "ours", {10: 2.0, 100: 2.5})
    report.save(measurements, tmp_path)
    markdown = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert markdown.startswith(f"Measured on {machine.description()}")
    assert "| what | 1.5 times | ≥ 2 | **missed**; a note |" in markdown
    lines = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["lines"]
    assert lines == [{"what": "what", "value": 1.5, "unit": "times", "bound": 2.0, "note": "a note"}]
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
