"""`staff/bench/`: what single sections measure."""

import pytest
import torch

from src.model import checkpoint
from src.model.config import BUNDLED, model_config
from staff.bench import inference, profile, shapes, timing
from staff.bench.measurements import Measurements


def test_the_parts_of_a_step_add_up_to_it():
    config = model_config(BUNDLED)
    model, _ = checkpoint.load(config, checkpoint.locate(config), fast=True)
    if not hasattr(model, "step"):
        pytest.skip("the step cannot be compiled here")
    logits = [model(torch.tensor([[1]]), past=model(torch.tensor([[1, 2]]))[1])[0] for _ in range(2)]
    parts = profile.parts_of_step(model, config, 1, 400, rounds=3)
    logits.append(model(torch.tensor([[1]]), past=model(torch.tensor([[1, 2]]))[1])[0])
    assert list(parts) == [part for part in profile.PARTS if part != profile.SAMPLING]
    assert 0 < parts[profile.PYTHON] < sum(parts.values()) < 1
    assert parts[profile.READOUT] + parts[profile.BLOCKS] > parts[profile.PYTHON]
    assert torch.equal(logits[0], logits[2])  # the model is as it was


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
