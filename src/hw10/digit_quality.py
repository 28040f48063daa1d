"""How good digits are that a generative model has drawn, by the eyes of a small classifier.

The distance is Fréchet's between two Gaussians that are fitted to the classifier's features, as in Heusel et al., "GANs
trained by a two time-scale update rule converge to a local Nash equilibrium", 2017, where the features are Inception's.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.hw10.networks.digit_classifier import DigitClassifier

SURE: Final = 0.9


@dataclass(frozen=True)
class Quality:
    """What the classifier says of some images."""

    sure: float  # the share of those which it takes for one of the digits with a probability above `SURE`
    counts: tuple[int, ...]  # how many it takes for a 0, a 1, …, a 9
    entropy: float  # of these ten shares, in nats: log 10 = 2.303 where all are equal
    distance: float  # of its features to those of real images: 0 where both have the same mean and covariance


@torch.inference_mode()
def quality(classifier: DigitClassifier, images: Tensor, real: Tensor, shown: int | None = None) -> Quality:
    """The quality of the first `shown` of `images` (N, 1, 28, 28), or of all.

    The distance to `real` ones (M, 1, 28, 28) is that of all `images`: a few give no covariance.
    """
    features = classifier.features(images)
    probabilities = classifier.last(features[:shown]).softmax(dim=1)
    counts = torch.bincount(probabilities.argmax(dim=1), minlength=10)
    shares = counts[counts > 0] / counts.sum()
    return Quality(
        sure=(probabilities.amax(dim=1) > SURE).float().mean().item(),
        counts=tuple(counts.tolist()),
        entropy=abs((shares * shares.log()).sum().item()),
        distance=frechet_distance(_float64(features), _float64(classifier.features(real))),
    )


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """|μ_a - μ_b|² + tr(C_a + C_b - 2 (C_a C_b)^½) of the means and covariances of `a` (N, F) and `b` (M, F)."""
    difference = a.mean(axis=0) - b.mean(axis=0)
    of_a, of_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # C_a C_b has real eigenvalues ≥ 0, as C_a and C_b are such matrices; what rounding makes of them is cut off.
    roots = np.sqrt(np.linalg.eigvals(of_a @ of_b).real.clip(min=0))
    return float(difference @ difference + np.trace(of_a) + np.trace(of_b) - 2 * roots.sum())


def _float64(features: Tensor) -> NDArray[np.float64]:
    return features.double().cpu().numpy()
