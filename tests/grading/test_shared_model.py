"""The shared model: a change by the worker is seen from outside, and only that."""

import os

import pytest
import torch
from torch import nn

from src.grading.sandbox.shared_model import SharedModel

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")


def is_unchanged_after(change) -> bool:
    """Whether the model still seems to be what it was, once a forked process has done `change` to it."""
    model = nn.Linear(3, 5)
    shared = SharedModel(model.parameters())
    process = os.fork()
    if process == 0:
        shared.use()
        with torch.no_grad():
            change(model)
        os._exit(0)
    os.waitpid(process, 0)
    return shared.is_unchanged()


def test_a_change_of_a_weight_is_seen():
    assert not is_unchanged_after(lambda model: model.weight[4, 2].add_(1e-3))
    assert not is_unchanged_after(lambda model: model.bias.copy_(model.bias.flip(0)))


def test_using_the_model_changes_nothing():
    assert is_unchanged_after(lambda model: model(torch.ones(2, 3)))
