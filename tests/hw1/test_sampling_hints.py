"""Known mistakes in `sample` are recognised: by the visible test itself, called with what each mistake leads to."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from src.grading.part_test import hint_of
from src.hw1.checks.base import GPT2Test
from src.hw1.checks.sampling import SamplingTest, check_draws
from src.hw1.hints.sampling import (
    DRAW_MISTAKES,
    FEEDING_MISTAKES,
    SHAPE_MISTAKES,
    SHARPENED,
    STALE_LOGITS,
    TOO_OFTEN,
    TOO_RARELY,
    UNFILTERED,
    DrawsCase,
    diagnose_feeding,
    diagnose_shape,
)
from src.hw1.oracle import Asked, log_softmax
from src.hw1.trials import trials
from tests.hw1.test_hints import hint_given, variants


def draw(logits: np.ndarray, k: int, variant: Callable[[DrawsCase], Any], rng: np.random.Generator) -> np.ndarray:
    """One token after each text, (B,), drawn as `variant` says of the logits (B, V)."""
    cdf = variant(DrawsCase(logits[:, None], k))[:, 0].cumsum(axis=-1)
    return np.minimum((rng.random((len(logits), 1)) * cdf[:, -1:] >= cdf).sum(axis=-1), logits.shape[-1] - 1)


def sampler(variant: Callable[[DrawsCase], Any], stale: bool = False) -> Callable[..., Any]:
    """A `sample` that draws as `variant` says; if `stale`, always from the logits after the prompt."""

    rng = np.random.default_rng(0)

    def answer(model, reference, prompts, config, length):
        ids = prompts
        for _ in range(length):
            logits = model.logits(prompts if stale else ids)[:, -1]
            ids = np.column_stack((ids, draw(logits, config.top_k, variant, rng)))
        return ids

    return answer


@pytest.mark.parametrize(("mistakes", "variant"), variants(DRAW_MISTAKES))
def test_draws_are_recognised(mistakes, variant):
    assert hint_given(SamplingTest, "test_draws", sampler(variant)) == hint_of(mistakes)


class AloneTest(GPT2Test):
    """What the hidden tests ask of single prompts."""

    def test_draws(self) -> None:
        check_draws(self, trials(self.rng, alone=True))


@pytest.mark.parametrize("power", [1 / 0.96, 1 / 1.04, 1 / 0.95, 2.0])
def test_a_power_is_recognised_in_single_prompts(power):
    answer = sampler(lambda case: np.exp(log_softmax(case.filtered * power)))
    assert hint_given(AloneTest, "test_draws", answer) == SHARPENED.hint


def shifted(offset: float, case: DrawsCase) -> np.ndarray:
    """Token 2 is drawn more or less often, wherever it passes the filter."""
    p = right_draws(case)
    p[..., 2] = np.where(p[..., 2] > 0, np.maximum(p[..., 2] + offset, 0), 0)
    return p


@pytest.mark.parametrize("test_class", [SamplingTest, AloneTest])
@pytest.mark.parametrize(("offset", "mistake"), [(0.03, TOO_OFTEN), (0.3, TOO_OFTEN), (-0.03, TOO_RARELY)])
def test_one_wrong_token_is_recognised(test_class, offset, mistake):
    assert hint_given(test_class, "test_draws", sampler(partial(shifted, offset))) == mistake.hint


def guarded(case: DrawsCase) -> np.ndarray:
    return right_draws(case) + 2e-5


@pytest.mark.parametrize("test_class", [SamplingTest, AloneTest])
def test_a_guard_is_recognised(test_class):
    """It shows in few draws, most of which look right."""
    assert hint_given(test_class, "test_draws", sampler(guarded)) == UNFILTERED.hint


def test_unknown_draws_get_no_hint():
    """The likely tokens are drawn as rarely as the unlikely ones should be, which is not uniform."""

    def inverted(case: DrawsCase) -> np.ndarray:
        return np.where(case.kept, 1 / right_draws(case).clip(1e-9), 0)

    assert hint_given(SamplingTest, "test_draws", sampler(inverted)) == ""


def shuffled(case: DrawsCase) -> np.ndarray:
    return np.roll(right_draws(case), 5, axis=-1)


def test_other_tokens_are_not_taken_for_uniform_draws():
    """Over many contexts, all ranks are drawn equally often; after one prompt, some tokens are drawn far more often."""
    assert hint_given(SamplingTest, "test_draws", sampler(shuffled)) == UNFILTERED.hint


def test_a_double_softmax_is_not_taken_for_uniform_draws_alone():
    (mistake,) = [mistake for mistake in DRAW_MISTAKES if mistake.name == "double softmax"]
    assert hint_given(AloneTest, "test_draws", sampler(mistake.variants[0])) == mistake.hint


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


def test_a_new_token_may_be_the_first_of_the_prompt():
    assert [mistake.name for mistake in diagnose_shape(np.array([[1, 7, 8]]), TEXT[:1], 3)] == ["only new tokens"]
