"""Distributions over the vocabulary, in float64: filtered, at a temperature, over one token and over two.

V vocabulary, K candidates: the tokens that pass the filter.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Logits = NDArray[np.floating[Any]]
LARGEST_HORIZON2 = 200  # candidates whose next tokens are computed
SHOWN = 40  # tokens with a bar of their own


@dataclass(frozen=True)
class Setting:
    """How a token is drawn."""

    temperature: float
    top_k: int  # how many tokens may be drawn; 0: all

    @property
    def candidates(self) -> int:
        """Of how many tokens horizon 2 looks at what follows them: as many as may be drawn, if that can be computed."""
        return min(self.top_k or SHOWN, LARGEST_HORIZON2)


@dataclass(frozen=True)
class Joint:
    """The probabilities of two tokens in a row: of each pair, with the place of its first among the candidates."""

    candidates: NDArray[np.int64]  # (K,), token ids
    first: NDArray[np.int64]  # (pairs,), places in `candidates`
    p: Floats  # (pairs,)


def kept(logits: Logits, k: int) -> Floats:
    """The probabilities (..., V) of the tokens with the k largest `logits` of each row (0: all); the others have 0."""
    rows = np.asarray(logits, dtype=np.float64)
    size = rows.shape[-1]
    smallest = np.partition(rows, size - k, axis=-1)[..., size - k, None] if 0 < k < size else -math.inf
    weights = np.zeros_like(rows)
    np.exp(rows - rows.max(axis=-1, keepdims=True), out=weights, where=rows >= smallest)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def possible(logits: Logits, k: int) -> Logits:
    """Those of the `logits` (V,) that are not filtered, in any order."""
    smallest = np.partition(logits, len(logits) - k)[len(logits) - k] if 0 < k < len(logits) else -math.inf
    return np.asarray(logits[logits >= smallest])


def next_token(logits: Logits, setting: Setting) -> Floats:
    """The probabilities (V,) of the next token, which has these `logits` (V,)."""
    return _normalised(_powers(kept(logits, setting.top_k), setting))


def joint(first: Logits, second: Logits, candidates: NDArray[np.int64], k: int) -> Joint:
    """What the next two tokens are, each of the top k, before they are scaled.

    Args:
        first: (V,), the logits of the next token
        second: (K, any), those of the token after each candidate, at least those that are not filtered
        candidates: (K,)
    """
    p = kept(first[candidates], 0)[:, None] * kept(second, k)  # (K, any)
    places = p.nonzero()
    return Joint(candidates, places[0], p[places])


def next_of_two(pairs: Joint, setting: Setting, size: int) -> Floats:
    """The probabilities (V,) of the next token where the joint distribution of the next two is scaled."""
    weights = np.bincount(pairs.first, weights=_powers(pairs.p, setting), minlength=len(pairs.candidates))
    p = np.zeros(size)
    p[pairs.candidates] = weights
    return _normalised(p)


def entropy(p: Floats) -> float:
    """The entropy of a distribution, in nats."""
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum()) + 0.0


def surprise(logits: Logits, token: int) -> tuple[float, int]:
    """The log-probability of `token` among these `logits` (V,), and its rank: 1 for the likeliest."""
    beside = np.asarray(logits, dtype=np.float64) - float(logits[token])
    return -math.log(float(np.exp(beside).sum())), int((beside > 0).sum()) + 1


def _powers(p: Floats, setting: Setting) -> Floats:
    """p ** (1 / T) but for a factor, which keeps the largest at 1."""
    powers = np.zeros_like(p)
    np.power(p / p.max(), 1 / setting.temperature, out=powers, where=p > 0)
    return powers


def _normalised(weights: Floats) -> Floats:
    return np.asarray(weights / weights.sum())
