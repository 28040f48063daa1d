"""`staff/bench/`: what single sections measure."""

import time

import pytest
import torch

from src.model import checkpoint
from src.model.config import BUNDLED, model_config
from staff.bench import inference, profile, shapes, timing
from staff.bench.measurements import Measurements


@pytest.fixture
def own_time(monkeypatch):
    """The stopwatch does not see what other programs do meanwhile."""
    monkeypatch.setattr(profile.time, "perf_counter", time.thread_time)


def test_the_parts_of_a_step_add_up_to_it(own_time):
    """To within the calls of the hooks; each part takes some time."""
    model, stopwatch = _new()
    began = time.thread_time()
    model(torch.zeros(1, 50, dtype=torch.long))
    took = time.thread_time() - began
    assert list(stopwatch.seconds) == [*profile.PARTS, profile.REST]
    assert all(seconds > 0 for seconds in stopwatch.seconds.values())
    assert 0.5 * took < sum(stopwatch.seconds.values()) <= took


def test_a_renamed_module_counts_as_the_rest(own_time, monkeypatch):
    monkeypatch.setitem(profile.PARTS, "MLPs", r"\.feed_forward$")
    model, stopwatch = _new()
    model(torch.zeros(1, 50, dtype=torch.long))
    assert stopwatch.seconds["MLPs"] == 0
    assert stopwatch.seconds[profile.REST] > stopwatch.seconds["layer norms"]


def _new():
    """A model of its own, whose hooks nobody else has, and its stopwatch."""
    config = model_config(BUNDLED)
    model = checkpoint.load(config, checkpoint.locate(config))[0]
    return model, profile.Stopwatch(model)


def test_a_hollow_checkpoint_has_its_shape_and_takes_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SMALL", BUNDLED)
    config = shapes.make_hollow(tmp_path, "hollow", (2, 48, 4))
    files = checkpoint.locate(config, tmp_path)
    model, _ = checkpoint.load(config, files)
    assert [p.dtype for p in model.parameters()] == [torch.bfloat16] * len(list(model.parameters()))
    assert (len(model.transformer.h), model.transformer.wte.weight.size(1)) == (2, 48)
    status = files.weights.stat()
    assert status.st_blocks * 512 < status.st_size / 10


def test_after_the_comparison_of_threads_all_are_used(monkeypatch):
    monkeypatch.setattr(timing, "QUIET", 0)
    monkeypatch.setattr(inference, "SMALL", BUNDLED)
    usual, measurements = torch.get_num_threads(), Measurements()
    inference.threads(measurements, 1)
    assert len(measurements.lines) == 3
    assert torch.get_num_threads() == usual
