"""A training that was interrupted goes on where it was, and ends as if it had not been."""

import os
import signal

import pytest
import torch
from torch import nn

from src.hw10 import training
from src.hw10.training import Loop


def train(folder, iterations=12, stop=None, key=1):
    """The weights after a training that is interrupted after `stop` iterations, and its history."""
    torch.manual_seed(5)
    model = nn.Linear(3, 1)
    adam = torch.optim.Adam(model.parameters(), 0.1)
    with Loop(folder, "line", key, iterations, {"model": model, "adam": adam}) as loop:
        for iteration in loop:
            if iteration == stop:
                os.kill(os.getpid(), signal.SIGINT)
            x = torch.randn(8, 3)
            loss = (model(x) - x.sum(-1, keepdim=True)).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            loop.record(loss=loss.item())
    return model.weight.detach().clone(), loop.history["loss"]


def test_it_goes_on_where_it_was(tmp_path):
    weights, losses = train(tmp_path / "whole")
    for stop in (4, 9):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts", stop=stop)
    resumed, all_losses = train(tmp_path / "parts")
    assert torch.equal(resumed, weights)
    assert all_losses == losses
    assert len(losses) == 12


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, also where whoever started the tests has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(folder, at, times, seen):
    """Run nine iterations, whose numbers are put into `seen`; press Ctrl-C so many times in the one called `at`."""
    with Loop(folder, "line", 1, 9, {}) as loop:
        for iteration in loop:
            for _ in range(times if iteration == at else 0):
                os.kill(os.getpid(), signal.SIGINT)
            seen.append(iteration)


def test_ctrl_c_waits_for_the_end_of_an_iteration(tmp_path):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, 3, 1, seen)
    assert seen == [0, 1, 2, 3]
    interrupted(tmp_path, None, 1, seen)
    assert seen == [*range(9)]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, 3, 2, seen)
    assert seen == [0, 1, 2]


def fail_in(folder, at):
    with Loop(folder, "line", 1, 9, {}) as loop:
        for iteration in loop:
            if iteration == at:
                raise ValueError("in the middle")


def test_an_error_saves_no_half_of_an_iteration(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="in the middle"):
        fail_in(tmp_path, 3)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(training, "SAVE_SECONDS", -1.0)  # saved after each
    with pytest.raises(ValueError, match="in the middle"):
        fail_in(tmp_path, 3)
    with Loop(tmp_path, "line", 1, 9, {}) as loop:
        assert next(iter(loop)) == 3


def test_its_file_is_gone_in_the_end(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop=4)
    assert len(list(tmp_path.iterdir())) == 1
    train(tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_key_starts_anew(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop=4)
    _, losses = train(tmp_path, key=2)
    assert torch.tensor(losses).equal(torch.tensor(train(tmp_path / "new")[1]))


def test_a_damaged_file_starts_anew(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop=4)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert train(tmp_path)[1] == train(tmp_path / "new")[1]


def test_it_is_saved_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", -1.0)
    with Loop(tmp_path, "nothing", 1, 3, {}) as loop:
        saved = [len(list(tmp_path.iterdir())) for _ in loop]
    assert saved == [0, 1, 1]
