"""Ratios of times with their uncertainty: what a benchmark may claim, and what it may not."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
RESAMPLES = 2000
# With fewer rounds, even the whole range of the ratios covers the true median less often than CONFIDENCE says: all of n
# ratios lie on the same side of it with probability 2^(1 - n).
ENOUGH_ROUNDS = 6


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios of the rounds, and its bootstrap interval."""

    value: float
    low: float
    high: float
    rounds: int

    @property
    def claim(self) -> str:
        """ "ahead" if the ratio is above 1, "behind" if it is below, and "" if that is not settled."""
        if self.rounds < ENOUGH_ROUNDS or self.low <= 1 <= self.high:
            return ""
        return "ahead" if self.low > 1 else "behind"


def ratio(numerators: ArrayLike, denominators: ArrayLike, seed: int = 0) -> Ratio:
    """The ratio of two jobs' times, each number from the same round as its partner; rounds with a nan are left out.

    The interval is the percentile bootstrap's (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13):
    rounds are drawn with replacement RESAMPLES times, and the middle CONFIDENCE of their medians is taken.
    """
    ratios = np.asarray(numerators, dtype=float) / np.asarray(denominators, dtype=float)
    ratios = ratios[~np.isnan(ratios)]
    if not len(ratios):
        return Ratio(math.nan, math.nan, math.nan, 0)
    drawn = np.random.default_rng(seed).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))
