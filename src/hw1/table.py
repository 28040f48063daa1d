"""A language model that is made from a seed: its logits, for the grader and for workers that run it by themselves.

The logits depend on all tokens before and on the absolute position of each, so whatever is fed to the model wrongly
shows in what is drawn from it. Only integers are hashed, and only sums and products are rounded: every process gets
the same bits.
"""

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Words = NDArray[np.uint64]

MAX_ROWS = 20_000  # of one call
SHAPES = 64  # distributions, but for the order of the tokens
_OF_TOKEN, _OF_POSITION, _OF_SEED = map(np.uint64, (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93))


@dataclass(frozen=True)
class Places:
    """What the model makes of some texts, arrays of one shape: token v has the rank (step * v + start) mod V."""

    shape: NDArray[np.int64]
    step: NDArray[np.uint32]
    start: NDArray[np.uint32]


class Table:
    """The logits of the next token after any text.

    A hash of the text puts the tokens into an order, and chooses one of SHAPES ways in which the logits fall along it.
    No two tokens have the same logit, so a top k has k tokens.
    """

    def __init__(self, vocab_size: int, seed: int, n_ctx: int, peaked: bool):
        assert 1 < vocab_size < 2**16  # so that a rank is computed in 32 bits
        self.vocab_size = vocab_size
        self.n_ctx = n_ctx
        self._tokens = np.arange(vocab_size, dtype=np.uint32)
        self._peaked = peaked
        self._steps = self._tokens[np.gcd(self._tokens, vocab_size) == 1]
        of_seed = _mixed(np.array([seed], np.uint64) * _OF_SEED)
        self._positions = np.arange(n_ctx, dtype=np.uint64) * _OF_POSITION + of_seed

    @functools.cached_property
    def ladder(self) -> NDArray[np.float32]:
        """The logit at each rank, (SHAPES, V)."""
        return ladder(self.vocab_size, self._peaked, self.vocab_size)

    def sums(self, ids: Ids, before: Words | None = None, start: int = 0) -> Words:
        """The hash of the text up to each of `ids` (B, T), which begin at the position `start`, (B, T).

        Args:
            before: the hash of what comes before them, (B, 1) or (1, 1)
        """
        positions = self._positions[start : start + ids.shape[1]]
        keys = _mixed(ids.view(np.uint64) * _OF_TOKEN + positions)
        sums = keys if ids.shape[1] == 1 else keys.cumsum(axis=1, dtype=np.uint64)
        return sums if before is None else sums + before

    def places(self, sums: Words) -> Places:
        """What the model makes of the texts with these hashes, (B, T)."""
        state = _mixed(sums)
        return Places(
            shape=(state % np.uint64(SHAPES)).astype(np.int64),
            step=self._steps[(state >> np.uint64(8)) % np.uint64(len(self._steps))],
            start=((state >> np.uint64(40)) % np.uint64(self.vocab_size)).astype(np.uint32),
        )

    def ranks(self, places: Places, tokens: NDArray[np.uint32] | None = None) -> NDArray[np.uint32]:
        """The ranks at these places of `tokens` (…, n), or of all tokens, (…, V)."""
        chosen = self._tokens if tokens is None else tokens
        ranks: NDArray[np.uint32] = places.step[..., None] * chosen + places.start[..., None]
        ranks -= ranks // np.uint32(self.vocab_size) * np.uint32(self.vocab_size)  # twice as fast as %
        return ranks

    def logits(self, sums: Words) -> NDArray[np.float32]:
        """Logits (B, T, V) of the token after each of the texts with these hashes, (B, T)."""
        places = self.places(sums)
        at = places.shape[..., None] * self.vocab_size + self.ranks(places)
        return self.ladder.reshape(-1).take(at)  # three times as fast as an index for each axis

    def problem(self, ids: NDArray[Any], past_rows: int | None = None, start: int = 0) -> str | None:
        """What is wrong with the arguments of a call, as GPT2 would say it; `start` tokens came before."""
        if problem := self.problem_of_ids("input_ids", ids):
            return problem
        if len(ids) > MAX_ROWS:
            return f"input_ids has {len(ids)} rows; this model takes at most {MAX_ROWS}"
        if ids.shape[1] == 0 or len(ids) == 0:
            return "input_ids has no tokens; give the model a text that is not empty"
        if past_rows not in (None, 1, len(ids)):
            return f"past has batch size {past_rows}, input_ids has {len(ids)}; they must agree"
        if ids.shape[1] + start > self.n_ctx:
            return f"the text is longer than the model's {self.n_ctx} positions"
        return None

    def problem_of_ids(self, name: str, ids: NDArray[Any]) -> str | None:
        """What is wrong with an array that should hold token ids, (B, T)."""
        if ids.dtype != np.int64:
            return f"{name} must hold token ids of type int64"
        if ids.ndim != 2:
            return f"{name} has shape {ids.shape}, but must have two dimensions, (B, T)"
        if ids.size and ids.view(np.uint64).max() >= self.vocab_size:  # negative ones are the largest
            return f"{name} holds ids outside of the vocabulary, 0 to {self.vocab_size - 1}"
        return None


@functools.cache
def ladder(vocab_size: int, peaked: bool, ranks: int) -> NDArray[np.float32]:
    """The logit at each of the first `ranks` ranks, (SHAPES, ranks), falling.

    Args:
        peaked: one favourite, and a gap between it and a long tail: a small error in a temperature shows soon in what
            is drawn. Otherwise like numbers drawn from a normal distribution, as for logits of a network.
    """
    rungs, rank, two = np.empty((8, 8, ranks), np.float32), np.arange(ranks), np.arange(8)[:, None]
    z = None if peaked else -np.array([NormalDist().inv_cdf((r + 0.5) / vocab_size) for r in range(ranks)])
    for one in range(8):  # a few shapes at a time, which stay in the processor's cache
        offset = ((8 * one + two) * 37 % SHAPES) / SHAPES * 6
        if z is None:
            # The favourite has from a third to nine tenths, in all sizes.
            gap = math.log(vocab_size) - 0.5 + 2.5 * one / 7
            logits = 5 + offset - (0.2 + 1.8 * two / 7) / vocab_size * rank
            logits[:, 1:] -= gap
        else:
            logits = (0.9 + 1.2 * one / 7) * z + 0.1 * (two / 3.5 - 1) * z**2 + offset
        rungs[one] = logits
    return rungs.reshape(SHAPES, ranks)


def _mixed(words: Words) -> Words:
    """Each word with its bits mixed: the finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
