"""What can go wrong in 6.7a and in question 7, and the value to which each mistake leads, or how it shows."""

import math
from dataclasses import dataclass

import numpy as np

from src.grading.part_test import Mistake
from src.hw1.oracle import Floats


@dataclass(frozen=True)
class TwoTokens:
    """A student's table (V, V)."""

    table: Floats

    @property
    def is_independent(self) -> bool:
        """Whether it is the product of its marginals."""
        product = self.table.sum(axis=1, keepdims=True) * self.table.sum(axis=0, keepdims=True)
        return bool(np.allclose(self.table, product, atol=1e-6))

    @property
    def spreads(self) -> Floats:
        """Σ_b p(b | a)^2 of each a that can occur: what the second token adds to the first one's weight at T = ½."""
        rows = self.table[self.table.sum(axis=1) > 0]
        return np.asarray(((rows / rows.sum(axis=1, keepdims=True)) ** 2).sum(axis=1))


# Each variant says whether the mistake explains the table.
TABLE_MISTAKES = (
    Mistake(
        "logarithms",
        "these are negative: are they logarithms? Return probabilities",
        (lambda c: (c.table < 0).any(),),
    ),
    Mistake(
        "conditionals for the joint",
        "each row sums to 1, so this is p(x_1 | x_0); multiply each row with its p(x_0)",
        (lambda c: np.allclose(c.table.sum(axis=1), 1),),
    ),
    Mistake(
        "does not sum to 1",
        "the entries of a joint distribution sum to 1",
        (lambda c: not math.isclose(c.table.sum(), 1, rel_tol=1e-4),),
    ),
    Mistake(
        "independent tokens",
        "the two tokens are independent here, so that scaling both alone scales their product; let x_1 depend on x_0",
        (lambda c: c.is_independent,),
    ),
    Mistake(
        "equal spread",
        "p(x_1 | x_0) has the same probabilities in every row, only in another order, so each x_0 gains equally from "
        "what follows it; make one row more certain than another",
        (lambda c: np.ptp(c.spreads) < 1e-3,),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Sequences of n tokens, each one of `vocabulary`."""

    vocabulary: int
    n: int


PARTITION_MISTAKES = (
    Mistake("log Z", "this is log Z(1); asked is Z(1)", (lambda c: 0.0,)),
    Mistake(
        "number of sequences",
        "this is how many terms the sum has; what do they sum to, if each is a probability?",
        (lambda c: c.vocabulary**c.n, lambda c: c.vocabulary, lambda c: c.n, lambda c: c.vocabulary * c.n),
    ),
    Mistake(
        "one term",
        "this is one term of a uniform distribution; Z sums over all sequences",
        (lambda c: float(c.vocabulary) ** -c.n, lambda c: 1 / c.vocabulary),
    ),
)
TERMS_MISTAKES = (
    Mistake(
        "terms added",
        "the tokens' values are added; every token can be combined with every other",
        (lambda c: c.vocabulary * c.n,),
    ),
    Mistake("base and exponent swapped", "base and exponent are swapped", (lambda c: c.n**c.vocabulary,)),
    Mistake(
        "one token too few",
        "one token is missing, or one too many; all n tokens are free",
        (
            lambda c: c.vocabulary ** (c.n - 1), lambda c: c.vocabulary ** (c.n + 1), lambda c: c.vocabulary**c.n - 1,
        ),
    ),
    Mistake(
        "terms of one token",
        "this is the sum that a softmax over one token has; Z(T) sums over whole sequences",
        (lambda c: c.vocabulary,),
    ),
    Mistake("one softmax a token", "this is one for each token; Z(T) sums over whole sequences", (lambda c: c.n,)),
)  # fmt: skip

# Each variant says whether the mistake explains the temperature.
BETTER_MISTAKES = (
    Mistake("temperature not positive", "a temperature is above 0", (lambda t: t <= 0,)),
    Mistake("no change", "T = 1 leaves p as it is", (lambda t: math.isclose(t, 1, rel_tol=1e-6),)),
    Mistake(
        "temperature too high",
        "the direction is reversed: T > 1 flattens the distribution, so that unlikely sequences come more often",
        (lambda t: t > 1,),
    ),
)


@dataclass(frozen=True)
class Temperature:
    """One at which somebody wants to sample."""

    value: float


SAMPLING_MISTAKES = (
    Mistake(
        "token by token",
        "scaling each token's own distribution gives samples of another distribution than p^T, which weighs whole "
        "sequences; see 6.7a",
        (lambda c: 1.0,),
    ),
    Mistake(
        "p itself forgotten",
        "at some temperatures p^T is a distribution from which you can sample: compare p^1 with p, for a start",
        (lambda c: 0.0, lambda c: float(c.value != 1)),
    ),
    Mistake(
        "uniform forgotten",
        "one more temperature is easy: what becomes of p(x)^(1/T) as T grows without end?",
        (lambda c: float(c.value == 1),),
    ),
    Mistake(
        "model forgotten",
        "one more temperature is easy: what is p^T at T = 1?",
        (lambda c: float(c.value == math.inf),),
    ),
    Mistake(
        "low temperatures",
        "a low temperature needs Z(T) as much as a high one: both weigh whole sequences",
        (lambda c: float(c.value < 1), lambda c: float(c.value <= 1)),
    ),
    Mistake(
        "high temperatures",
        "a high temperature needs Z(T) as much as a low one: both weigh whole sequences",
        (lambda c: float(c.value > 1), lambda c: float(c.value >= 1)),
    ),
)


@dataclass(frozen=True)
class Sequences:
    """What is known of N sequences, and the probability with which each is drawn."""

    log_p: Floats  # (N,)
    log_q: Floats  # (N,)
    temperature: float
    log_z: float
    drawn: Floats  # (N,), in whichever way these N were drawn: sums to 1

    @property
    def log_scaled(self) -> Floats:
        """log p^T without -log Z(T)."""
        return np.asarray(self.log_p / self.temperature)

    @property
    def ratio(self) -> Floats:
        """p^T / p without Z(T)."""
        return np.exp(self.log_scaled - self.log_p)

    def average(self, values: Floats) -> float:
        """Their expectation."""
        return float((self.drawn * values).sum())


Z_DROPPED = Mistake(
    "Z dropped",
    "Z(T) is missing; it may be dropped from a minimiser, but the divergence itself has it, which makes it intractable",
)
WEIGHTS_MISSING = Mistake(
    "importance weights missing",
    "the samples come from p, but count here as if they came from p^T; what must each of them count?",
)
NOT_DIVIDED = Mistake(
    "not divided by p",
    "the weight of a sample is p^T(x) / p(x); the division by p(x), from which it was drawn, is missing",
)
EXPONENT = Mistake("exponent", "the exponent of p(x) is another one: p^(1/T) divided by p")
EXPONENT_SIGN = Mistake(
    "exponent inverted",
    "the exponent has the wrong sign: below T = 1, likely samples must count more",
)
NEGATIVE_ESTIMATE = Mistake("estimate negative", "the sign is flipped: -log q is positive, and so are the weights")
KL_MISTAKES = (
    Z_DROPPED.with_variants(
        lambda c: c.average(c.ratio * (c.log_scaled - c.log_q)),
        lambda c: c.average(c.ratio * (c.log_scaled - c.log_z - c.log_q)),
        lambda c: c.average(c.ratio * math.exp(-c.log_z) * (c.log_scaled - c.log_q)),
    ),
    WEIGHTS_MISSING.with_variants(
        lambda c: c.average(c.log_scaled - c.log_z - c.log_q),
        lambda c: c.average(c.log_scaled - c.log_q),
    ),
    NOT_DIVIDED.with_variants(
        lambda c: c.average(np.exp(c.log_scaled - c.log_z) * (c.log_scaled - c.log_z - c.log_q)),
    ),
    Mistake(
        "divergence of p",
        "inside the logarithm stands p; the divergence is that of p^T",
        (
            lambda c: c.average(c.ratio * math.exp(-c.log_z) * (c.log_p - c.log_q)),
            lambda c: c.average(c.log_p - c.log_q),
        ),
    ),
    Mistake(
        "entropy forgotten",
        "this is the cross-entropy of p^T and q; the divergence also has E log p^T",
        (lambda c: c.average(-c.ratio * math.exp(-c.log_z) * c.log_q),),
    ),
    Mistake(
        "divergence negated",
        "the sign is flipped: a divergence is never negative",
        (lambda c: -c.average(c.ratio * math.exp(-c.log_z) * (c.log_scaled - c.log_z - c.log_q)),),
    ),
    Mistake(
        "sign of log Z",
        "the sign of log Z(T) is flipped: p^T is divided by Z(T)",
        (lambda c: c.average(c.ratio * math.exp(c.log_z) * (c.log_scaled + c.log_z - c.log_q)),),
    ),
)

# What is compared are the weights divided by their sum.
WEIGHT_MISTAKES = (
    NOT_DIVIDED.with_variants(lambda c: np.exp(c.log_scaled)),
    EXPONENT_SIGN.with_variants(
        lambda c: np.exp((c.temperature - 1) / c.temperature * c.log_p), lambda c: np.exp((c.temperature - 1) * c.log_p)
    ),
    EXPONENT.with_variants(
        lambda c: np.exp((1 - c.temperature) * c.log_p),
        lambda c: np.exp(c.temperature * c.log_p),
        lambda c: np.exp(c.log_p),
        lambda c: np.exp(c.log_p / (1 - c.temperature)),
    ),
    WEIGHTS_MISSING.with_variants(lambda c: np.ones_like(c.log_p)),
    Mistake(
        "log weights",
        "these are logarithms of weights; a weight is positive",
        (lambda c: (1 / c.temperature - 1) * c.log_p,),
    ),
)


def _estimate(weights: Floats, c: Sequences) -> float:
    return float(-(weights * c.log_q).mean())


# The N sequences are one set of samples here.
STAR_MISTAKES = (
    Mistake(
        "weights self-normalised",
        "the weights are divided by their sum, which is random: such an estimate is biased for few samples, and Z(T) "
        "is not needed in (⋆)",
        (
            lambda c: _estimate(c.ratio / c.ratio.mean(), c), lambda c: _estimate(c.ratio / c.ratio.sum(), c),
        ),
    ),
    Mistake(
        "sum for mean",
        "this is the sum over the samples; an expectation is estimated by their mean",
        (lambda c: len(c.log_p) * _estimate(c.ratio, c),),
    ),
    NEGATIVE_ESTIMATE.with_variants(lambda c: -_estimate(c.ratio, c), lambda c: -len(c.log_p) * _estimate(c.ratio, c)),
    WEIGHTS_MISSING.with_variants(lambda c: _estimate(np.ones_like(c.log_p), c)),
    NOT_DIVIDED.with_variants(lambda c: _estimate(np.exp(c.log_scaled), c)),
    EXPONENT_SIGN.with_variants(lambda c: _estimate(1 / c.ratio, c)),
    EXPONENT.with_variants(
        lambda c: _estimate(np.exp((1 - c.temperature) * c.log_p), c),
        lambda c: _estimate(np.exp(c.temperature * c.log_p), c),
        lambda c: _estimate(np.exp(c.log_p), c),
    ),
    Mistake(
        "log weights",
        "these are logarithms of weights; a weight is positive",
        (lambda c: _estimate((1 / c.temperature - 1) * c.log_p, c),),
    ),
    Mistake(
        "entropy of q",
        "-log q stands alone in (⋆): it is weighed by what p says of the sample, never by q",
        (lambda c: _estimate(np.exp(c.log_q), c), lambda c: _estimate(np.exp((1 / c.temperature - 1) * c.log_q), c)),
    ),
)  # fmt: skip
