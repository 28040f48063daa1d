"""What can go wrong in problems 1 to 5, and the value to which each mistake leads."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.grading.derivations import diagnose_values
from src.grading.part_test import Mistake, Mistakes
from src.hw1.oracle import Floats


def through(mistakes: Mistakes, function: Callable[[Floats], Any]) -> Mistakes:
    """The same mistakes, compared after `function`: where many results are right."""

    def composed(variant: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda case: function(np.asarray(variant(case), dtype=np.float64))

    return [mistake.with_variants(*map(composed, mistake.variants)) for mistake in mistakes]


# --- problem 1 ---


@dataclass(frozen=True)
class Tables:
    """The data and a classifier."""

    p_hat: Floats  # (X, Y)
    p_theta: Floats  # (X, Y)

    @property
    def inputs(self) -> Floats:
        """p̂(x), (X, 1)."""
        return np.asarray(self.p_hat.sum(axis=1, keepdims=True))


def _entropy(p: Floats) -> float:
    return float(-(p * np.log(p)).sum())


UNWEIGHTED_PAIRS = Mistake(
    "unweighted pairs",
    "every pair (x, y) counts equally here; an expectation over p̂(x, y) weighs each with its probability",
    (lambda c: np.log(c.p_theta).mean(), lambda c: np.log(c.p_theta).sum()),
)
OVER_THE_MODEL = Mistake(
    "expectation over the model",
    "y is drawn from the classifier here; in the data's expectation, it comes from p̂",
    (lambda c: (c.inputs * c.p_theta * np.log(c.p_theta)).sum(),),
)
NEGATIVE_LIKELIHOOD = Mistake(
    "negative log-likelihood",
    "the sign of the first objective is flipped: it is the log-likelihood, which is maximised",
    (lambda c: -(c.p_hat * np.log(c.p_theta)).sum(),),
)
LIKELIHOOD_MISTAKES = (UNWEIGHTED_PAIRS, OVER_THE_MODEL, NEGATIVE_LIKELIHOOD)


def _conditional(c: Tables) -> Floats:
    return np.asarray(c.p_hat / c.inputs, dtype=np.float64)


DIVERGENCE_MISTAKES = (
    Mistake(
        "joint in the divergence",
        "inside the divergence stands p̂(y | x), a distribution over y; the joint p̂(x, y) is not one for fixed x",
        (lambda c: (c.p_hat * np.log(c.p_hat / c.p_theta)).sum(),),
    ),
    Mistake(
        "inputs unweighted",
        "every x counts equally here; the expectation over p̂(x) weighs each x with its probability",
        (
            lambda c: (_conditional(c) * np.log(_conditional(c) / c.p_theta)).sum(),
            lambda c: (_conditional(c) * np.log(_conditional(c) / c.p_theta)).sum(axis=1).mean(),
        ),
    ),
    Mistake(
        "reversed divergence",
        "this is the divergence in the other direction; in KL(p ‖ q), the expectation is taken over p",
        (lambda c: (c.inputs * c.p_theta * np.log(c.p_theta / _conditional(c))).sum(),),
    ),
    Mistake(
        "cross-entropy",
        "this is the cross-entropy; the divergence also has the term with log p̂(y | x)",
        (lambda c: -(c.p_hat * np.log(c.p_theta)).sum(),),
    ),
    Mistake(
        "negative divergence",
        "a divergence is never negative; which of the two logarithms is subtracted?",
        (lambda c: -(c.p_hat * np.log(_conditional(c) / c.p_theta)).sum(),),
    ),
)


def diagnose_objectives(got: Sequence[Floats], right: Sequence[Floats], cases: Sequence[Tables]) -> Mistakes:
    """The mistakes behind the first and the second number."""
    found: list[Mistake] = []
    for i, mistakes in enumerate((LIKELIHOOD_MISTAKES, DIVERGENCE_MISTAKES)):
        found += diagnose_values([g[i] for g in got], [r[i] for r in right], cases, mistakes)
    return found


SUM_MISTAKES = (
    Mistake(
        "max for argmax",
        "the objectives are not each other's negative: the largest value of one is not the smallest of the other, only "
        "the θ is the same. By what do they differ?",
        (lambda c: 0.0,),
    ),
    Mistake(
        "entropy sign",
        "the sign is flipped: is this sum an entropy, or its negative?",
        (lambda c: -(c.p_hat * np.log(_conditional(c))).sum(),),
    ),
    Mistake(
        "joint entropy",
        "this belongs to p̂(x, y); expand the KL divergence, in which p̂(y | x) stands",
        (lambda c: _entropy(c.p_hat), lambda c: -_entropy(c.p_hat)),
    ),
    Mistake(
        "marginal entropy",
        "this belongs to a marginal, p̂(y) or p̂(x); expand the KL divergence, in which p̂(y | x) stands",
        tuple(
            (lambda c, axis=axis, sign=sign: sign * _entropy(c.p_hat.sum(axis=axis)))
            for axis in (0, 1) for sign in (1, -1)
        ),
    ),
    Mistake(
        "inputs unweighted",
        "every x counts equally here; the expectation over p̂(x) weighs each x with its probability",
        tuple(
            (lambda c, sign=sign, share=share: sign * _entropy(_conditional(c)) / (len(c.p_hat) if share else 1))
            for sign in (1, -1) for share in (True, False)
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Classifiers:
    """The log-likelihoods of several, and the sum of both objectives."""

    likelihoods: Floats  # (N,)
    both: float


MINIMIZER_MISTAKES = (
    Mistake(
        "argmin split",
        "the argmin of a difference is not the difference of argmins: an argmin is a place, not a value. Which term "
        "does not depend on θ, and may be dropped?",
        (lambda c: -c.likelihoods.argmin(),),
    ),
    Mistake(
        "largest divergence",
        "this classifier is the least likely one; how does the divergence change when the likelihood grows?",
        (lambda c: c.likelihoods.argmin(),),
    ),
    Mistake(
        "value for place",
        "this is a value of an objective, max or min; asked is where it is taken, argmax or argmin",
        (
            lambda c: c.likelihoods.max(),
            lambda c: c.both - c.likelihoods.max(),
            lambda c: c.likelihoods.min(),
        ),
    ),
)

# --- problem 2 ---


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians and a point; `right` are the log-densities of the point and each component."""

    x: Floats  # (n,)
    pi: Floats  # (k,)
    mu: Floats  # (k, n)
    sigma: float
    right: Floats  # (k,)

    @property
    def squares(self) -> Floats:
        """‖x - μ_y‖², (k,)."""
        return np.asarray(((self.x - self.mu) ** 2).sum(axis=1))

    @property
    def norms(self) -> Floats:
        """‖μ_y‖², (k,)."""
        return np.asarray((self.mu**2).sum(axis=1))


WEIGHT_IN_THE_BRACKET = Mistake(
    "weight in the bracket",
    "log π_y stands inside the bracket with the factor -1/(2σ²); it belongs outside of it, beside the exponent",
)
WEIGHT_MISSING = Mistake("weight missing", "log π_y is missing: p(x, y) is p(y) times p(x | y)")
JOINT_MISTAKES = (
    Mistake(
        "one-dimensional constant",
        "the constant is that of one dimension, (2πσ²)^(-1/2); x has n of them",
        (lambda c: c.right + (len(c.x) - 1) / 2 * math.log(2 * math.pi * c.sigma**2),),
    ),
    WEIGHT_MISSING.with_variants(
        lambda c: c.right - np.log(c.pi),
        lambda c: c.right - np.log(c.pi) + (len(c.x) - 1) / 2 * math.log(2 * math.pi * c.sigma**2),
    ),
    WEIGHT_IN_THE_BRACKET.with_variants(
        lambda c: c.right - np.log(c.pi) - np.log(c.pi) / (2 * c.sigma**2),
        lambda c: c.right - np.log(c.pi) + np.log(c.pi) / (2 * c.sigma**2),
    ),
    Mistake(
        "constants dropped",
        "the constant in front of the exponential is missing; it cancels in p(y | x), but belongs to p(x, y)",
        (
            lambda c: c.right + len(c.x) / 2 * math.log(2 * math.pi * c.sigma**2),
            lambda c: c.right + len(c.x) / 2 * math.log(2 * math.pi),
            lambda c: c.right + len(c.x) / 2 * math.log(c.sigma**2),
            lambda c: c.right + len(c.x) / 2 * math.log(c.sigma),
        ),
    ),
    Mistake(
        "sign of the square",
        "the sign of the square is flipped: a density falls with the distance from the mean",
        (lambda c: c.right + c.squares / c.sigma**2,),
    ),
    Mistake(
        "half missing",
        "the factor ½ of the exponent is missing",
        (lambda c: c.right - c.squares / (2 * c.sigma**2),),
    ),
    Mistake(
        "sigma not squared",
        "this divides by σ where the variance σ² belongs",
        (lambda c: c.right + c.squares / (2 * c.sigma**2) - c.squares / (2 * c.sigma),),
    ),
    Mistake(
        "weight not logged",
        "π_y is added as it is; the logarithm of a product has log π_y",
        (lambda c: c.right - np.log(c.pi) + c.pi,),
    ),
)


@dataclass(frozen=True)
class Weighted:
    """Prior weights, and what each is multiplied with."""

    prior: Floats  # (k,)
    density: Floats  # (k,)


NOT_NORMALISED = Mistake(
    "not normalised",
    "these do not sum to 1: divide by p(x), the sum over all components",
    (lambda c: c.prior * c.density,),
)
POSTERIOR_MISTAKES = (
    Mistake(
        "weight missing below",
        "π_i is missing in the denominator: p(x) is the sum of all π_i p(x | i)",
        (lambda c: c.prior * c.density / c.density.sum(),),
    ),
    Mistake(
        "weights missing",
        "the weights π are missing: Bayes' rule multiplies each density with the prior probability of its component",
        (lambda c: c.density / c.density.sum(), lambda c: c.density),
    ),
    NOT_NORMALISED,
    Mistake(
        "weight missing above",
        "π_y is missing in the numerator",
        (lambda c: c.density / (c.prior * c.density).sum(),),
    ),
)


def _logistic(w: Callable[[Mixture], Any], b: Callable[[Mixture], Any]) -> Callable[[Mixture], Floats]:
    """Parameters with this weight and this bias, (k, n + 1)."""
    return lambda c: np.column_stack((np.broadcast_to(w(c), c.mu.shape), b(c)))


# What is compared are the probabilities that the parameters lead to: many parameters are right.
LOGISTIC_MISTAKES = (
    WEIGHT_IN_THE_BRACKET.with_variants(
        _logistic(lambda c: c.mu / c.sigma**2, lambda c: -(np.log(c.pi) + c.norms) / (2 * c.sigma**2)),
        _logistic(lambda c: c.mu / c.sigma**2, lambda c: (np.log(c.pi) - c.norms) / (2 * c.sigma**2)),
    ),
    Mistake(
        "sign of the bias",
        "the sign of ‖μ_y‖² is flipped; expand ‖x - μ_y‖² once more",
        (_logistic(lambda c: c.mu / c.sigma**2, lambda c: np.log(c.pi) + c.norms / (2 * c.sigma**2)),),
    ),
    Mistake(
        "sign of the weights",
        "the sign of w_y is flipped: a point near μ_y must make y likelier",
        (_logistic(lambda c: -c.mu / c.sigma**2, lambda c: np.log(c.pi) - c.norms / (2 * c.sigma**2)),),
    ),
    WEIGHT_MISSING.with_variants(_logistic(lambda c: c.mu / c.sigma**2, lambda c: -c.norms / (2 * c.sigma**2))),
    Mistake(
        "weight not logged",
        "π_y is added as it is; the logarithm of a product has log π_y",
        (_logistic(lambda c: c.mu / c.sigma**2, lambda c: c.pi - c.norms / (2 * c.sigma**2)),),
    ),
    Mistake(
        "square missing",
        "the part of ‖x - μ_y‖² that does not depend on x is missing in b_y",
        (_logistic(lambda c: c.mu / c.sigma**2, lambda c: np.log(c.pi)),),
    ),
    Mistake(
        "half missing",
        "the factor ½ of the exponent is missing",
        (
            _logistic(lambda c: c.mu / c.sigma**2, lambda c: np.log(c.pi) - c.norms / c.sigma**2),
            _logistic(lambda c: 2 * c.mu / c.sigma**2, lambda c: np.log(c.pi) - c.norms / c.sigma**2),
            _logistic(lambda c: 2 * c.mu / c.sigma**2, lambda c: np.log(c.pi) - c.norms / (2 * c.sigma**2)),
        ),
    ),
    Mistake(
        "cross term halved",
        "‖x - μ_y‖² has the term x·μ_y twice",
        (_logistic(lambda c: c.mu / (2 * c.sigma**2), lambda c: np.log(c.pi) - c.norms / (2 * c.sigma**2)),),
    ),
    Mistake(
        "sigma not squared",
        "this divides by σ where the variance σ² belongs",
        (
            _logistic(lambda c: c.mu / c.sigma, lambda c: np.log(c.pi) - c.norms / (2 * c.sigma)),
            _logistic(lambda c: c.mu / c.sigma, lambda c: np.log(c.pi) - c.norms / (2 * c.sigma**2)),
        ),
    ),
)
