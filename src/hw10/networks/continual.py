"""The two classifiers that learn one task after the other: a convolutional network, and one that sees no neighbours."""

from collections.abc import Callable, Mapping
from typing import Final

from torch import nn

CLASSES: Final = 10


def cnn() -> nn.Sequential:
    """Images (N, 1, 28, 28) → logits (N, 10): two convolutions, then a linear layer; 29,000 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),  # (N, 16, 14, 14)
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),  # (N, 32, 7, 7)
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, CLASSES),
    )


def mlp() -> nn.Sequential:
    """Images (N, 1, 28, 28) → logits (N, 10): two hidden layers of 100 units; 90,000 parameters."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 100),
        nn.ReLU(),
        nn.Linear(100, 100),
        nn.ReLU(),
        nn.Linear(100, CLASSES),
    )


NETWORKS: Final[Mapping[str, Callable[[], nn.Sequential]]] = {"CNN": cnn, "MLP": mlp}
