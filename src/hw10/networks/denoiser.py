"""The network of the diffusion model: a small U-Net with attention, after Ho, Jain and Abbeel, "Denoising diffusion
probabilistic models", 2020, on images whose 2 × 2 pixels are taken as channels. That makes it fast enough for a CPU.
"""

import math
from typing import Final

import torch
from torch import LongTensor, Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, scaled_dot_product_attention, silu

WIDE: Final = 32  # channels at 14 × 14
DEEP: Final = 64  # channels at 7 × 7
TIME: Final = 64  # numbers that tell the layers which step it is
WAVES: Final = 16
GROUPS, HEADS = 8, 4


class Denoiser(nn.Module):
    """Noisy images (B, 1, 28, 28) and the step of each (B,) → as many numbers (B, 1, 28, 28), a guess of what is asked.

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
        self.blocks = nn.ModuleList(Block(deep) for _ in range(3))
        self.attentions = nn.ModuleList(Attention(deep) for _ in range(2))
        self.up = nn.ConvTranspose2d(deep, wide, 2, stride=2)
        self.join = nn.Conv2d(2 * wide, wide, 1)
        self.after = Block(wide)
        self.last = nn.Sequential(nn.GroupNorm(GROUPS, wide), nn.SiLU(), nn.Conv2d(wide, 4, 3, padding=1))

    def forward(self, images: Tensor, t: LongTensor) -> Tensor:
        angles = (t[:, None] + 1) * self.frequencies
        time = self.time(torch.cat((angles.sin(), angles.cos()), dim=1))  # (B, TIME)
        wide = self.before(self.first(pixel_unshuffle(images, 2)), time)  # (B, WIDE, 14, 14)
        deep = self.blocks[0](self.down(wide), time)  # (B, DEEP, 7, 7)
        for attention, block in zip(self.attentions, self.blocks[1:], strict=True):
            deep = block(attention(deep), time)
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


class Attention(nn.Module):
    """Each of the 7 × 7 places looks at all others, beside a shortcut: strokes must meet across the image."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.places = nn.Parameter(torch.randn(channels, 7, 7) / math.sqrt(channels))
        self.queries_keys_values = nn.Conv2d(channels, 3 * channels, 1)
        self.last = nn.Conv2d(channels, channels, 1)
        _start_at_0(self.last)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.queries_keys_values(self.norm(x) + self.places)  # (B, 3 C, 7, 7)
        split = mixed.unflatten(1, (3, HEADS, -1)).flatten(4).transpose(3, 4)  # (B, 3, HEADS, 49, C / HEADS)
        seen = scaled_dot_product_attention(*split.unbind(dim=1))  # (B, HEADS, 49, C / HEADS)
        change: Tensor = self.last(seen.transpose(2, 3).reshape(x.shape))
        return x + change


def _start_at_0(layer: nn.Conv2d) -> None:
    """So that a block with a shortcut starts as the shortcut alone."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
