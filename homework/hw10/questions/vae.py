"""Problem 2: a variational autoencoder.

p(z) = N(0, I), and each pixel of an image is a coin: p(x | z) = Bernoulli(x | sigmoid(decode(z))). The approximate
posterior is q(z | x) = N(z | mean, diag(variance)), where (mean, variance) = encode(x).
"""

if __name__ == "__main__":
    raise SystemExit("experiment.py runs this file; try: python experiment.py --model vae")

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def kl_normal(
    qm: Tensor,  # (B, Z), the means of q
    qv: Tensor,  # (B, Z), its variances
    pm: Tensor,  # (B, Z), the means of p
    pv: Tensor,  # (B, Z), its variances
) -> Tensor:  # (B,)
    """KL(q || p) between two Gaussians with diagonal covariance, for each image of the batch, in nats."""
    return 0.5 * (pv.log() - qv.log() + (qv + (qm - pm) ** 2) / pv - 1).sum(dim=-1)


def log_bernoulli_with_logits(
    x: Tensor,  # (B, D), pixels, each 0 or 1
    logits: Tensor,  # (B, D); the probability of a 1 is sigmoid(logits)
) -> Tensor:  # (B,)
    """log p(x) of each image of the batch, in nats, where its pixels are independent."""
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=-1)


def sample_gaussian(
    m: Tensor,  # (B, Z), the means
    v: Tensor,  # (B, Z), the variances
) -> Tensor:  # (B, Z)
    """A sample of N(m, diag(v)) by the reparameterization trick: gradients flow through it to m and v.

    Each element of the result has noise of its own.
    """
    # TODO 2a: draw standard normal noise, then shift and scale it. torch.randn_like may help.
    ### START CODE HERE ###
    raise NotImplementedError("2a")
    ### END CODE HERE ###


def negative_elbo_bound(
    encode: Callable[
        [Tensor], tuple[Tensor, Tensor]
    ],  # x (B, 784) -> the mean and the variance of q(z | x), (B, Z) each
    decode: Callable[[Tensor], Tensor],  # z (B, Z) -> logits of the pixels, (B, 784)
    x: Tensor,  # (B, 784), images whose pixels are 0 or 1
) -> tuple[Tensor, Tensor, Tensor]:  # three scalars: the negative ELBO, the KL term and the reconstruction loss
    """The negative ELBO of a batch, and its two terms: the averages over the batch, in nats per image.

    -ELBO(x) = KL(q(z | x) || p(z)) - E_{z ~ q(z | x)} [log p(x | z)]

    One sample of z for each image estimates the expectation. Gradients flow from the result to both networks.
    """
    # TODO 2b: compute both terms with the functions above, and return (negative ELBO, KL, reconstruction loss).
    ### START CODE HERE ###
    raise NotImplementedError("2b")
    ### END CODE HERE ###
