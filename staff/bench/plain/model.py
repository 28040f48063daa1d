"""A GPT-2 as it is usually written for a course: correct, simple, and with a KV cache that grows by concatenation."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.model.config import Config

Past = list[tuple[Tensor, Tensor]]  # the keys and the values of each block, each (B, nh, S, hd)

# The checkpoint's names of the linear layers.
CHECKPOINT_NAMES = {"qkv": "attn.c_attn", "proj": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}


class PlainBlock(nn.Module):
    """A transformer block."""

    def __init__(self, config: Config):
        super().__init__()
        self.n_head, width = config.n_head, config.n_embd
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, T, C) -> (B, T, C), and the keys and values of all tokens so far."""
        B, T, C = x.shape
        q, k, v = self.qkv(self.ln_1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in (q, k, v))  # (B, nh, T, hd)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        S = k.size(2)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (B, nh, T, S)
        mask = torch.tril(torch.ones(S, S, dtype=torch.bool))[S - T :]
        scores = scores.masked_fill(~mask, float("-inf"))
        y = (F.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(B, T, C)
        x = x + self.proj(y)
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh")), (k, v)


class PlainGPT2(nn.Module):
    """A GPT-2 that is called as ours is: model(ids, past=past) returns (logits, past)."""

    def __init__(self, config: Config, weights: Mapping[str, Tensor]):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.blocks = nn.ModuleList(PlainBlock(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.head.weight = self.wte.weight
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                for layer, checkpoint_name in CHECKPOINT_NAMES.items():
                    name = name.replace(f".{layer}.", f".{checkpoint_name}.")
                tensor = weights[name.replace("blocks.", "h.")]
                parameter.copy_(tensor.mT if ".c_" in name and tensor.dim() == 2 else tensor)

    def forward(self, ids: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """(B, T) -> (B, T, vocab_size), and the past with which to go on."""
        start = past[0][0].size(2) if past else 0
        x = self.wte(ids) + self.wpe(torch.arange(start, start + ids.size(1)))
        presents = []
        for i, block in enumerate(self.blocks):
            x, present = block(x, past[i] if past else None)
            presents.append(present)
        return self.head(self.ln_f(x)), presents
