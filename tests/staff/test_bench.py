"""`staff/bench/`: the implementations compute the same, and the report says what was measured."""

import importlib.util
import json
import math

import numpy as np
import pytest
import torch

from src.model import checkpoint, compiled
from src.model.config import BUNDLED, Config, model_config
from src.model.gpt2 import GPT2
from staff.bench import __main__ as bench
from staff.bench import (
    decoding,
    implementations,
    machine,
    own_process,
    report,
    sections,
    timing,
)
from staff.bench.contenders import CLOSE, CONTENDERS, SAME, Contender, start_all
from staff.bench.intervals import ENOUGH_ROUNDS, Ratio, ratio
from staff.bench.measurements import Contest, Entry, Line, Measurements, cells, text_of
from staff.bench.results import Results, from_json


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


class _Pipe:
    """The bench's end of the pipe to an implementation: every block is wanted."""

    def __init__(self):
        self.blocks = []

    def send(self, block):
        self.blocks.append(block)

    def recv(self):
        return ("go on",)


@pytest.mark.parametrize("implementation", [implementations.Ours, implementations.Transformers])
def test_each_block_is_timed(implementation):
    pipe = _Pipe()
    implementation(BUNDLED).decode(torch.zeros(2, 5, dtype=torch.long), 2 * 4, own_process.Ticks(pipe, 3, 2))
    assert len(pipe.blocks) == 2
    assert all(block.seconds > 0 for block in pipe.blocks)


def test_the_model_s_part_lies_within_the_step():
    pipe = _Pipe()
    prompts = torch.zeros(1, 5, dtype=torch.long)
    implementations.Ours(BUNDLED).decode(prompts, 4, own_process.Ticks(pipe, 3, 1))
    assert 0 < pipe.blocks[0].model <= pipe.blocks[0].seconds


def test_the_first_token_of_a_block_is_not_timed(monkeypatch):
    pipe, clock = _Pipe(), iter([0.0, 1.0, 3.0, 100.0, 104.0, 110.0])
    monkeypatch.setattr(own_process.time, "perf_counter", lambda: next(clock))
    tick = own_process.Ticks(pipe, 2, 2)
    for _ in range(6):
        tick()
    assert [block.seconds for block in pipe.blocks] == [1.5, 5.0]


def test_the_next_block_starts_when_it_is_wanted():
    process = own_process.OwnProcess(implementations.Ours, BUNDLED, "float32")
    process.start(torch.zeros(1, 5, dtype=torch.long), 2, 3)
    assert [process.block().seconds > 0 for _ in range(3)] == [True] * 3
    assert process.logits(torch.zeros(1, 5, dtype=torch.long)).shape == (1, model_config(BUNDLED).vocab_size)
    process.close()


class _Broken:
    def __init__(self, name, dtype):
        raise ValueError("this shape is not supported")


class _OtherModel(implementations.Plain):
    def logits(self, prompts):
        return super().logits(prompts) + np.linspace(0, 1, self.config.vocab_size)


def test_a_contest_goes_on_without_those_that_cannot_run(monkeypatch, capsys, tmp_path):
    """One cannot be made, and one computes something else. The others are timed, and the report can be written."""
    monkeypatch.setattr(timing, "QUIET", 0)
    monkeypatch.setattr(decoding, "MIDDLE", (20,))
    monkeypatch.setitem(CONTENDERS, "broken", (_Broken, "float32"))
    monkeypatch.setitem(CONTENDERS, "other", (_OtherModel, "float32"))
    measurements = Measurements()
    labels = ("ours", "broken", "other", "plain", decoding.HALF, decoding.PRODUCTS)
    decoding._decoding(measurements, 1, BUNDLED, labels, (1,))
    entries = {entry.label: entry for entry in measurements.contests[0].entries}
    assert list(entries) == [*labels, decoding.MEMORY]
    assert entries["broken"].error == "ValueError: this shape is not supported"
    assert "differ from ours by" in entries["other"].error
    assert entries["plain"].computes.startswith("same")
    assert all(e.median >= e.minimum > 0 for e in entries.values() if not e.error)
    assert "this shape is not supported" in capsys.readouterr().out
    report.save(Results("a machine", {"decoding": measurements}), tmp_path)
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_our_model_without_a_compiler_is_one_of_them(monkeypatch):
    monkeypatch.setattr(compiled, "compile_step", compiled.compile_step)  # it replaces this in its own process
    assert not hasattr(implementations.NotCompiled(BUNDLED).model, "step")


def test_without_our_own_model_there_is_no_contest(monkeypatch):
    monkeypatch.setitem(CONTENDERS, "ours", (_Broken, "float32"))
    with pytest.raises(RuntimeError, match="our own model failed: ValueError: this shape is not supported"):
        start_all(model_config(BUNDLED), BUNDLED, ("ours",))


ENGINES = {
    "llama.cpp": "xllamacpp",
    "OpenVINO": "openvino",
    "ONNX Runtime": "onnxruntime",
    "CTranslate2": "ctranslate2",
}


@pytest.mark.parametrize("label", [label for label in CONTENDERS if label.split(",")[0] in ENGINES])
def test_an_engine_computes_the_same_and_decodes(label):
    """float32 within 1e-3 (llama.cpp, see CLOSE, within 1e-2), others within 0.05 of total variation."""
    if importlib.util.find_spec(ENGINES[label.split(",")[0]]) is None:
        pytest.skip("not installed: it is in the group bench")
    implementation, dtype = CONTENDERS[label]
    engine, ours = implementation(BUNDLED, dtype), implementations.Ours(BUNDLED)
    prompts = torch.randint(ours.config.vocab_size, (2, 30))
    p, q = (torch.as_tensor(model.logits(prompts)).log_softmax(-1) for model in (engine, ours))
    if dtype == "float32":
        torch.testing.assert_close(p, q, rtol=0, atol=CLOSE if label == "llama.cpp" else SAME)
    else:
        assert (p.exp() - q.exp()).abs().sum(-1).max() / 2 < 0.05
    pipe = _Pipe()
    engine.decode(prompts, 2 * 4, own_process.Ticks(pipe, 3, 2))
    assert [block.seconds > 0 for block in pipe.blocks] == [True, True]


def _in_turn(jobs, rounds, readings=None):
    readings = iter(readings or [1.0] * (1 + len(jobs) * (rounds + 1)))
    return timing.in_turn(jobs, rounds, "jobs", read=lambda: next(readings))


def test_each_job_runs_once_a_round():
    calls = []
    _in_turn({name: lambda name=name: calls.append(name) for name in "abc"}, 4)
    assert [sorted(calls[i : i + 3]) for i in range(0, 15, 3)] == [["a", "b", "c"]] * 5


def test_the_order_within_a_round_is_random():
    """40 rounds of 3 jobs have the same order with probability 6^-39; each order is missing with 6 (5/6)^40 < 0.005."""
    calls = []
    timing.random.seed(1)
    _in_turn({name: lambda name=name: calls.append(name) for name in "abc"}, 39)
    assert len({tuple(calls[i : i + 3]) for i in range(0, 120, 3)}) == 6


def test_the_warm_up_round_does_not_count():
    seconds = iter([9.0, 7.0, 8.0])
    assert _in_turn({"a": lambda: next(seconds)}, 2)["a"].tolist() == [7.0, 8.0]


def test_a_job_without_a_result_is_timed_as_a_whole():
    assert (_in_turn({"a": lambda: None}, 2)["a"] > 0).all()


def test_a_busy_block_is_discarded():
    """The memory is slow in the middle of five blocks, one of which is the warm-up: before one, and after the other."""
    seconds = iter([9.0, 1.0, 2.0, 3.0, 4.0])
    times = _in_turn({"a": lambda: next(seconds)}, 4, [1.0, 1.01, 0.99, 1.3, 1.0, 1.0])
    np.testing.assert_equal(times["a"], [1.0, math.nan, math.nan, 4.0])
    assert times.discarded() == (2, 4)
    assert times.median("a") == 2.5


def test_a_discarded_block_takes_no_part_in_a_ratio():
    assert ratio([2.0, math.nan, 6.0], [1.0, 1.0, 2.0]).rounds == 2


def test_rounds_of_several_runs_are_joined():
    one, two = (_in_turn({"a": lambda s=s: s}, 2) for s in (1.0, 2.0))
    assert timing.joined([one, two])["a"].tolist() == [1.0, 1.0, 2.0, 2.0]


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds():
    assert ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]).value == 3.0


@pytest.mark.parametrize("rounds", [6, 15])
def test_the_interval_covers_the_true_ratio(rounds):
    """In 95 % of runs; of 400, 91 to 98 % (3.5 standard deviations, and what the bootstrap itself is off by)."""
    rng, covered = np.random.default_rng(0), 0
    for run in range(400):
        ours, other = (rng.lognormal(0, 0.1, rounds) for _ in range(2))
        interval = ratio(1.3 * other, ours, seed=run)
        covered += interval.low <= 1.3 <= interval.high
    assert 0.91 < covered / 400 < 0.98


def test_equal_times_are_rarely_called_different():
    """At most 9 % of 400 runs; 5 % are expected."""
    rng = np.random.default_rng(0)
    claims = [ratio(*rng.lognormal(0, 0.1, (2, 12)), seed=run).claim for run in range(400)]
    assert sum(claim != "" for claim in claims) < 36


@pytest.mark.parametrize(
    ("low", "high", "rounds", "claim"),
    [
        (1.1, 1.3, 15, "ahead"),
        (0.7, 0.9, 15, "behind"),
        (0.9, 1.3, 15, ""),
        (1.1, 1.3, ENOUGH_ROUNDS - 1, ""),
    ],
)
def test_a_claim_needs_an_interval_without_1(low, high, rounds, claim):
    assert Ratio(1.2, low, high, rounds).claim == claim


def test_a_pass_has_few_rounds_so_that_the_context_stays():
    assert list(decoding._passes(12)) == [5, 5, 2]


def test_a_contender_s_row_shows_its_interval():
    entry = Entry("them", 0.01, 0.02, Ratio(1.5, 1.2, 1.6, 10), "same")
    assert cells(entry) == ("them", "10.00", "20.00", "1.50", "1.20 to 1.60", "ahead", "same")


def test_a_contender_s_error_is_in_its_row():
    assert cells(Entry("them", error="not installed"))[-1] == "error: not installed"


def test_a_limit_is_neither_ahead_nor_behind():
    assert Entry("memory", ratio=Ratio(0.8, 0.7, 0.9, 10), is_limit=True).claim == ""


@pytest.mark.parametrize(
    ("value", "bound", "met"),
    [
        (1.2, 1.0, True),
        (0.9, 1.0, False),
        (3.0, -4.0, True),
        (5.0, -4.0, False),
        (1, None, None),
        (math.nan, 1.0, None),
    ],
)
def test_a_negative_bound_is_an_upper_bound(value, bound, met):
    assert Line("what", value, "times", bound).met is met


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((1.1, 1.4), "met"), ((0.9, 1.4), "not settled"), ((0.7, 0.9), "missed"), ((1.0, 1.0), "met")],
)
def test_a_bound_within_the_interval_is_not_settled(interval, verdict):
    assert Line("what", sum(interval) / 2, "times", 1.0, interval=interval).verdict == verdict


def _closest(others, **seconds):
    """The line of the closest of `others`, each of which took so many seconds in six rounds."""
    measurements = Measurements()
    reading = {label: np.ones((6, 2)) for label in seconds}
    times = timing.Times({label: np.full(6, value) for label, value in seconds.items()}, reading)
    decoding._add_closest(measurements, "closest", times, others, "ours", 1.0)
    return measurements.lines


def test_the_closest_other_computes_in_float32():
    labels = (
        "ours",
        decoding.NOT_COMPILED,
        "plain",
        "transformers",
        "llama.cpp, int8",
        decoding.PRODUCTS,
        decoding.HALF,
    )
    assert decoding._in_float32([Contender(label) for label in labels]) == ["plain", "transformers"]


def test_the_closest_other_takes_the_least_time():
    [line] = _closest(["plain", "other"], ours=2.0, plain=6.0, other=4.0, third=1.0)
    assert (line.note, line.value, line.verdict) == ("other", 2.0, "met")


def test_one_that_failed_is_not_the_closest():
    [line] = _closest(["plain", "other"], ours=2.0, plain=6.0, other=math.nan)
    assert line.note == "plain"


def test_without_others_the_closest_one_is_unknown():
    [line] = _closest(["plain"], ours=2.0)
    assert line.note == ""
    assert math.isnan(line.value)


def test_without_ours_in_int8_there_is_no_line_of_it():
    measurements = Measurements()
    times = timing.Times({"ours": np.ones(6)}, {"ours": np.ones((6, 2))})
    decoding._add_closest(measurements, "closest", times, decoding.OTHERS_INT8, decoding.INT8, 1.0)
    assert measurements.lines == []


def test_a_missed_bound_is_printed():
    assert text_of(Line("what", 5.0, "times", -4.0)).split() == ["what", "5", "times", "at", "most", "4", "MISSED"]


def test_a_section_prints_its_lines(capsys, monkeypatch):
    monkeypatch.setattr(timing, "QUIET", 0)
    measurements = sections.run("limits", 1)
    assert [line.value > 0 for line in measurements.lines] == [True] * 3
    assert measurements.began.startswith("20")
    assert capsys.readouterr().out.startswith("large read")


def test_the_bench_goes_on_without_a_section_that_fails(tmp_path, monkeypatch, capsys):
    def fail(measurements, rounds):
        raise AttributeError("no such layer")

    monkeypatch.setattr(sections, "SECTIONS", {"mini": fail, "half": lambda m, rounds: m.add("rounds", rounds, "")})
    monkeypatch.setenv("TQDM_DISABLE", "")  # main sets it
    monkeypatch.setattr("sys.argv", ["bench", "--rounds", "2", "--out", str(tmp_path)])
    assert bench.main() == 1
    assert [line.value for line in from_json((tmp_path / "results.json").read_text(encoding="utf-8")).lines] == [2]
    assert capsys.readouterr().err.endswith("AttributeError: no such layer\nfailed: mini\n")


def test_the_report_has_the_lines_and_the_chart(tmp_path):
    measurements = Measurements()
    measurements.add("what", 1.5, "times", 2.0, "a note")
    measurements.add_curve(f"{BUNDLED}, batch 1", "ours", {10: 2.0, 100: 2.5})
    entries = Entry("ours", 0.01, 0.011), Entry("them", 0.02, 0.021, Ratio(1.9, 1.8, 2.1, 9), "same")
    measurements.add_contest(Contest("batch 1", entries, (3, 30)))
    report.save(Results(machine.description(), {"limits": measurements}), tmp_path)
    markdown = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert markdown.startswith(f"Measured on {machine.description()}")
    assert "| what | 1.5 times |  | ≥ 2 | **missed**; a note |" in markdown
    assert "batch 1; 3 of 30 blocks discarded" in markdown
    assert "| them | 20.00 | 21.00 | 1.90 | 1.80 to 2.10 | ahead | same |" in markdown
    lines = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["sections"]["limits"]["lines"]
    assert lines == [{"what": "what", "value": 1.5, "unit": "times", "bound": 2.0, "note": "a note", "interval": None}]
    for chart in ("speed.png", "ratios.png"):
        assert (tmp_path / chart).read_bytes().startswith(b"\x89PNG")
