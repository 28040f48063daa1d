"""The reference worker's answers are the model's."""

import numpy as np
import pytest
import torch

from src.hw1.messages import AskLogits
from src.hw1.worker import Worker


@pytest.mark.parametrize(
    "ids", [[[3, 1, 4]], [[3], [5]], [[3, 1, 4], [3, 1, 5]], [[3, 1, 4], [3, 2, 4]]],
    ids=["one text", "one token each", "the same beginning", "other beginnings"],
)  # fmt: skip
@torch.inference_mode()
def test_the_last_logits_are_the_last_of_all(tiny_config, tiny_model, ids):
    worker, ids = Worker(tiny_model, None, tiny_config), np.array(ids)
    right = tiny_model(torch.from_numpy(ids))[0].numpy()
    assert np.array_equal(worker.answer(AskLogits(ids, last=False)).logits, right)
    last = worker.answer(AskLogits(ids, last=True)).logits
    assert last.shape == right[:, -1:].shape
    assert last == pytest.approx(right[:, -1:], abs=1e-5)
