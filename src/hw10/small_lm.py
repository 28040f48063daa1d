"""A language model so small that what it says is computed step by step, in float64, for the tests of prompting.

An Elman network (Elman, "Finding Structure in Time", 1990): h_t = tanh(h_{t-1} R + x_t + b_t), logits = h_t U. What it
says depends on the order of all vectors before, and on their places. `src.hw10.harness.prompting` has it in PyTorch.

V tokens, E width.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

PLACES = 64  # more than any text of the tests has


@dataclass(frozen=True)
class State:
    """The model after some vectors: how many they were, and what is left of them, (E,)."""

    place: int
    hidden: Floats


@dataclass(frozen=True)
class SmallLM:
    """The weights. They are numbers of float32, so that PyTorch has exactly the same ones."""

    embedding: Floats  # (V, E)
    places: Floats  # (PLACES, E)
    recurrence: Floats  # (E, E)
    readout: Floats  # (E, V)

    @classmethod
    def drawn(cls, rng: np.random.Generator, vocab_size: int = 11, width: int = 6) -> "SmallLM":
        """A random model; R is 0.8 times a rotation, so that neither the past nor an error of rounding grows."""
        rotation = np.linalg.qr(rng.standard_normal((width, width)))[0]
        return cls(
            _rounded(rng.normal(0, 0.8, (vocab_size, width))),
            _rounded(rng.normal(0, 0.4, (PLACES, width))),
            _rounded(0.8 * rotation),
            _rounded(rng.normal(0, 1.5, (width, vocab_size))),
        )

    @property
    def arrays(self) -> tuple[NDArray[np.float32], ...]:
        """The weights, for the harness."""
        weights = (self.embedding, self.places, self.recurrence, self.readout)
        return tuple(each.astype(np.float32) for each in weights)

    def start(self) -> State:
        """The model before the first vector."""
        return State(0, np.zeros(len(self.recurrence)))

    def step(self, state: State, vector: Floats) -> State:
        """The model after one more vector (E,)."""
        hidden = np.tanh(state.hidden @ self.recurrence + vector + self.places[state.place])
        return State(state.place + 1, hidden)

    def logits(self, state: State) -> Floats:
        """What it says in that state, (V,)."""
        return state.hidden @ self.readout

    def rows(self, vectors: Iterable[Any]) -> Floats:
        """What it says after each of `vectors`, (n, V)."""
        state, rows = self.start(), []
        for vector in vectors:
            state = self.step(state, vector)
            rows.append(self.logits(state))
        return np.array(rows).reshape(-1, self.readout.shape[1])


def log_softmax(logits: Floats) -> Floats:
    """Log-probabilities (..., V)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _rounded(values: Floats) -> Floats:
    return values.astype(np.float32).astype(np.float64)
