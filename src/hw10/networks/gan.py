"""The two networks of the GAN: deep convolutional ones, small enough for minutes on a laptop.

After Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional generative adversarial
networks", 2016, with fewer channels.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

Z: Final = 64  # numbers of noise that an image is made of
WIDTH: Final = 24  # channels at 14 × 14 pixels
SHIFT: Final = 2  # pixels by which the discriminator moves images


class Generator(nn.Module):
    """Noise (B, Z) → images (B, 1, 28, 28), from 0 for black to 1 for white."""

    def __init__(self, z: int = Z, width: int = WIDTH):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(z, 256, bias=False),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Linear(256, 2 * width * 49, bias=False),
            nn.BatchNorm1d(2 * width * 49),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, 7, 7)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )
        self.apply(_start_small)

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.layers(z)
        return images


class Discriminator(nn.Module):
    """Images (B, 1, 28, 28) → logits (B, 1) that say how real each looks."""

    def __init__(self, width: int = WIDTH):
        super().__init__()
        self.layers = nn.Sequential(
            Moved(),
            nn.Conv2d(1, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * 49, 128),
            nn.LeakyReLU(0.2),
            Deviation(),
            nn.Linear(128 + 1, 1),
        )
        self.apply(_start_small)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(2 * images - 1)
        return logits


class Moved(nn.Module):
    """Images (B, 1, 28, 28), from -1 for black to 1, all moved by the same few pixels while the network is trained.

    A few thousand images are so few that a discriminator soon knows them by heart; moved ones are new. After Zhao and
    others, "Differentiable augmentation for data-efficient GAN training", 2020.
    """

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return images
        height, width = images.shape[2:]
        top, left = torch.randint(0, 2 * SHIFT + 1, (2,)).tolist()
        return pad(images, (SHIFT,) * 4, value=-1.0)[:, :, top : top + height, left : left + width]


class Deviation(nn.Module):
    """Features (B, F) → (B, F + 1): the mean of their standard deviations over the batch beside them.

    A discriminator that sees how much the images of a batch differ does not let a generator draw the same all the time.
    After Karras and others, "Progressive growing of GANs", 2018.
    """

    def forward(self, features: Tensor) -> Tensor:
        deviation = features.var(dim=0, correction=0).add(1e-8).sqrt().mean()
        return torch.cat((features, deviation.expand(len(features), 1)), dim=1)


def _start_small(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0, 0.02)
