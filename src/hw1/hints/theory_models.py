"""What can go wrong in problems 3 to 5, and the value to which each mistake leads, or how it shows."""

import math
from dataclasses import dataclass

import numpy as np

from src.grading.part_test import Mistake
from src.hw1.hints.theory import NOT_NORMALISED
from src.hw1.oracle import Floats

# --- problem 3 ---


@dataclass(frozen=True)
class Network:
    """A Bayesian network in which each variable depends on its m predecessors, and its counted parameters."""

    k: tuple[int, ...]
    m: int
    right: int

    def windows(self, first: int, last: int) -> int:
        """The sum over i > m, counted from 0, of (k_i - 1) times the product of k[i + first : i + last]."""
        n = len(self.k)
        return sum((self.k[i] - 1) * math.prod(self.k[max(0, i + first) : max(0, i + last)]) for i in range(self.m, n))

    @property
    def begin(self) -> int:
        """What the first m variables need: the right number without the rest."""
        return self.right - self.windows(-self.m, 0)


NORMALISATION = Mistake(
    "normalisation forgotten",
    "one too many: the probabilities of a table sum to 1, so the last one follows from the others",
    (lambda c: c.right + 1,),
)
COUNT_MISTAKES = (
    NORMALISATION,
    Mistake(
        "as if independent",
        "this is the number for independent variables; here any outcome may depend on any other",
        (lambda c: sum(k - 1 for k in c.k),),
    ),
    Mistake(
        "sum of outcomes",
        "the outcomes are added; how many combinations of outcomes are there?",
        (lambda c: sum(c.k), lambda c: sum(c.k) - 1),
    ),
    Mistake(
        "product of free outcomes",
        "this takes 1 off each variable; the probabilities of all combinations sum to 1, which is one condition",
        (lambda c: math.prod(k - 1 for k in c.k),),
    ),
)
NETWORK_MISTAKES = (
    Mistake(
        "contexts forgotten",
        "a variable with parents has a distribution for each combination of their outcomes, not one alone",
        (lambda c: c.begin + sum(k - 1 for k in c.k[c.m :]), lambda c: sum(k - 1 for k in c.k)),
    ),
    NORMALISATION,
    Mistake(
        "one condition for all contexts",
        "the distribution of X_i sums to 1 in each context; so 1 is taken off k_i, not off the whole product",
        (
            lambda c: c.begin + sum(math.prod(c.k[i - c.m : i + 1]) - 1 for i in range(c.m, len(c.k))),
            lambda c: c.begin + sum(math.prod(c.k[i - c.m : i + 1]) for i in range(c.m, len(c.k))),
        ),
    ),
    Mistake(
        "window too short",
        "the window is too short: X_i depends on the m variables before it, from i - m to i - 1",
        (lambda c: c.begin + c.windows(1 - c.m, 0), lambda c: c.begin + c.windows(-c.m, -1)),
    ),
    Mistake(
        "window shifted",
        "the window holds X_i itself; it depends on the m variables before it, from i - m to i - 1",
        (lambda c: c.begin + c.windows(1 - c.m, 1), lambda c: c.begin + c.windows(-c.m, 1)),
    ),
    Mistake(
        "window too long",
        "the window is too long: X_i depends on the m variables before it, from i - m to i - 1",
        (lambda c: c.begin + c.windows(-c.m - 1, 0),),
    ),
    Mistake(
        "all predecessors",
        "this is the number without any independence; given the m variables before it, X_i needs no earlier ones",
        (lambda c: math.prod(c.k) - 1, lambda c: math.prod(c.k)),
    ),
    Mistake(
        "same window for all",
        "the outcomes of the first m variables are counted for every X_i; its window moves with i",
        (lambda c: c.begin + sum(k - 1 for k in c.k[c.m :]) * math.prod(c.k[: c.m]),),
    ),
    Mistake("first variables forgotten", "the first m variables have parameters, too", (lambda c: c.windows(-c.m, 0),)),
    Mistake(
        "first variables independent",
        "among the first m variables, no independence is assumed",
        (lambda c: sum(k - 1 for k in c.k[: c.m]) + c.windows(-c.m, 0),),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Parents:
    """A student's matrix of parents, (n, n)."""

    matrix: Floats


# Each variant says whether the mistake explains the matrix.
PARENTS_MISTAKES = (
    Mistake(
        "own parent",
        "a variable is its own parent here; the diagonal must be 0",
        (lambda c: c.matrix.diagonal().any(),),
    ),
    Mistake(
        "later parents",
        "parents come earlier: X_j with j < i, below the diagonal",
        (lambda c: np.triu(c.matrix).any(),),
    ),
    Mistake(
        "everything depends",
        "every variable depends on all earlier ones here: that is the joint distribution without any assumption",
        (lambda c: np.array_equal(c.matrix, np.tril(np.ones_like(c.matrix), -1)),),
    ),
    Mistake(
        "chain",
        "in a chain, X_i still depends on X_(i-1), and needs k_i - 1 numbers for each of its outcomes",
        (lambda c: np.array_equal(c.matrix, np.eye(len(c.matrix), k=-1)),),
    ),
    Mistake(
        "still dependent",
        "some variable has a parent, and needs a distribution for each of its outcomes; how many may depend on others?",
        (lambda c: c.matrix.any(),),
    ),
)

# --- problem 4 ---


@dataclass(frozen=True)
class Forward:
    """A student's forward model at equally spaced x_1."""

    points: Floats  # (N,)
    mu: Floats  # (N,)
    sigma: Floats  # (N,)

    @property
    def is_linear(self) -> bool:
        """Whether mu is a linear function of x_1, or a constant."""
        line = np.polyval(np.polyfit(self.points, self.mu, 1), self.points)
        return bool(np.allclose(self.mu, line, atol=1e-4 * (1 + np.abs(self.mu).max())))


# Each variant says whether the mistake explains the model.
FORWARD_MISTAKES = (
    Mistake(
        "sigma not positive",
        "σ_2 must be above 0 for every x_1",
        (lambda c: (c.sigma <= 0).any(),),
    ),
    Mistake(
        "independent of x_1",
        "x_2 does not depend on x_1 here, so the reverse model needs only the same two Gaussians",
        (lambda c: np.ptp(c.mu) < 1e-6 and np.ptp(c.sigma) < 1e-6,),
    ),
    Mistake(
        "Gaussian after all",
        "this one is Gaussian after all: with a linear μ_2 and a constant σ_2, the mixture of infinitely many "
        "Gaussians that is p(x_2) is one Gaussian. That it is a mixture proves nothing",
        (lambda c: c.is_linear and np.ptp(c.sigma) < 1e-4 * c.sigma.max(),),
    ),
    Mistake(
        "hardly different",
        "this differs from a Gaussian, but by less than can be checked here; choose a model that differs clearly",
        (lambda c: not c.is_linear or np.ptp(c.sigma) >= 1e-4 * c.sigma.max(),),
    ),
)

BAYES_MISTAKES = (
    Mistake(
        "prior forgotten",
        "p(x_1) is missing: by Bayes' rule, p(x_1 | x_2) is proportional to p(x_1) p(x_2 | x_1)",
        (
            lambda c: c.density / c.density.sum(),
            lambda c: c.density,
            lambda c: c.prior * c.density / c.density.sum(),
            lambda c: c.density / (c.prior * c.density).sum(),
        ),
    ),
    NOT_NORMALISED,
    Mistake("prior alone", "x_2 tells nothing about x_1 here; where does p(x_2 | x_1) enter?", (lambda c: c.prior,)),
)

# --- problem 5 ---


@dataclass(frozen=True)
class Latent:
    """A model of one x with a discrete z, and the right value, which was found by listing all samples."""

    p_z: Floats  # (Z,)
    likelihood: Floats  # (Z,)
    k: int
    right: float

    @property
    def p_x(self) -> float:
        """p(x)."""
        return float(np.dot(self.p_z, self.likelihood))


UNIFORM_PRIOR = Mistake(
    "uniform prior",
    "every z counts equally here; the samples come from p(z)",
    (lambda c: c.likelihood.mean(), lambda c: c.likelihood.sum()),
)
MEAN_MISTAKES = (
    UNIFORM_PRIOR,
    Mistake(
        "k counted twice",
        "the estimate already divides the sum of k terms by k; each term has the same expectation",
        (lambda c: c.right / c.k, lambda c: c.right * c.k, lambda c: c.right / c.k**2),
    ),
    Mistake(
        "product of samples",
        "the estimate is a mean of k terms, not a product",
        (lambda c: c.right**c.k,),
    ),
    Mistake(
        "log of the estimate",
        "this is a logarithm; asked is the expectation of A itself",
        (lambda c: math.log(c.right),),
    ),
)
BIAS_MISTAKES = (
    Mistake(
        "log and expectation swapped",
        "log and expectation do not commute: E[log A] is not log E[A]. Which of them is larger?",
        (lambda c: 0.0,),
    ),
    Mistake(
        "Jensen reversed",
        "the sign is flipped: the logarithm is concave. Is E[log A] above or below log E[A]?",
        (lambda c: -c.right,),
    ),
    Mistake(
        "bias not subtracted",
        "this is E[log A]; its bias is the difference from log p(x)",
        (lambda c: c.right + math.log(c.p_x),),
    ),
    Mistake(
        "samples ignored",
        "this is the bias for one sample, whatever k is; the mean of two samples varies less",
        (lambda c: np.dot(c.p_z, np.log(c.likelihood)) - math.log(c.p_x),),
    ),
    Mistake(
        "uniform prior",
        UNIFORM_PRIOR.hint,
        (
            lambda c: np.log(c.likelihood).mean() - math.log(c.p_x),
            lambda c: np.log(c.likelihood).mean() - math.log(c.likelihood.mean()),
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One answer to "is log A biased?"."""

    is_constant: bool  # p(x | z) is the same for all z
    is_constant_where_possible: bool  # for all z that can be drawn


STRICT_MISTAKES = (
    Mistake(
        "strictness missing",
        "Jensen's inequality alone says ≤, which leaves room for =; it is strict unless p(x | z) is constant, so this "
        "log A is biased",
        (lambda c: 0.0,),
    ),
    Mistake(
        "always biased",
        "not always: where p(x | z) is the same for all z that can be drawn, A does not vary, and Jensen holds with =",
        (lambda c: 1.0,),
    ),
    Mistake(
        "impossible values",
        "values of z with p(z) = 0 are never drawn; whether p(x | z) varies there does not matter",
        (lambda c: float(not c.is_constant),),
    ),
    Mistake(
        "bias inverted",
        "it is the other way round: log A is unbiased only where A does not vary",
        (lambda c: float(c.is_constant_where_possible), lambda c: float(c.is_constant)),
    ),
)
