"""Known mistakes are recognised: by the visible tests themselves, called with what each mistake leads to."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from src.errors import HomeworkError, PointsLost
from src.grading.mistakes import collect
from src.grading.part_test import Mistake, Mistakes
from src.grading.sandbox.messages import Returned
from src.hw1.checks.base import GPT2Test
from src.hw1.checks.horizon import HorizonTest, cases_of
from src.hw1.checks.likelihood import LikelihoodTest
from src.hw1.checks.temperature import TemperatureTest, filtered_logits
from src.hw1.dataset import NEURIPS, RANDOM, SHAKESPEARE
from src.hw1.hints import HINTS
from src.hw1.hints import horizon as horizon_hints_module
from src.hw1.hints import temperature as temperature_hints
from src.hw1.hints.classifier import DECISION_MISTAKES, diagnose_decisions
from src.hw1.hints.compose import outcomes_of_all
from src.hw1.hints.horizon import OTHER_TEMPERATURE, HorizonCase, diagnose_horizon
from src.hw1.hints.likelihood import STAGES, LikelihoodCase, diagnose_likelihood
from src.hw1.hints.shared import FILTER_LOST
from src.hw1.hints.temperature import TemperatureCase, diagnose_scaling
from src.hw1.messages import FILTERED, LocalModel
from src.hw1.oracle import (
    LocalTableModel,
    TableModel,
    close,
    log_likelihood,
    same_distribution,
)
from src.hw1.parts import HOMEWORK
from staff.release import secret_lines


def hint_given(test_class: type[GPT2Test], method: str, answer: Callable[..., Any]) -> str | None:
    """The hint of a visible test when a student's function returns what `answer` does; None where all is right."""

    class Tried(test_class):
        def call(self, input, file, function, *arguments, answerer=None):
            reference = arguments[0]
            is_local = isinstance(reference, LocalModel)
            model = LocalTableModel(reference.vocab_size, reference.seed, reference.n_ctx) if is_local else answerer
            value = answer(model, *arguments)
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


# --- likelihood ---


def cases(*lengths: int) -> list[LikelihoodCase]:
    model, texts = TableModel(12, seed=1), [np.random.default_rng(n).integers(0, 12, n) for n in lengths]
    return [LikelihoodCase(ids, log_likelihood(model, ids), model.logits) for ids in texts]


TRIED = cases(4, 9, 30)
RIGHT = [case.right for case in TRIED]
with np.errstate(all="ignore"):
    OUTCOMES = [(mistakes, np.array(values)) for mistakes, values in outcomes_of_all(STAGES, TRIED)]
SINGLE = [outcome for outcome in OUTCOMES if len(outcome[0]) == 1]
PAIRS = [outcome for outcome in OUTCOMES if len(outcome[0]) == 2]


def is_harmless(values: np.ndarray) -> bool:
    """A constant of 1e-7 and less, or a limit of 1e-7: no token of the texts is so unlikely that it matters."""
    return all(map(close, values, RIGHT))


@pytest.mark.parametrize(
    ("mistakes", "values"), SINGLE, ids=[f"{mistake.name} {i}" for i, ((mistake,), _) in enumerate(SINGLE)]
)
def test_likelihoods_are_recognised(mistakes, values):
    assert diagnose_likelihood(values, TRIED) == (() if is_harmless(values) else mistakes)


def test_two_mistakes_together_are_recognised():
    """What is said are mistakes that were made, or one that leads to the same; and something is said of every pair."""
    tried = PAIRS[::9]
    given = [diagnose_likelihood(values, TRIED) for _, values in tried]
    for hints, (mistakes, values) in zip(given, tried, strict=True):
        equal = [m for m, v in SINGLE if np.allclose(v, values, rtol=1e-4, atol=1e-5)]
        assert set(hints) <= set(mistakes) or hints in equal, (hints, mistakes)
    harmful = [hints for hints, (_, values) in zip(given, tried, strict=True) if not is_harmless(values)]
    assert all(harmful)
    assert sum(len(hints) == 2 for hints in harmful) > 0.6 * len(
        harmful
    )  # others hide the second one: epsilon, clamped


@pytest.mark.parametrize(
    ("names", "factor"),
    [
        (("shifted", "mean"), 1),
        (("shifted", "wrong axis"), 1),
        (("shifted", "sign"), 1),
        (("no context", "mean"), 1),
        (("first not fed", "base 2"), 1),
        (("shifted", "mean", "sign"), 1),
        (("shifted", "scaled"), 0.5),
        (("wrong axis", "scaled"), 3),
    ],
)
def test_mistakes_that_are_made_together_are_said(names, factor):
    found = 0
    for mistakes, values in OUTCOMES:
        if {mistake.name for mistake in mistakes} == {*names} - {"scaled"}:
            hints = {mistake.name for mistake in diagnose_likelihood(factor * values, TRIED)}
            found += hints == {*names}
    assert found


def test_values_that_nothing_explains_get_no_hint():
    rng = np.random.default_rng(0)
    tried = [rng.normal(-2, 1, len(TRIED)) * [case.size for case in TRIED] for _ in range(200)]
    assert not any(diagnose_likelihood(values, TRIED) for values in tried)


def test_right_likelihoods_are_not_taken_for_mistakes():
    assert diagnose_likelihood(RIGHT, TRIED) == ()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (lambda case: 1.00005 * case.right, "scaled"),  # hardly wrong: not an epsilon
        (lambda case: case.right - log_likelihood(SimpleNamespace(logits=case.ask), case.ids[:3]), "part missing"),
        (lambda case: -3.0, "constant"),
        (lambda case: 0.0, "zero"),
        (lambda case: math.nan, "not a number"),
        (lambda case: -math.inf, "not a number"),
    ],
)
def test_patterns_of_several_likelihoods_are_recognised(value, name):
    tried = cases(9, 20, 60)
    (mistake,) = diagnose_likelihood([value(case) for case in tried], tried)
    assert mistake.name == name


def test_cross_entropy_as_pytorch_gives_it_is_recognised():
    values = []
    for case in TRIED:
        logits = torch.tensor(case.ask(case.ids[None])[0, :-1])
        values.append(torch.nn.functional.cross_entropy(logits, torch.tensor(case.ids[1:])).item())
    assert {mistake.name for mistake in diagnose_likelihood(values, TRIED)} == {"mean", "sign"}


@pytest.mark.parametrize(
    ("value", "name"),
    [(lambda case: -case.right, "sign"), (lambda case: None, "nothing")],
)
def test_the_test_of_likelihoods_gives_the_hint(value, name):
    def answer(model, reference, ids):
        return value(LikelihoodCase(ids[0], log_likelihood(model, ids[0]), model.logits))

    assert hint_given(LikelihoodTest, "test_table", answer) == HINTS[name].hint


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


def scaling_cases(temperatures=(0.95, 0.5, 2.0)) -> list[TemperatureCase]:
    logits = filtered_logits(TableModel(10, seed=3), np.array([[1, 2], [8, 3]]), 5)
    return [TemperatureCase(logits, temperature) for temperature in temperatures]


def horizon_cases(temperatures=(0.95, 0.6)) -> list[HorizonCase]:
    return cases_of(TableModel(12, seed=4), np.array([[2, 7, 1]]), 5, temperatures)


def scaling_hints(led_to: list[np.ndarray]) -> Mistakes:
    return diagnose_scaling([logits.astype(np.float32) for logits in led_to], scaling_cases())


def horizon_hints(led_to: list[np.ndarray]) -> Mistakes:
    got = []
    for case, of_candidates in zip(horizon_cases(), led_to, strict=True):
        logits = np.full(12, FILTERED, np.float32)
        logits[case.candidates] = of_candidates
        got.append(logits)
    return diagnose_horizon(got, horizon_cases())


def right_of(stages: Any, case: Any) -> np.ndarray:
    value = None
    for ways in stages:
        value = ways[0].step(case, value)
    return value


def composed(stages: Any, cases: list[Any]) -> tuple[list[Any], list[np.ndarray]]:
    """What one and two mistakes lead to, where that is a distribution and a wrong one; and what is right."""
    right = [right_of(stages, case) for case in cases]
    with np.errstate(all="ignore"):
        everything = list(outcomes_of_all(stages, cases))
    usable = [(m, values) for m, values in everything if np.isfinite(values).all()]
    return [(m, values) for m, values in usable if not all(map(same_distribution, values, right))], right


COMPOSED = {
    "horizon 1": (composed(temperature_hints.STAGES, scaling_cases()), scaling_hints),
    "horizon 2": (composed(horizon_hints_module.STAGES, horizon_cases()), horizon_hints),
}


@pytest.mark.parametrize("horizon", COMPOSED)
def test_each_scaling_mistake_is_recognised(horizon):
    (outcomes, _), diagnose = COMPOSED[horizon]
    single = [(mistakes, values) for mistakes, values in outcomes if len(mistakes) == 1]
    for mistakes, values in single:
        equal = [m for m, v in single if all(map(same_distribution, values, v))]
        assert diagnose(values) in equal, mistakes


@pytest.mark.parametrize("horizon", COMPOSED)
def test_two_scaling_mistakes_are_recognised(horizon):
    (outcomes, _), diagnose = COMPOSED[horizon]
    pairs = [outcome for outcome in outcomes if len(outcome[0]) == 2][::3]
    without = 0
    for mistakes, values in pairs:
        hints = diagnose(values)
        simpler = [m for m, v in outcomes if len(m) == 1 and all(map(same_distribution, values, v))]
        assert set(hints) <= {*mistakes, FILTER_LOST} or hints in simpler, (hints, mistakes)
        without += not hints
    assert without < 0.1 * len(pairs)


def test_a_mistake_must_explain_all_temperatures():
    """At the first temperature it looks multiplied; at the second, nothing fits."""
    wrong = [case.filtered * factor for case, factor in zip(scaling_cases(), (0.95, 0.7, 0.5), strict=True)]
    assert [mistake.name for mistake in scaling_hints(wrong)] == ["other divisor"]


def test_another_temperature_of_the_joint_is_recognised():
    others = horizon_cases((0.85, 0.7))
    assert horizon_hints([case.right for case in others]) == (OTHER_TEMPERATURE,)


def test_arbitrary_logits_get_no_hint_of_horizon_2():
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert horizon_hints([rng.normal(0, 1, 5) for _ in range(2)]) == ()


@pytest.mark.parametrize(("test_class", "method"), [(TemperatureTest, "test_scaling"), (HorizonTest, "test_horizon")])
@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (lambda logits: None, "nothing"),
        (lambda logits: logits * np.nan, "not a number"),
        (lambda logits: -logits, "negated"),
        (lambda logits: logits[0], "wrong shape"),
    ],
)
def test_the_tests_of_temperatures_give_the_hint(test_class, method, answer, name):
    if (name, method) != ("negated", "test_horizon"):  # this is more than one mistake there
        hint = hint_given(test_class, method, lambda model, logits, *_: answer(logits))
        assert hint == HINTS[name].hint
