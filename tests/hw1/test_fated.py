"""The test model that decides at random which texts are likely."""

import numpy as np
import pytest

from src.hw1.fated import LIKELY, TOKENS, UNLIKELY, FatedModel
from src.hw1.messages import TableAnswer, TableQuestion


@pytest.fixture
def model() -> FatedModel:
    return FatedModel(8, np.random.default_rng(3))


def log_p(logits: np.ndarray, ids: np.ndarray) -> float:
    """In plain steps: normalise each row, and sum what it gives to the next token."""
    logits = logits.astype(np.float64)
    return sum(row[token] - np.log(np.exp(row).sum()) for row, token in zip(logits, ids[1:], strict=False))


def test_each_text_is_as_likely_as_it_says(model):
    logits = model.logits(np.array(model.texts))
    assert [log_p(*each) for each in zip(logits, model.texts, strict=True)] == pytest.approx(model.log_p, abs=1e-2)


def test_half_of_the_texts_are_unlikely(model):
    assert sorted(model.unlikely) == [False] * 4 + [True] * 4
    for value, is_unlikely in zip(model.log_p, model.unlikely, strict=True):
        low, high = UNLIKELY if is_unlikely else LIKELY
        assert low <= value <= high


def test_all_texts_are_of_the_same_length(model):
    assert {len(ids) for ids in model.texts} == {TOKENS}


def test_it_continues_a_past_like_the_whole_text(model):
    ids = model.texts[0][None]
    rest = model.answer(TableQuestion(ids[:, 20:], ids[:, :20]))
    assert isinstance(rest, TableAnswer)
    assert np.array_equal(rest.logits, model.logits(ids)[:, 20:])


def test_every_grading_has_others(model):
    other = FatedModel(8, np.random.default_rng(4))
    assert not np.array_equal(model.texts, other.texts)
