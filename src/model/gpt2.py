"""GPT-2, from the outside in: the whole model first, then the layers it is made of, in the order the data takes.

The architecture is that of Radford et al., "Language Models are Unsupervised Multitask Learners" (2019). Modules have
the names of the public checkpoint, so that its tensors load one to one.

Shapes in comments: B batch, T new tokens, P tokens in the past, C = n_embd, nh = n_head, hd = C / nh, V = vocab_size.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.model.config import Config
from src.model.kv_cache import KVCache, attend


class GPT2(nn.Module):
    """The language model: token ids in, logits of the next token out."""

    def __init__(self, config: Config):
        super().__init__()
        self.transformer = Transformer(config)
        self.readout_head = LinearReadoutHead(self.transformer.wte.weight, config)
        self._draw_weights(config)
        self.to(getattr(torch, config.float_type))
        self.set_tied()

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        past: Sequence[KVCache] | None = None,
    ) -> tuple[Tensor, list[KVCache]]:
        """Logits of the token after each of `input_ids`, and the `past` for the next call.

        Args:
            input_ids: LongTensor (B, T): the tokens that follow those in `past`.
            position_ids: LongTensor (T,) or (B, T); by default, P to P + T - 1.
            token_type_ids: LongTensor (B, T); as in GPT-2, their token embeddings are added.
            past: what an earlier call returned as `presents`: one `KVCache` a layer. A past of batch 1 fits any B.

        Returns:
            logits (B, T, V) in float32, and presents, which stay valid whatever is computed from them later.

        Raises:
            ValueError: past and input_ids together exceed n_positions, or their batch sizes do not fit.
        """
        hidden_states, presents = self.transformer(input_ids, position_ids, token_type_ids, past)  # (B, T, C)
        return self.readout_head(hidden_states).float(), presents  # (B, T, V)

    def set_tied(self) -> None:
        """Make the readout head share the weight of the token embedding."""
        self.readout_head.set_embeddings_weights(self.transformer.wte.weight)

    def _draw_weights(self, config: Config) -> None:
        """Draw from N(0, initializer_range²), scaled by 1/√(2 n_layer) where a layer adds to the residual stream."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif ".ln_" not in name:
                scale = math.sqrt(2 * config.n_layer) if name.endswith("c_proj.weight") else 1.0
                nn.init.normal_(parameter, std=config.initializer_range / scale)


class Transformer(nn.Module):
    """Token ids to hidden states: embeddings, blocks, and a final layer norm."""

    def __init__(self, config: Config):
        super().__init__()
        self.n_positions = config.n_positions
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        past: Sequence[KVCache] | None = None,
    ) -> tuple[Tensor, list[KVCache]]:
        P, T = len(past[0]) if past else 0, input_ids.size(-1)
        self._check_length(P, T)
        if position_ids is None:
            position_ids = torch.arange(P, P + T, device=input_ids.device)
        x = self.wte(input_ids) + self.wpe(position_ids)  # (B, T, C)
        if token_type_ids is not None:
            x = x + self.wte(token_type_ids)
        presents = []
        for i, block in enumerate(self.h):
            x, present = block(x, past[i] if past else None)
            presents.append(present)
        return self.ln_f(x), presents

    def _check_length(self, P: int, T: int) -> None:
        if T == 0:
            raise ValueError("input_ids has no tokens; give the model a text that is not empty")
        if self.n_positions < P + T:
            raise ValueError(
                f"the text has {P + T} tokens ({P} in past, {T} in input_ids), but the model has only "
                f"{self.n_positions} positions; give it a shorter text"
            )


class Block(nn.Module):
    """Attention, then a feed-forward network; each reads a layer norm of x and adds its result to x."""

    def __init__(self, config: Config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, past: KVCache | None) -> tuple[Tensor, KVCache]:
        attended, present = self.attn(self.ln_1(x), past)  # (B, T, C)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), present


class Attention(nn.Module):
    """Causal self-attention with several heads."""

    def __init__(self, config: Config):
        super().__init__()
        self.n_head = config.n_head
        self.n_positions = config.n_positions
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, past: KVCache | None) -> tuple[Tensor, KVCache]:
        qkv = self.c_attn(x).unflatten(-1, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4)  # (3, B, nh, T, hd)
        if x.device.type == "cpu":
            qkv = qkv.float()  # on a CPU, batched products of few rows take longer in bfloat16
        query, key_value = qkv[0], qkv[1:]
        present = KVCache.of(key_value) if past is None else past.append(key_value, self.n_positions)  # P + T tokens
        y = attend(query, present)  # (B, nh, T, hd)
        return self.c_proj(y.transpose(1, 2).flatten(2).to(x.dtype)), present  # (B, T, C)


class MLP(nn.Module):
    """The feed-forward network, applied at each position."""

    def __init__(self, config: Config):
        super().__init__()
        self.c_fc = Conv1D(config.n_embd, 4 * config.n_embd)
        self.gelu = nn.GELU(approximate="tanh")
        self.c_proj = Conv1D(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.gelu(self.c_fc(x))  # (B, T, 4 C)
        out: Tensor = self.c_proj(hidden)  # (B, T, C)
        return out


class LinearReadoutHead(nn.Module):
    """Hidden states to logits, with the weight of the token embedding: the same tensor, not a copy."""

    def __init__(self, embeddings_weights: Tensor, config: Config):
        super().__init__()
        self.decoder = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.set_embeddings_weights(embeddings_weights)

    def set_embeddings_weights(self, embeddings_weights: Tensor) -> None:
        """Use the parameter `embeddings_weights` (V, C) from now on."""
        self.decoder.weight = embeddings_weights

    def forward(self, hidden_states: Tensor) -> Tensor:
        logits: Tensor = self.decoder(hidden_states)  # (B, T, C) -> (B, T, V)
        return logits


class Conv1D(nn.Module):
    """A linear layer whose weight is (in, out): in GPT-2's checkpoint, it is a convolution of width 1."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_out))

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.addmm(self.bias, x.flatten(0, -2), self.weight)  # (B * T, n_out)
        return rows.view(*x.shape[:-1], rows.size(1))  # (B, T, n_out)
