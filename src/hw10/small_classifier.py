"""A classifier so small that the gradients of each example are computed by hand, in float64, for the tests of EWC.

Linear layers with tanh between them; one layer alone is softmax regression. `src.hw10.harness.continual` has it in
PyTorch.

N examples, D inputs, C classes.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SmallClassifier:
    """The weights. They are numbers of float32, so that PyTorch has exactly the same ones."""

    weights: tuple[Floats, ...]  # of each layer: a matrix (outputs, inputs), then a bias (outputs,)

    @classmethod
    def drawn(cls, rng: np.random.Generator, sizes: Sequence[int]) -> "SmallClassifier":
        """A random one; `sizes` are the numbers of inputs, of each layer's units, and of classes."""
        weights: list[Floats] = []
        for inputs, outputs in itertools.pairwise(sizes):
            weights += [rng.normal(0, 1.2 / np.sqrt(inputs), (outputs, inputs)), rng.normal(0, 0.3, outputs)]
        return cls(tuple(each.astype(np.float32).astype(np.float64) for each in weights))

    @property
    def arrays(self) -> tuple[NDArray[np.float32], ...]:
        """The weights, for the harness."""
        return tuple(each.astype(np.float32) for each in self.weights)

    def layers(self, inputs: Floats) -> list[Floats]:
        """The inputs (N, D), what each hidden layer makes of them, and the logits (N, C)."""
        values = [inputs]
        for i in range(0, len(self.weights), 2):
            sums = values[-1] @ self.weights[i].T + self.weights[i + 1]
            values.append(np.tanh(sums) if i + 2 < len(self.weights) else sums)
        return values

    def gradients(self, inputs: Floats, at_logits: Floats) -> list[Floats]:
        """Backpropagation for each example by itself.

        Args:
            inputs: (N, D)
            at_logits: the derivatives of some function by the logits, (N, C)

        Returns:
            its derivatives by each of `weights`, with the examples as the first axis
        """
        values, found = self.layers(inputs), list[Floats]()
        for i in reversed(range(0, len(self.weights), 2)):
            below = values[i // 2]
            found = [at_logits[:, :, None] * below[:, None, :], at_logits, *found]
            at_logits = (at_logits @ self.weights[i]) * (1 - below**2)  # tanh' = 1 - tanh²
        return found


def softmax(logits: Floats) -> Floats:
    """Probabilities (N, C)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
