"""Could these tokens come from those probabilities? Decisions with a bound on how often they are wrongly no.

An alternative answer q explains n drawn tokens better than the right one, p, by the factor Π q(x_i) / p(x_i). If the
draws are right, the expected factor is 1, however the contexts depend on earlier draws, and so is that of a mean over
many alternatives. By Ville's inequality (1939) the mean ever exceeds 1/α with a probability of at most α, so a test
may look after every batch and stop at the first that is too unlikely.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.hw1.oracle import Floats, log_softmax

Counts = NDArray[np.int64]

# The budget: a submission whose draws are right fails any of its tests with a probability below FALSE_ALARM.
FALSE_ALARM = 1e-6
DECISIONS = 8  # on draws in one grading, at most
LEVEL = FALSE_ALARM / DECISIONS / 2  # half of each decision's share is for the factors, half for the counts
MISSED = 8e-4  # the probability that `Evidence.is_settled` although one of the required alternatives is true

TEMPERATURES = (0.96, 1.04, 0.3, 0.5, 0.7, 0.8, 0.87, 0.92, 0.95, 1.05, 1.08, 1.15, 1.3, 1.6, 2.0, 3.0)
UNIFORM_SHARES = (0.01, 0.003, 0.03, 0.1, 0.5)  # of draws that are uniform over the whole vocabulary
OFFSETS = (0.03, -0.03)  # what is added to one token's probability
REQUIRED_TEMPERATURES, REQUIRED_SHARES = 2, 1  # so many of these, the first, must not be missed; and all OFFSETS


@dataclass(frozen=True)
class Answer:
    """The right probabilities in every context that can occur, but for the tokens' order.

    Attributes:
        log_p: by rank, in each shape that a distribution can have, (G, K); -inf for what the filter removes
        vocab_size: how many tokens there are; all that the filter removes may share one rank
    """

    log_p: Floats
    vocab_size: int

    @cached_property
    def tempered(self) -> Floats:
        """log q / p for draws at each of TEMPERATURES, (alternatives, G, K)."""
        return np.stack([self._ratio(log_softmax(self.log_p / t)) for t in TEMPERATURES])

    @cached_property
    def mixed(self) -> Floats:
        """log q / p for draws of which each of UNIFORM_SHARES is uniform, (alternatives, G, K)."""
        p = np.exp(self.log_p)
        return np.stack([self._ratio(np.log((1 - s) * p + s / self.vocab_size)) for s in UNIFORM_SHARES])

    @cached_property
    def shifted(self) -> tuple[tuple[Floats, Floats], ...]:
        """For each of OFFSETS, log q / p of a token whose probability is off by it, and of all others, (G, K) each."""
        found, p = [], np.exp(self.log_p)
        for offset in OFFSETS:
            q = np.where(p > 0, np.clip(p + offset, 1e-6, 0.999), 0)
            with np.errstate(divide="ignore", invalid="ignore"):
                found.append((np.where(p > 0, np.log(q / p), 0.0), np.where(p < 1, np.log((1 - q) / (1 - p)), 0.0)))
        return tuple(found)

    def _ratio(self, log_q: Floats) -> Floats:
        possible = np.isfinite(self.log_p)
        return np.where(possible, log_q - np.where(possible, self.log_p, 0.0), 0.0)


@dataclass(frozen=True)
class Draws:
    """Tokens that were drawn, each in a context of its own.

    Attributes:
        shapes: the shape of the right distribution in each context, (N,)
        drawn: the rank of the token that was drawn there, (N,)
        ranks: the rank of every token, (N, V); None where there are too many to look at single tokens
        before: where another token was drawn just before, its rank now, (N,); -1 elsewhere; None where all are first
    """

    answer: Answer
    shapes: NDArray[np.int64]
    drawn: NDArray[np.int64]
    ranks: NDArray[np.int64] | None = None
    before: NDArray[np.int64] | None = None

    @cached_property
    def counts(self) -> Counts:
        """How often each rank was drawn in each shape, (G, K)."""
        log_p = self.answer.log_p
        return np.bincount(self.shapes * log_p.shape[1] + self.drawn, minlength=log_p.size).reshape(log_p.shape)

    @property
    def outside(self) -> int:
        """How many draws are impossible."""
        return int(self.counts[np.isneginf(self.answer.log_p)].sum())

    @property
    def mean_log_p(self) -> tuple[float, float]:
        """The mean log-probability of the drawn tokens: what is to be expected, and what it is."""
        log_p = np.where(np.isfinite(self.answer.log_p), self.answer.log_p, 0.0)
        of_shape = (np.exp(self.answer.log_p) * log_p).sum(axis=1)
        return float(of_shape[self.shapes].mean()), float(log_p[self.shapes, self.drawn].mean())

    def log_likelihood(self, log_q: Floats) -> float:
        """The log-likelihood of the draws if these, (G, K), were the log-probabilities."""
        seen = self.counts > 0
        return float((self.counts[seen] * log_q[seen]).sum())

    def log_factors(self, log_ratios: Floats) -> Floats:
        """By which factor each alternative explains the draws better, as a logarithm, from log q / p of each."""
        # Not by BLAS, whose threads go on spinning after each product.
        return np.asarray(np.einsum("agk,gk->a", log_ratios, self.counts))

    def log_factors_of_ranks(self) -> Floats:
        """The same for answers in which one rank is too likely or too unlikely, (offsets, K)."""
        n = self.counts.sum(axis=1, keepdims=True)
        return np.array(
            [(self.counts * itself + (n - self.counts) * others).sum(axis=0) for itself, others in self.answer.shifted]
        )

    def log_factors_of_repeats(self) -> Floats:
        """The same for answers in which the token that was drawn before is, (offsets,)."""
        if self.before is None:
            return np.zeros(len(OFFSETS))
        follows = self.before >= 0
        shapes, before, is_again = self.shapes[follows], self.before[follows], (self.before == self.drawn)[follows]
        return np.array(
            [
                np.where(is_again, itself[shapes, before], others[shapes, before]).sum()
                for itself, others in self.answer.shifted
            ]
        )

    def log_factors_of_tokens(self) -> Floats:
        """The same for answers in which one token is, (offsets, V); empty without `ranks`."""
        if self.ranks is None:
            return np.zeros((len(OFFSETS), 0))
        tokens, found = (self.ranks == self.drawn[:, None]).argmax(axis=1), []
        for itself, others in self.answer.shifted:
            factors = others[self.shapes[:, None], self.ranks].sum(axis=0)
            at_drawn = (itself - others)[self.shapes, self.drawn]
            found.append(factors + np.bincount(tokens, at_drawn, minlength=len(factors)))
        return np.array(found)


def together(draws: Sequence[Draws]) -> list[Draws]:
    """The same draws, those with one answer in one piece."""
    pieces: dict[int, list[Draws]] = {}
    for each in draws:
        pieces.setdefault(id(each.answer), []).append(each)
    return [
        Draws(
            few[0].answer,
            np.concatenate([f.shapes for f in few]),
            np.concatenate([f.drawn for f in few]),
            None if few[0].ranks is None else np.concatenate([f.ranks for f in few if f.ranks is not None]),
        )
        for few in pieces.values()
    ]


class Evidence:
    """By which factors known kinds of wrong answers explain all draws so far better than the right one."""

    def __init__(self) -> None:
        self._is_impossible = False
        self._general = np.zeros(len(TEMPERATURES) + len(UNIFORM_SHARES) + 2 * len(OFFSETS))
        self._single: dict[int, Floats] = {}

    def add(self, draws: Draws, model: int = 0) -> None:
        """Count `draws` in; `model` tells tokens of different models apart."""
        self._is_impossible |= draws.outside > 0
        answer, of_ranks = draws.answer, draws.log_factors_of_ranks()
        whole = (draws.log_factors(answer.tempered), draws.log_factors(answer.mixed))
        self._general = self._general + np.concatenate((*whole, draws.log_factors_of_repeats(), of_ranks[:, 0]))
        if draws.ranks is not None:
            kept = of_ranks[:, np.isfinite(answer.log_p).any(axis=0)]
            single = np.concatenate((kept[:, 1:].reshape(-1), draws.log_factors_of_tokens().reshape(-1)))
            self._single[model] = self._single.get(model, 0.0) + single

    @property
    def log_factor(self) -> float:
        """The logarithm of the mean factor, over all alternatives."""
        if self._is_impossible:
            return math.inf
        families = [self._general, *([np.concatenate(list(self._single.values()))] if self._single else [])]
        means = [np.logaddexp.reduce(family) - math.log(len(family)) for family in families]
        return float(np.logaddexp.reduce(means)) - math.log(len(means))

    @property
    def is_too_much(self) -> bool:
        """Whether the draws are wrong: wrongly so with a probability of at most LEVEL, however often it is asked."""
        return self.log_factor > -math.log(LEVEL)

    @property
    def is_settled(self) -> bool:
        """Whether all the required alternatives explain the draws so much worse that more draws need not be seen."""
        temperatures = self._general[:REQUIRED_TEMPERATURES]
        shares = self._general[len(TEMPERATURES) :][:REQUIRED_SHARES]
        required = [temperatures, shares, self._general[-len(OFFSETS) :], *self._single.values()]
        return max(float(factors.max()) for factors in required) < math.log(MISSED)


def improbability(counts: ArrayLike, probabilities: ArrayLike) -> float:
    """How unlikely such counts are, at most, if each draw has these probabilities: a bound, not an estimate.

    For one outcome with probability p, seen with frequency f in n draws, Chernoff's bound (Hoeffding 1963, theorem 1)
    is exp(-n KL(f || p)). Summed over both directions of all outcomes, it bounds the chance that any strays so far.
    """
    observed, p = np.asarray(counts, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    n = observed.sum()
    if n == 0:
        return 1.0
    f = observed / n
    if (f[p <= 0] > 0).any():
        return 0.0
    f, p = f[p > 0], np.minimum(p[p > 0], 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(f > 0, f * np.log(f / p), 0.0)
        divergence += np.where(f < 1, (1 - f) * (np.log1p(-f) - np.log1p(-p)), 0.0)
    return float(min(1.0, 2 * len(f) * math.exp(-n * max(0.0, np.nanmax(divergence)))))


def fits(counts: ArrayLike, probabilities: ArrayLike, looks: int = 1) -> bool:
    """Whether such counts are not too improbable; wrongly False with a probability of at most LEVEL.

    Args:
        looks: at how many tables of counts is looked, or how often
    """
    return improbability(counts, probabilities) * looks >= LEVEL
