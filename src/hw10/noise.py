"""Are these numbers independent draws from N(0, 1)? Decisions with a bound on how often they are wrongly no.

Each statistic below has a known distribution where they are. The probability of its tail is exact, or a bound from
above, for any number of draws.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Right draws fail one statistic with a probability of at most LEVEL: six of them a hundred times with less than 1e-6.
LEVEL = 1e-9


def normal_tail(value: float) -> float:
    """P(|X| ≥ |value|) for X ~ N(0, 1)."""
    return math.erfc(abs(value) / math.sqrt(2))


def chi_square_tail(value: float, degrees: int) -> float:
    """A bound on the probability that a χ² with so many degrees of freedom is as far out as `value`.

    Chernoff: exp(-k/2 (r - 1 - log r)) for either side, where r = value / k.
    """
    r = value / degrees
    return min(1.0, 2 * math.exp(-degrees / 2 * (r - 1 - math.log(r)))) if r > 0 else 0.0


def distance_tail(noise: Floats) -> float:
    """A bound on the probability that the empirical distribution of so many draws is as far from N(0, 1) as this one.

    Dvoretzky, Kiefer, Wolfowitz; Massart (1990): P(sup |F_N - F| ≥ d) ≤ 2 exp(-2 N d²).
    """
    ordered = np.sort(noise, axis=None)
    right = np.array([math.erfc(-each / math.sqrt(2)) / 2 for each in ordered.tolist()])
    steps = np.arange(len(ordered) + 1) / len(ordered)
    distance = max((steps[1:] - right).max(), (right - steps[:-1]).max())
    return min(1.0, 2 * math.exp(-2 * len(ordered) * float(distance) ** 2))


def faults(noise: Floats, other: Floats | None = None) -> list[str]:
    """How `noise` (N, K) differs from independent draws from N(0, 1); empty where nothing says so.

    Of "not finite", "mean", "variance", "distribution" (of another shape), "rows" (entries of a row depend on each
    other), "columns" (the same for columns), and "repeated" (depends on `other`, which was drawn in another call).
    """
    if not np.isfinite(noise).all():
        return ["not finite"]
    rows, columns = noise.shape
    tails = {
        "mean": normal_tail(float(noise.sum()) / math.sqrt(noise.size)),
        "variance": chi_square_tail(float((noise**2).sum()), noise.size),
        "distribution": distance_tail(noise),
        "rows": chi_square_tail(float((noise.sum(axis=1) ** 2).sum()) / columns, rows),
        "columns": chi_square_tail(float((noise.sum(axis=0) ** 2).sum()) / rows, columns),
    }
    if other is not None:  # given `other`, the sum of products is N(0, Σ other²)
        tails["repeated"] = normal_tail(float((noise * other).sum()) / math.sqrt(max(1e-300, float((other**2).sum()))))
    return [fault for fault, tail in tails.items() if tail < LEVEL]
