"""GPT-2, from the token ids up, in the order in which data flows.

The architecture is that of Radford et al., "Language Models are Unsupervised Multitask Learners" (2019). The modules
carry the names of the public checkpoint, so that its tensors load one to one.

Shapes in the comments: B batch, T new tokens, P tokens in the past, S = P + T, C = n_embd, nh = n_head, hd = C / nh.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.config import Config


@dataclass(eq=False)
class _Storage:
    tensor: Tensor  # (2, B, nh, capacity, hd): keys, values
    used: int  # how much of the capacity holds tokens; only ever grows


class KVCache:
    """The keys and values that one attention layer has computed so far; append-only.

    A cache is a length and a storage that may hold more. Appending to the cache that ends where the storage's used part
    ends writes in place, in O(1); appending to any other copies first. What was written is never overwritten: every
    cache that was handed out stays valid, and different continuations can start from the same one. A storage has room
    for the longest text; the system gives it memory only as it is used.
    When K > 1 continuations grow from a cache of batch 1, it becomes their shared `prefix`, and is not copied K times.
    """

    def __init__(self, storage: _Storage, length: int, prefix: "KVCache | None" = None):
        self._storage = storage
        self._length = length
        self.prefix = prefix

    @classmethod
    def of(cls, key_value: Tensor, prefix: "KVCache | None" = None) -> "KVCache":
        """A cache that holds `key_value` (2, B, nh, T, hd), without a copy."""
        length = key_value.size(3)
        return cls(_Storage(key_value, length), length, prefix)

    def __len__(self) -> int:
        """The number of tokens, the prefix included."""
        return self._length + (self.prefix._length if self.prefix else 0)

    @property
    def own(self) -> Tensor:
        """Keys and values (2, B, nh, T, hd), the prefix left out; a view."""
        return self._storage.tensor[:, :, :, : self._length]

    @property
    def key(self) -> Tensor:
        """All keys (B, nh, S, hd); a view unless there is a prefix."""
        return self._with_prefix()[0]

    @property
    def value(self) -> Tensor:
        """All values (B, nh, S, hd); a view unless there is a prefix."""
        return self._with_prefix()[1]

    def _with_prefix(self) -> Tensor:
        if self.prefix is None:
            return self.own
        return torch.cat((self.prefix.own.expand(-1, self.own.size(1), -1, -1, -1), self.own), dim=3)

    def append(self, key_value: Tensor, n_positions: int) -> "KVCache":
        """A cache longer by `key_value` (2, B, nh, T, hd), of at most `n_positions` tokens; this one stays as it is.

        Raises:
            ValueError: the batch sizes differ and this cache's is not 1.
        """
        storage = self._storage
        _, batch, n_head, capacity, head_dim = storage.tensor.shape
        if batch == 1 and key_value.size(1) > 1:
            return KVCache.of(key_value, prefix=self)
        if batch != key_value.size(1):
            raise ValueError(f"past has batch size {batch}, input_ids has {key_value.size(1)}; they must agree")
        end = self._length + key_value.size(3)
        # PyTorch forbids writing to a tensor that was made in inference mode from outside of it.
        frozen = storage.tensor.is_inference() and not torch.is_inference_mode_enabled()
        if storage.used != self._length or end > capacity or frozen:
            storage = _Storage(key_value.new_empty(2, batch, n_head, n_positions, head_dim), end)
            storage.tensor[:, :, :, : self._length] = self.own
        storage.tensor[:, :, :, self._length : end] = key_value
        storage.used = end
        return KVCache(storage, end, self.prefix)


class Conv1D(nn.Module):
    """A linear layer whose weight is (in, out), as in GPT-2's checkpoint, where it was a convolution of width 1."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_out))

    def forward(self, x: Tensor) -> Tensor:  # (..., n_in) -> (..., n_out)
        return torch.addmm(self.bias, x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: Config):
        super().__init__()
        self.n_head = config.n_head
        self.n_positions = config.n_positions
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, past: KVCache | None) -> tuple[Tensor, KVCache]:
        query_key_value = self.c_attn(x).unflatten(-1, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4)  # (3, B, nh, T, hd)
        if x.device.type == "cpu":
            query_key_value = query_key_value.float()  # batched products of few rows take longer in bfloat16 there
        query, key_value = query_key_value[0], query_key_value[1:]
        present = KVCache.of(key_value) if past is None else past.append(key_value, self.n_positions)
        T, S = x.size(1), len(present)
        if present.prefix is not None:
            y = _attend_with_prefix(query, present)
        elif T == 1:
            y = _attend_with_one(query, *present.own)
        else:
            mask = None if T == S else _causal_mask(T, S, x.device)  # the plain triangle needs no storing
            y = F.scaled_dot_product_attention(query, *present.own, attn_mask=mask, is_causal=mask is None)
        return self.c_proj(y.transpose(1, 2).flatten(2).to(x.dtype)), present  # (B, T, C)


def _causal_mask(T: int, S: int, device: torch.device) -> Tensor:
    """True where the t-th of the T last tokens may look at the s-th of all S."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def _attend_with_one(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one new token, which sees everything, (B, nh, 1, hd) -> (B, nh, 1, hd).

    As matrix-vector products: PyTorch's fused attention takes 1.2 times as long for them.
    """
    scores = key.flatten(0, 1) @ (query / math.sqrt(query.size(3))).flatten(0, 1).mT  # (B * nh, S, 1)
    weights = scores.squeeze(2).unsqueeze(1).softmax(dim=-1)  # (B * nh, 1, S)
    return (weights @ value.flatten(0, 1)).view_as(query)


def _attend_with_prefix(query: Tensor, present: KVCache) -> Tensor:
    """Attention of a batch whose members share the cache's prefix, (B, nh, T, hd) -> (B, nh, T, hd).

    The prefix is read once: all B * T queries meet it as if they were a single sequence.
    """
    B, _, T, head_dim = query.shape
    prefix_key, prefix_value = present.prefix.own[:, 0]  # (nh, P, hd) each
    own_key, own_value = present.own  # (B, nh, S - P, hd) each
    query = query / math.sqrt(head_dim)

    folded = query.transpose(0, 1).flatten(1, 2)  # (nh, B * T, hd)
    prefix_scores = (folded @ prefix_key.mT).unflatten(1, (B, T)).transpose(0, 1)  # (B, nh, T, P)
    own_scores = query @ own_key.mT  # (B, nh, T, S - P)
    hidden = ~_causal_mask(T, own_key.size(2), query.device)
    scores = torch.cat((prefix_scores, own_scores.masked_fill(hidden, -math.inf)), dim=-1)
    weights = scores.float().softmax(dim=-1).to(query.dtype)  # (B, nh, T, S)

    prefix_weights, own_weights = weights.split((prefix_key.size(1), own_key.size(2)), dim=-1)
    from_prefix = prefix_weights.transpose(0, 1).flatten(1, 2) @ prefix_value  # (nh, B * T, hd)
    return from_prefix.unflatten(1, (B, T)).transpose(0, 1) + own_weights @ own_value


class MLP(nn.Module):
    """The position-wise feed-forward network."""

    def __init__(self, config: Config):
        super().__init__()
        self.c_fc = Conv1D(config.n_embd, 4 * config.n_embd)
        self.gelu = nn.GELU(approximate="tanh")
        self.c_proj = Conv1D(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self.c_proj(self.gelu(self.c_fc(x)))


class Block(nn.Module):
    """Attention, then the feed-forward network, each on normalised input and added to the residual stream."""

    def __init__(self, config: Config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, past: KVCache | None) -> tuple[Tensor, KVCache]:
        attended, present = self.attn(self.ln_1(x), past)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), present


class Transformer(nn.Module):
    """Token ids to hidden states: the embeddings, the blocks, and a last normalisation."""

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
        P, T = (len(past[0]) if past else 0), input_ids.size(-1)
        if T == 0:
            raise ValueError("input_ids has no tokens; give the model a text that is not empty")
        if self.n_positions < P + T:
            raise ValueError(
                f"the text has {P + T} tokens ({P} in past, {T} in input_ids), but the model has only "
                f"{self.n_positions} positions; give it a shorter text"
            )
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


class LinearReadoutHead(nn.Module):
    """Hidden states to logits, with the token embedding's own weight: the same tensor, not a copy."""

    def __init__(self, embeddings_weights: nn.Parameter, config: Config):
        super().__init__()
        self.decoder = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.set_embeddings_weights(embeddings_weights)

    def set_embeddings_weights(self, embeddings_weights: nn.Parameter) -> None:
        """Read out with `embeddings_weights` (vocab_size, C) from now on."""
        self.decoder.weight = embeddings_weights

    def forward(self, hidden_states: Tensor) -> Tensor:  # (B, T, C) -> (B, T, vocab_size)
        return self.decoder(hidden_states)


class GPT2(nn.Module):
    """The language model: token ids in, logits of each next token out.

    Weights are drawn as GPT-2's were: from N(0, initializer_range), divided by sqrt(2 n_layer) where they lead back to
    the residual stream (section 2.3 of the paper). `config.dtype` is that of the weights and of the arithmetic.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.transformer = Transformer(config)
        self.readout_head = LinearReadoutHead(self.transformer.wte.weight, config)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif ".ln_" not in name:
                scale = math.sqrt(2 * config.n_layer) if name.endswith("c_proj.weight") else 1.0
                nn.init.normal_(parameter, std=config.initializer_range / scale)
        self.to(getattr(torch, config.dtype))
        self.set_tied()

    def set_tied(self) -> None:
        """Make the readout share the embedding's weight."""
        self.readout_head.set_embeddings_weights(self.transformer.wte.weight)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        past: Sequence[KVCache] | None = None,
    ) -> tuple[Tensor, list[KVCache]]:
        """Logits of the token after each of `input_ids`, and the `past` with which to go on.

        Args:
            input_ids: LongTensor (B, T): the tokens that follow those in `past`.
            position_ids: LongTensor (T,) or (B, T); counted on from the past by default.
            token_type_ids: LongTensor (B, T); their embeddings are added to the tokens', as GPT-2 does.
            past: what an earlier call returned as `presents`: a `KVCache` a layer. A past of batch 1 serves any B.

        Returns:
            logits (B, T, vocab_size) in float32, and presents, which stays valid whatever is computed from it later.

        Raises:
            ValueError: past and input_ids are longer than n_positions together, or their batch sizes don't fit.
        """
        hidden_states, presents = self.transformer(input_ids, position_ids, token_type_ids, past)
        return self.readout_head(hidden_states).float(), presents
