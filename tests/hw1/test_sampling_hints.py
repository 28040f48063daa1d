"""Known mistakes in `sample` are recognised: by the visible test itself, called with what each mistake leads to."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from src.grading.part_test import hint_of
from src.hw1.checks.sampling import SamplingTest
from src.hw1.hints.sampling import (
    DRAW_MISTAKES,
    FEEDING_MISTAKES,
    SHAPE_MISTAKES,
    SHARPENED,
    STALE_LOGITS,
    DrawsCase,
    diagnose_feeding,
    diagnose_shape,
)
from src.hw1.oracle import Asked, log_softmax, top_k
from tests.hw1.test_hints import hint_given, variants


def draw(logits: np.ndarray, k: int, variant: Callable[[DrawsCase], Any], rng: np.random.Generator) -> np.ndarray:
    """One token after each text, (B,), drawn as `variant` says of the logits (B, V)."""
    distinct, row = np.unique(logits, axis=0, return_inverse=True)
    drawn, batch = np.zeros(len(logits), int), distinct if len(distinct) < 10 else None
    for i in range(len(distinct)):
        p = variant(DrawsCase(distinct[i], k, batch))
        p = np.exp(log_softmax(top_k(distinct[i], k))) if p is None else np.asarray(p, np.float64)
        drawn[row.reshape(-1) == i] = rng.choice(len(p), (row.reshape(-1) == i).sum(), p=p / p.sum())
    return drawn


def sampler(variant: Callable[[DrawsCase], Any], stale: bool = False) -> Callable[..., Any]:
    """A `sample` that draws as `variant` says; if `stale`, always from the logits after the prompt."""

    def answer(model, reference, prompts, config, length):
        rng, ids = np.random.default_rng(0), prompts
        for _ in range(length):
            logits = model.logits(prompts if stale else ids)[:, -1]
            ids = np.column_stack((ids, draw(logits, config.top_k, variant, rng)))
        return ids

    return answer


@pytest.mark.parametrize(("mistakes", "variant"), variants(DRAW_MISTAKES))
def test_draws_are_recognised(mistakes, variant):
    assert hint_given(SamplingTest, "test_draws", sampler(variant)) == hint_of(mistakes)


def right_draws(case: DrawsCase) -> np.ndarray:
    return np.exp(log_softmax(case.filtered))


def test_right_draws_are_not_rejected():
    assert hint_given(SamplingTest, "test_draws", sampler(right_draws)) is None


def test_stale_logits_are_recognised():
    assert hint_given(SamplingTest, "test_draws", sampler(right_draws, stale=True)) == STALE_LOGITS.hint


@pytest.mark.parametrize("power", [0.8, 0.93, 1.1, 1.3])
def test_a_power_of_the_probabilities_is_recognised(power):
    answer = sampler(lambda case: np.exp(log_softmax(case.filtered * power)))
    assert hint_given(SamplingTest, "test_draws", answer) == SHARPENED.hint


TEXT = np.array([[1, 2, 3], [4, 5, 6]])
FED = {
    "whole text and past": Asked(TEXT, TEXT[:, :-1]),
    "whole text": Asked(TEXT, None),
    "past dropped": Asked(TEXT[:, -1:], None),
    "window again": Asked(TEXT[:, 1:], TEXT[:, :1]),
    "not the new token": Asked(TEXT[:, -2:-1], TEXT[:, :-1]),
}


@pytest.mark.parametrize("mistake", FEEDING_MISTAKES, ids=lambda mistake: mistake.name)
def test_feeding_is_recognised(mistake):
    assert diagnose_feeding(FED[mistake.name], TEXT) == (mistake,)


def test_right_feeding_is_not_taken_for_a_mistake():
    assert diagnose_feeding(Asked(TEXT[:, -1:], TEXT[:, :-1]), TEXT) == ()


SHAPES = {
    "not appended": TEXT,
    "only new tokens": TEXT[::-1, :2],
    "wrong length": TEXT[:, [0, 1, 2, 2]],
    "one dimension": TEXT[0],
}


@pytest.mark.parametrize("mistake", SHAPE_MISTAKES, ids=lambda mistake: mistake.name)
def test_a_wrong_shape_is_recognised(mistake):
    assert diagnose_shape(SHAPES[mistake.name], TEXT, 2) == (mistake,)
