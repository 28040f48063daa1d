"""The network of the diffusion model: a small U-Net, after Ho, Jain and Abbeel, "Denoising diffusion probabilistic
models", 2020. It takes each 2 × 2 pixels as four channels, which makes it fast enough for a CPU.
"""

from typing import Final

import torch
from torch import LongTensor, Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

WIDE: Final = 32  # channels at 14 × 14
DEEP: Final = 64  # channels at 7 × 7
TIME: Final = 64  # numbers that tell the layers which step it is
WAVES: Final = 16
GROUPS: Final = 8


class Denoiser(nn.Module):
    """Noisy images (B, 1, 28, 28) and the step of each (B,) → a guess of the images without noise (B, 1, 28, 28).

    Args:
        steps: T; the steps go from 0 to T - 1
    """

    frequencies: Tensor

    def __init__(self, steps: int, wide: int = WIDE, deep: int = DEEP):
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0, 3, WAVES) / steps)
        self.time = nn.Sequential(nn.Linear(2 * WAVES, TIME), nn.SiLU(), nn.Linear(TIME, TIME), nn.SiLU())
        self.first = nn.Conv2d(4, wide, 3, padding=1)
        self.before = Block(wide)
        self.down = nn.Conv2d(wide, deep, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(deep) for _ in range(2))
        self.up = nn.ConvTranspose2d(deep, wide, 2, stride=2)
        self.join = nn.Conv2d(2 * wide, wide, 1)
        self.after = Block(wide)
        self.last = nn.Sequential(nn.GroupNorm(GROUPS, wide), nn.SiLU(), nn.Conv2d(wide, 4, 3, padding=1))

    def forward(self, images: Tensor, t: LongTensor) -> Tensor:
        angles = (t[:, None] + 1) * self.frequencies
        time = self.time(torch.cat((angles.sin(), angles.cos()), dim=1))  # (B, TIME)
        wide = self.before(self.first(pixel_unshuffle(images, 2)), time)  # (B, WIDE, 14, 14)
        deep = self.down(wide)  # (B, DEEP, 7, 7)
        for block in self.blocks:
            deep = block(deep, time)
        joined = self.join(torch.cat((self.up(deep), wide), dim=1))  # (B, WIDE, 14, 14)
        return pixel_shuffle(self.last(self.after(joined, time)), 2)


class Block(nn.Module):
    """Two convolutions beside a shortcut; the step scales and shifts the channels between them."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm_1, self.norm_2 = nn.GroupNorm(GROUPS, channels), nn.GroupNorm(GROUPS, channels)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear(TIME, 2 * channels)
        _start_at_0(self.conv_2)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        inner = self.norm_2(self.conv_1(silu(self.norm_1(x)))) * (1 + scale) + shift
        change: Tensor = self.conv_2(silu(inner))
        return x + change


def _start_at_0(layer: nn.Conv2d) -> None:
    """So that a block with a shortcut starts as the shortcut alone."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
