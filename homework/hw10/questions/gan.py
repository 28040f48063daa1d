"""Problem 3: generative adversarial networks.

The generator G makes images of noise, and the discriminator D says how likely an image is real: D(x) = σ(h(x)), where
the network returns the logits h(x). Each has a loss that it is trained to minimise. An expectation of
the handout is the mean over the batch here.
"""

if __name__ == "__main__":
    raise SystemExit("experiment.py runs this file; try: python experiment.py --model gan")

import torch
from torch import Tensor, nn


def loss_nonsaturating(
    g: nn.Module,  # the generator: z (B, Z) → images (B, 1, 28, 28)
    d: nn.Module,  # the discriminator: images → logits h (B, 1) or (B,), not probabilities
    x_real: Tensor,  # (B, 1, 28, 28), real images
    z: Tensor,  # (B, Z), noise
) -> tuple[Tensor, Tensor]:  # two scalars
    """The loss of the discriminator, and the non-saturating one of the generator.

        d_loss = -E[log D(x)] - E[log(1 - D(G(z)))]
        g_loss = -E[log D(G(z))]

    No gradients of d_loss may reach the generator. Both must stay right for large logits, such as 200 and -200, where
    log(σ(h)) is log(0).
    """
    # TODO 3c: compute `d_loss` and `g_loss`. Note that 1 - σ(h) = σ(-h).
    # torch.nn.functional has logsigmoid, and binary_cross_entropy_with_logits.
    ### START CODE HERE ###
    raise NotImplementedError("3c")
    ### END CODE HERE ###
    return d_loss, g_loss


def loss_minimax(
    g: nn.Module,  # as in `loss_nonsaturating`
    d: nn.Module,
    x_real: Tensor,  # (B, 1, 28, 28)
    z: Tensor,  # (B, Z)
) -> tuple[Tensor, Tensor]:  # two scalars
    """The loss of the discriminator, as before, and the minimax one of the generator.

        g_loss = E[log(1 - D(G(z)))]

    It must stay right for large logits, too.
    """
    # TODO 3d: compute `d_loss` and `g_loss`; `loss_nonsaturating` has one of them already.
    ### START CODE HERE ###
    raise NotImplementedError("3d")
    ### END CODE HERE ###
    return d_loss, g_loss
