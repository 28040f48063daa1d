"""The two networks of the variational autoencoder."""

from torch import Tensor, nn
from torch.nn import functional as F

from src.hw10.mnist import PIXELS

LATENTS, HIDDEN = 64, 300
SMALLEST_VARIANCE = 1e-8


class VAE(nn.Module):
    """Maps images to a Gaussian over their latent variables, and latent variables to images."""

    def __init__(self, latents: int = LATENTS, hidden: int = HIDDEN):
        super().__init__()
        self.latents = latents
        self.encoder = _layers(PIXELS, hidden, 2 * latents)
        self.decoder = _layers(latents, hidden, PIXELS)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 784) → the mean and the variance of q(z | x), (B, Z) each."""
        mean, h = self.encoder(x).chunk(2, dim=-1)  # (B, Z) each
        return mean, F.softplus(h) + SMALLEST_VARIANCE

    def decode(self, z: Tensor) -> Tensor:
        """z (B, Z) → the logits of the pixels, (B, 784)."""
        logits: Tensor = self.decoder(z)
        return logits


def _layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU(), nn.Linear(hidden, outputs)
    )
