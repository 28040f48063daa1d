"""Known mistakes are recognised: by the visible tests themselves, called with what each mistake leads to."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from src.errors import HomeworkError, PointsLost
from src.grading.part_test import Mistake, hint_of
from src.grading.sandbox.messages import Returned
from src.hw1.checks.base import GPT2Test
from src.hw1.checks.horizon import HorizonTest
from src.hw1.checks.likelihood import LikelihoodTest
from src.hw1.checks.sampling import SamplingTest
from src.hw1.checks.temperature import TemperatureTest
from src.hw1.dataset import NEURIPS, RANDOM, SHAKESPEARE
from src.hw1.hints import HINTS, collect
from src.hw1.hints.classifier import DECISION_MISTAKES, diagnose_decisions
from src.hw1.hints.horizon import HORIZON_MISTAKES, HorizonCase
from src.hw1.hints.likelihood import COMBINATIONS, LIKELIHOOD_MISTAKES, LikelihoodCase, diagnose_likelihood
from src.hw1.hints.sampling import (
    DRAW_MISTAKES,
    FEEDING_MISTAKES,
    SHAPE_MISTAKES,
    STALE_LOGITS,
    DrawsCase,
    diagnose_feeding,
    diagnose_shape,
)
from src.hw1.hints.temperature import SCALING_MISTAKES, TemperatureCase
from src.hw1.messages import FILTERED
from src.hw1.oracle import Asked, TableModel, log_likelihood, pair_probabilities, top_k
from src.hw1.parts import HOMEWORK
from staff.release import secret_lines


def hint_given(test_class: type[GPT2Test], method: str, answer: Callable[..., Any]) -> str | None:
    """The hint of a visible test when a student's function returns what `answer` does; None where all is right."""

    class Tried(test_class):
        def call(self, input, file, function, *arguments, answerer=None):
            value = answer(answerer, *arguments)
            kind = "tensor" if isinstance(value, np.ndarray) else "plain"
            return Returned(kind, "", value, requires_grad=False, model_changed=False, tensors=())

    try:
        getattr(Tried(method, SimpleNamespace(seed=0)), method)()
    except PointsLost as lost:
        return lost.hint
    return None


def variants(mistakes: tuple[Mistake, ...], choose: Callable[[str], bool] = lambda name: True) -> list[Any]:
    """Each variant of each mistake, as pytest takes it, if `choose` says so of its name."""
    return [
        pytest.param((mistake,), variant, id=f"{mistake.name} {i}")
        for mistake in mistakes
        for i, variant in enumerate(mistake.variants)
        if choose(f"{mistake.name} {i}")
    ]


# --- the collection ---


def test_no_hint_gives_a_line_of_the_answers_away():
    secrets = secret_lines(HOMEWORK)
    assert not [mistake.name for mistake in HINTS.values() if any(line in mistake.hint for line in secrets)]


def test_no_hint_is_a_part_of_another():
    """The audit tells by its text which hint was given."""
    hints = [mistake.hint for mistake in HINTS.values()]
    assert not [(a, b) for a in hints for b in hints if a != b and a in b]


def test_one_name_with_two_hints_is_an_error():
    modules = [SimpleNamespace(__name__=name, ONE=Mistake("one", hint)) for name, hint in (("a", "x"), ("b", "y"))]
    with pytest.raises(HomeworkError, match="b: 'one' has another hint"):
        collect(modules)


# --- sampling ---


def draw_first(model: TableModel, prompts: np.ndarray, k: int, variant: Callable[[DrawsCase], Any]) -> np.ndarray:
    """One token after each prompt, (B,), drawn as `variant` says."""
    distinct, row = np.unique(prompts, axis=0, return_inverse=True)
    logits = model.logits(distinct)[:, -1]
    rng, drawn = np.random.default_rng(0), np.zeros(len(prompts), int)
    for i in range(len(distinct)):
        p = np.asarray(variant(DrawsCase(logits[i], k, logits)), np.float64)
        drawn[row.reshape(-1) == i] = rng.choice(len(p), (row == i).sum(), p=p / p.sum())
    return drawn


@pytest.mark.parametrize(("mistakes", "variant"), variants(DRAW_MISTAKES))
def test_draws_are_recognised(mistakes, variant):
    def answer(model, reference, prompts, config, length):
        first = draw_first(model, prompts, config.top_k, variant)
        return np.column_stack((prompts, first, first))

    assert hint_given(SamplingTest, "test_draws", answer) == hint_of(mistakes)


def test_stale_logits_are_recognised():
    def answer(model, reference, prompts, config, length):
        rng, rows = np.random.default_rng(0), []
        for prompt in np.unique(prompts, axis=0):
            p = STALE_LOGITS.variants[0](SimpleNamespace(probabilities=pair_probabilities(model, prompt, config.top_k)))
            pairs = np.divmod(rng.choice(p.size, 5000, p=p.reshape(-1)), len(p))
            rows.append(np.column_stack((np.repeat(prompt[None], 5000, axis=0), *pairs)))
        return np.concatenate(rows if (rows[0][0, :3] == prompts[0]).all() else rows[::-1])

    assert hint_given(SamplingTest, "test_draws", answer) == STALE_LOGITS.hint


TEXT = np.array([[1, 2, 3], [4, 5, 6]])
FED = {
    "whole text and past": Asked(TEXT, TEXT[:, :-1]),
    "whole text": Asked(TEXT, None),
    "past dropped": Asked(TEXT[:, -1:], None),
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


# --- likelihood ---


# Constants of 1e-7 and less, and a limit of 1e-7: no token of the visible texts is so unlikely that they matter.
HARMLESS = {*(f"epsilon {i}" for i in range(6, 12)), "clamped 0"}
LIKELIHOODS = variants(LIKELIHOOD_MISTAKES, lambda name: name not in HARMLESS)


def likelihood_hint(variant: Callable[[LikelihoodCase], float]) -> str | None:
    def answer(model, reference, ids):
        return float(variant(LikelihoodCase(model.logits(ids)[0], ids[0])))

    return hint_given(LikelihoodTest, "test_table", answer)


@pytest.mark.parametrize(("mistakes", "variant"), [*LIKELIHOODS, *COMBINATIONS])
def test_likelihoods_are_recognised(mistakes, variant):
    assert likelihood_hint(variant) == hint_of(mistakes)


@pytest.mark.parametrize(("mistakes", "variant"), variants(LIKELIHOOD_MISTAKES, HARMLESS.__contains__))
def test_harmless_likelihoods_lose_nothing(mistakes, variant):
    assert likelihood_hint(variant) is None


def cases(*lengths: int) -> list[LikelihoodCase]:
    model, texts = TableModel(12, seed=5), [np.arange(1, n + 1) % 12 for n in lengths]
    return [LikelihoodCase(model.logits(ids[None])[0], ids) for ids in texts]


def test_right_likelihoods_are_not_taken_for_mistakes():
    right = [log_likelihood(case.logits, case.ids) for case in cases(4, 6)]
    assert diagnose_likelihood(right, cases(4, 6)) == ()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (lambda case: 1.00005 * case.right, "scaled"),  # hardly wrong: not an epsilon
        (lambda case: case.picked[2:].sum(), "part missing"),
        (lambda case: -3.0, "constant"),
    ],
)
def test_patterns_of_several_likelihoods_are_recognised(value, name):
    tried = cases(9, 60)
    (mistake,) = diagnose_likelihood([value(case) for case in tried], tried)
    assert mistake.name == name


def test_cross_entropy_as_pytorch_gives_it_is_recognised():
    (case,) = cases(5)
    value = torch.nn.functional.cross_entropy(torch.tensor(case.logits[:-1]), torch.tensor(case.ids[1:])).item()
    assert [mistake.name for mistake in diagnose_likelihood([value], [case])] == ["mean", "sign"]


# --- classifier ---

SHARES = {  # of random letters, plays and abstracts that are called random
    "always True": (1, 1, 1),
    "always False": (0, 0, 0),
    "inverted": (0, 1, 1),
    "plays random": (1, 0.9, 0),
    "too high": (1, 0.3, 0.1),
    "guessed": (0.5, 0.4, 0.6),
    "abstracts random": (0, 0.2, 0.9),
    "too low": (0.6, 0, 0),
}


@pytest.mark.parametrize("mistake", DECISION_MISTAKES, ids=lambda mistake: mistake.name)
def test_decisions_are_recognised(mistake):
    shares = dict(zip((RANDOM, SHAKESPEARE, NEURIPS), SHARES[mistake.name], strict=True))
    assert diagnose_decisions(shares) == (mistake,)


# --- temperature ---


@pytest.mark.parametrize(("mistakes", "variant"), variants(SCALING_MISTAKES))
def test_scaling_is_recognised(mistakes, variant):
    def answer(model, logits, reference, past, config, temperature, horizon):
        return variant(TemperatureCase(logits, temperature))

    assert hint_given(TemperatureTest, "test_scaling", answer) == hint_of(mistakes)


# Normalised over the candidates after the filter: a token that all candidates filter out gets 0 / 0, not a probability.
NO_DISTRIBUTION = {"over the batch 0"}


@pytest.mark.parametrize(("mistakes", "variant"), variants(HORIZON_MISTAKES, lambda name: name not in NO_DISTRIBUTION))
def test_horizon_2_is_recognised(mistakes, variant):
    def answer(model, logits, reference, past, config, temperature, horizon):
        first = top_k(model.logits(past.ids)[0, -1], config.top_k)
        candidates = np.flatnonzero(np.isfinite(first))
        longer = np.column_stack((np.repeat(past.ids, len(candidates), axis=0), candidates))
        second, alone = model.logits(longer)[:, -1], model.logits(candidates[:, None])[:, -1]
        got = np.full(logits.shape, FILTERED)
        got[0, candidates] = variant(
            HorizonCase(candidates, first[candidates], second, alone, config.top_k, temperature)
        )
        return got

    assert hint_given(HorizonTest, "test_horizon", answer) == hint_of(mistakes)
