"""A language model so small that everything about it can be listed: all texts of n tokens, with their probabilities.

Arrays over all texts have one axis for each token, (V, ..., V). Everything is in float64 and log space.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.hw1.oracle import AnswersTexts, Floats, log_softmax, log_sum_exp

TOKENS, LENGTH = 4, 6  # V and n, unless something else is asked for
START = 0  # the token after which every text begins


@dataclass(frozen=True)
class Joint:
    """p(x) of every text x = (x_1, ..., x_n), as p(x_1), p(x_2 | x_1), ...: what an autoregressive model knows."""

    conditionals: tuple[Floats, ...]  # log p(x_i | x_<i), (V,) * i

    @classmethod
    def of(cls, model: AnswersTexts, vocab_size: int = TOKENS, length: int = LENGTH) -> "Joint":
        """All texts of `length` tokens after START, under a language model."""
        texts = np.full((1, 1), START)
        found = []
        for i in range(length):
            after = log_softmax(model.logits(texts)[:, -1])  # (V^i, V)
            found.append(after.reshape((vocab_size,) * (i + 1)))
            next_tokens = np.tile(np.arange(vocab_size), len(texts))[:, None]
            texts = np.concatenate((np.repeat(texts, vocab_size, axis=0), next_tokens), axis=1)
        return cls(tuple(found))

    @property
    def length(self) -> int:
        """n."""
        return len(self.conditionals)

    @property
    def log_p(self) -> Floats:
        """log p(x) of every text, (V, ..., V)."""
        return self.log_p_after(0, self.length)

    def log_p_after(self, given: int, end: int) -> Floats:
        """log p(x_{given+1}, ..., x_end | x_1, ..., x_given), an axis for each of x_1 to x_end."""
        total = np.zeros((1,) * end)
        for i in range(given, end):
            conditional = self.conditionals[i]
            total = total + conditional.reshape(conditional.shape + (1,) * (end - conditional.ndim))
        return total

    def log_z(self, temperature: float) -> float:
        """log Z(T), where Z(T) = Σ_x p(x)^(1/T)."""
        return float(log_sum_exp(self.log_p.reshape(-1) / temperature))

    def scaled(self, temperature: float) -> Floats:
        """log p_T(x) of every text: the joint distribution, scaled."""
        return self.log_p / temperature - self.log_z(temperature)

    def scaled_ahead(self, temperature: float, horizon: int) -> "Joint":
        """The model q_h whose every token is drawn from the scaled joint distribution of the next h, or of all left.

        q_h(x_i | x_<i) ∝ Σ_{x_{i+1}, ..., x_{i+h-1}} p(x_i, ..., x_{i+h-1} | x_<i)^(1/T)
        """
        found = []
        for i in range(self.length):
            ahead = self.log_p_after(i, min(i + horizon, self.length)) / temperature
            first = ahead.reshape((*ahead.shape[: i + 1], -1))  # (V,) * (i + 1), and all that may follow
            found.append(log_softmax(log_sum_exp(first)))
        return Joint(tuple(found))


def kl(log_p: NDArray[np.float64], log_q: NDArray[np.float64]) -> float:
    """KL(p ‖ q) in nats, of two distributions over the same texts, as logarithms."""
    return math.fsum((np.exp(log_p) * (log_p - log_q)).reshape(-1).tolist())


def entropy(log_p: NDArray[np.float64]) -> float:
    """H(p) in nats."""
    return -math.fsum((np.exp(log_p) * log_p).reshape(-1).tolist())
