"""Mistakes in EWC's penalty, 5c."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw10.small_classifier import Floats

Tensors = list[Floats]  # one for each of the parameters


@dataclass(frozen=True)
class PenaltyCase:
    """Parameters, what they were, and the Fisher information."""

    parameters: Tensors
    anchors: Tensors
    fisher: Tensors

    def terms(self, function: Callable[[Floats, Floats, Floats], Floats]) -> Tensors:
        """A function of θ, θ* and F, for each tensor."""
        given = zip(self.parameters, self.anchors, self.fisher, strict=True)
        return [np.asarray(function(*each)) for each in given]

    def sum(self, function: Callable[[Floats, Floats, Floats], Floats]) -> float:
        """The sum of all entries of `terms`."""
        return float(sum(each.sum() for each in self.terms(function)))


def _term(theta: Floats, anchor: Floats, fisher: Floats) -> Floats:
    return np.asarray(fisher * (theta - anchor) ** 2)


def _counts(case: PenaltyCase) -> list[int]:
    return [each.size for each in case.fisher]


# Each variant leads to twice the penalty, if the factor ½ is right.
PENALTIES = (
    Mistake(
        "mean for the sum",
        "this is a mean; the penalty is a sum over all entries, however many there are",
        (
            lambda case: case.sum(_term) / sum(_counts(case)),
            lambda case: sum(each.mean() for each in case.terms(_term)),
            lambda case: sum(each.mean() for each in case.terms(_term)) / len(case.fisher),
            lambda case: case.sum(_term) / len(case.fisher),
        ),
    ),
    Mistake(
        "distance not squared",
        "the distance from the anchor must be squared; here it is taken as it is, or to another power",
        (
            lambda case: case.sum(lambda p, a, f: f * np.abs(p - a)),
            lambda case: case.sum(lambda p, a, f: f * (p - a)),
            lambda case: case.sum(lambda p, a, f: f * (a - p)),
            lambda case: case.sum(lambda p, a, f: f * (p - a) ** 3),
            lambda case: case.sum(lambda p, a, f: f * (p - a) ** 4),
            lambda case: case.sum(lambda p, a, f: f / (p - a) ** 2),
            lambda case: case.sum(lambda p, a, f: f),
        ),
    ),
    Mistake(
        "one tensor",
        "only one of the tensors counts; the sum runs over all of them, so does the loop add up, and run to its end?",
        (lambda case: case.terms(_term)[0].sum(), lambda case: case.terms(_term)[-1].sum()),
    ),
    Mistake(
        "Fisher unused",
        "the Fisher information plays no part in this, so all parameters are held equally tight",
        (lambda case: case.sum(lambda p, a, f: (p - a) ** 2),),
    ),
    Mistake(
        "other power of Fisher",
        "F must appear as it is: it has been squared, rooted or divided by here",
        (
            lambda case: case.sum(lambda p, a, f: f**2 * (p - a) ** 2),
            lambda case: case.sum(lambda p, a, f: np.sqrt(f) * (p - a) ** 2),
            lambda case: case.sum(lambda p, a, f: (p - a) ** 2 / f),
        ),
    ),
    Mistake(
        "anchors unused",
        "this pulls the parameters to 0; the penalty is about their distance from the anchors",
        (lambda case: case.sum(lambda p, a, f: f * p**2),),
    ),
    Mistake(
        "difference of squares",
        "θ² - θ*² is not (θ - θ*)²: take the difference first",
        (lambda case: case.sum(lambda p, a, f: f * (p**2 - a**2)),),
    ),
    Mistake(
        "root of the sum",
        "a square root was taken, as in a norm; the penalty is the sum of squares itself",
        (
            lambda case: np.sqrt(case.sum(_term)),
            lambda case: sum(np.sqrt(each.sum()) for each in case.terms(_term)),
        ),
    ),
    Mistake(
        "other reduction",
        "this is something else than the sum of all entries: their largest, smallest or product, for example",
        (
            lambda case: sum(each.max() for each in case.terms(_term)),
            lambda case: sum(each.min() for each in case.terms(_term)),
            lambda case: sum(each.prod() for each in case.terms(_term)),
            lambda case: sum(np.sort(each, axis=None)[(each.size - 1) // 2] for each in case.terms(_term)),  # median
            lambda case: sum(each.std(ddof=1) if each.size > 1 else math.nan for each in case.terms(_term)),
        ),
    ),
    Mistake(
        "not a product",
        "F is not multiplied with the squared distance here",
        (
            lambda case: case.sum(lambda p, a, f: f + (p - a) ** 2),
            lambda case: case.sum(lambda p, a, f: f - (p - a) ** 2),
        ),
    ),
    Mistake(
        "no distance",
        "this has the product or the sum of θ and θ* where their difference belongs",
        (
            lambda case: case.sum(lambda p, a, f: f * (p * a) ** 2),
            lambda case: case.sum(lambda p, a, f: f * (p + a) ** 2),
        ),
    ),
    Mistake(
        "lists mixed up",
        "the lists are mixed up: parameters, anchors and Fisher information come in this order",
        (
            lambda case: case.sum(lambda p, a, f: p * (f - a) ** 2),
            lambda case: case.sum(lambda p, a, f: a * (p - f) ** 2),
            lambda case: case.sum(lambda p, a, f: f * (p - f) ** 2),
            lambda case: case.sum(lambda p, a, f: p * (p - a) ** 2),
            lambda case: case.sum(lambda p, a, f: a * (p - a) ** 2),
        ),
    ),
    Mistake(
        "penalty below zero",
        "the sign is flipped: this would reward forgetting",
        (lambda case: -case.sum(_term),),
    ),
)
HALF = Mistake(
    "factor one half",
    "the factor ½ is missing, or is there twice; it belongs to the penalty once, and λ is the caller's",
)
SCALED_PENALTY = Mistake(
    "penalty scaled", "the value is always the same multiple of what it should be; where does the factor come from?"
)
# What the values have in common, where no other mistake explains them.
NO_PENALTY = Mistake("no penalty", "the penalty is 0; is something subtracted from itself?")
INFINITE_PENALTY = Mistake("infinite penalty", "the penalty is NaN or infinite; is something divided by 0?")
SHIFTED_PENALTY = Mistake(
    "penalty shifted", "the same number is added to the value each time; where does it come from?"
)
INVERTED = Mistake("inverted", "the penalty is in the denominator; what is divided by what?")
NO_GRADIENT_OF_PENALTY = Mistake(
    "penalty without gradient",
    "no gradient flows through the penalty, so it would change nothing in training; no `.item()`, `.detach()`, `.data` "
    "or `torch.no_grad()` on the way from the parameters",
)
GRADIENT_PARTLY_CUT = Mistake(
    "gradient partly cut",
    "the value is right, but not its gradient: it is cut off from some of the parameters, or from one of two factors",
)
NOT_SUMMED = Mistake(
    "penalty not summed", "there is a number for each entry; add up all of them to a scalar, over all tensors"
)
ARGUMENTS_CHANGED = Mistake(
    "arguments changed",
    "this call has changed the parameters, the anchors or the Fisher information; the next step needs them unchanged",
)


def right_penalty(case: PenaltyCase) -> float:
    """The penalty, by its definition."""
    return case.sum(_term) / 2


def right_gradients(case: PenaltyCase) -> Tensors:
    """F (θ - θ*), the penalty's derivatives by the parameters."""
    return case.terms(lambda p, a, f: f * (p - a))


@np.errstate(all="ignore")
def diagnose_penalty(got: Sequence[float], cases: Sequence[PenaltyCase]) -> Mistakes:
    """The mistakes that explain all values `got`, one a case; empty if they are right, or nothing known fits."""
    right = [right_penalty(case) for case in cases]
    if _same(got, right):
        return ()
    for wrong in (2.0, 0.5):
        if _same(got, [wrong * value for value in right]):
            return (HALF,)
    for mistake in PENALTIES:
        for variant in mistake.variants:
            doubled = np.array([float(variant(case)) for case in cases])
            if _same(got, doubled / 2):
                return (mistake,)
            if _same(got, doubled):
                return (mistake, HALF)
    return _in_common(np.array(got), np.array(right), cases)


def _in_common(got: Floats, right: Floats, cases: Sequence[PenaltyCase]) -> Mistakes:
    if not np.isfinite(got).all():
        return (INFINITE_PENALTY,)
    if not got.any():
        return (NO_PENALTY,)
    if len(got) < 2:
        return ()
    if np.ptp(got - right) < 1e-5 * right.max():
        return (SHIFTED_PENALTY,)
    for values, mistake in ((got / right, SCALED_PENALTY), (got * right, INVERTED)):
        if _same(values, values[:1]):
            return (mistake,)
    for mistake in PENALTIES if len(got) > 2 else ():  # two values have the same ratio by accident now and then
        for variant in mistake.variants:
            factors = got / [float(variant(case)) for case in cases]
            if _same(factors, factors[:1]):
                return (mistake, SCALED_PENALTY)
    return ()


def _same(got: Sequence[float] | Floats, expected: Sequence[float] | Floats) -> bool:
    """Whether these are the same numbers; float32 sums of so few terms are off by 1e-6."""
    return bool(np.allclose(got, expected, rtol=1e-4, atol=0))
