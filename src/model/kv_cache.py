"""The keys and values that the model has computed so far, and attention over them.

Shapes: B batch, T new tokens, P tokens of a shared prefix, S all tokens, nh heads, hd numbers per head.
"""

import functools
import math
import mmap
import sys
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LARGE = 2**21  # bytes of a large page


class Layout(NamedTuple):
    """Addresses of the first key and value, numbers from one text, head and token to the next, and sizes."""

    key: int
    value: int
    text: int
    head: int
    token: int
    batch: int
    n_head: int
    head_dim: int


@dataclass(eq=False)
class Storage:
    """Room for keys and values, which several caches may share."""

    tensor: Tensor  # (2, B, nh, capacity, hd): keys, values
    used: int  # how many of the `capacity` tokens have been written; never decreases

    @functools.cached_property
    def layout(self) -> Layout | None:
        """Where compiled code finds the numbers; None if they are not float32 in the CPU's memory."""
        tensor = self.tensor
        values, text, head, token, number = tensor.stride()
        if tensor.device.type != "cpu" or tensor.dtype != torch.float32 or number != 1:
            return None
        key = tensor.data_ptr()
        _, batch, n_head, _, head_dim = tensor.shape
        return Layout(key, key + values * tensor.element_size(), text, head, token, batch, n_head, head_dim)


class KVCache:
    """The keys and values of one attention layer; append-only.

    A cache is a length and a storage, which may be longer and may be shared with other caches. Appending to the cache
    that ends where the storage's used part ends writes in place, in amortised O(1); appending to any other cache
    copies it first. Nothing is ever overwritten, so a cache stays valid whatever is appended to it later, and several
    continuations can start from the same one. A storage is allocated for the longest text; the operating system
    provides the memory only as it is written.
    When a batch of K > 1 continuations starts from a cache of batch 1, that cache becomes their shared `prefix` and is
    not copied K times.
    """

    def __init__(self, storage: Storage, length: int, prefix: "KVCache | None" = None):
        self.storage = storage
        self.own_length = length
        self.prefix = prefix

    @classmethod
    def of(cls, key_value: Tensor, prefix: "KVCache | None" = None) -> "KVCache":
        """A cache that holds `key_value` (2, B, nh, T, hd) itself, not a copy."""
        length = key_value.size(3)
        return cls(Storage(key_value, length), length, prefix)

    def __len__(self) -> int:
        """The number of tokens, including the prefix."""
        return self.own_length + (self.prefix.own_length if self.prefix else 0)

    @property
    def own(self) -> Tensor:
        """Keys and values (2, B, nh, S - P, hd) without those of the prefix; a view."""
        return self.storage.tensor[:, :, :, : self.own_length]

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
        """A cache with `key_value` (2, B, nh, T, hd) appended; this one does not change.

        Args:
            n_positions: the most tokens that the cache will ever hold, for which a new storage has room.

        Raises:
            ValueError: the batch sizes differ, and that of this cache is not 1.
        """
        _, batch, _, T, _ = key_value.shape
        if self._begins(batch):
            return KVCache.of(key_value, prefix=self)
        present = self.extended(batch, T, n_positions)
        present.own[:, :, :, -T:] = key_value
        return present

    def extended(self, batch: int, T: int, n_positions: int) -> "KVCache":
        """A cache for `batch` texts with room for T more tokens, which the caller has to write. See `append`."""
        storage = self.storage
        _, own_batch, n_head, capacity, head_dim = storage.tensor.shape
        if self._begins(batch):
            return KVCache.of(storage.tensor.new_empty(2, batch, n_head, T, head_dim), prefix=self)
        if batch != own_batch:
            raise ValueError(f"past has batch size {own_batch}, input_ids has {batch}; they must agree")
        end = self.own_length + T
        # Outside inference mode, PyTorch does not allow writing to a tensor that was created in it.
        read_only = storage.tensor.is_inference() and not torch.is_inference_mode_enabled()
        if storage.used != self.own_length or end > capacity or read_only:
            storage = Storage(_reserve(storage.tensor, (2, batch, n_head, n_positions, head_dim)), end)
            storage.tensor[:, :, :, : self.own_length] = self.own
        storage.used = end
        return KVCache(storage, end, self.prefix)

    def _begins(self, batch: int) -> bool:
        """Whether this cache becomes the prefix of a batch of so many texts."""
        return batch > 1 and self.storage.tensor.size(1) == 1


def _reserve(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor of the type of `like`, without content, that takes memory only where it is written."""
    n_bytes = math.prod(shape) * like.element_size()
    if n_bytes < LARGE or like.device.type != "cpu" or sys.platform != "linux":
        return like.new_empty(shape)
    # Not from PyTorch: in its large pages (see memory.py), one more token may take as much memory as 500.
    memory = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(memory, dtype=like.dtype).view(shape)


def attend(query: Tensor, present: KVCache) -> Tensor:
    """Causal attention of the last T tokens in `present`, (B, nh, T, hd) -> (B, nh, T, hd).

    This is softmax(query keyᵀ / √hd) value, where the t-th of the T tokens sees only the first S - T + t of all S.
    """
    if present.prefix is not None:
        return _attend_with_prefix(query, present.prefix, present.own)
    if query.size(2) == 1:
        return _attend_one_token(query, present.own)
    T, S = query.size(2), len(present)
    key, value = present.own
    mask = None if T == S else _causal_mask(T, S, query.device)  # with no past, `is_causal` saves building a mask
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)


def _causal_mask(T: int, S: int, device: torch.device) -> Tensor:
    """(T, S), True where the t-th of the last T tokens may see the s-th of all S."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def _attend_one_token(query: Tensor, key_value: Tensor) -> Tensor:
    """Attention of one token, which sees all others, (B, nh, 1, hd) -> (B, nh, 1, hd).

    Two matrix-vector products; PyTorch's fused attention takes 1.2 times as long.
    """
    key, value = key_value.flatten(1, 2)  # (B * nh, S, hd) each
    scores = key @ (query / math.sqrt(query.size(3))).flatten(0, 1).mT  # (B * nh, S, 1)
    weights = scores.squeeze(2).unsqueeze(1).softmax(dim=-1)  # (B * nh, 1, S)
    y: Tensor = weights @ value  # (B * nh, 1, hd)
    return y.view_as(query)


def _attend_with_prefix(query: Tensor, prefix: KVCache, own: Tensor) -> Tensor:
    """Attention of a batch whose texts share `prefix` and go on with `own`, (B, nh, T, hd) -> (B, nh, T, hd).

    The prefix is read once, for the B * T queries of all texts together.
    """
    B, _, T, head_dim = query.shape
    prefix_key, prefix_value = prefix.own[:, 0]  # (nh, P, hd) each
    own_key, own_value = own  # (B, nh, S - P, hd) each
    query = query / math.sqrt(head_dim)

    folded = query.transpose(0, 1).flatten(1, 2)  # (nh, B * T, hd)
    prefix_scores = (folded @ prefix_key.mT).unflatten(1, (B, T)).transpose(0, 1)  # (B, nh, T, P)
    own_scores = query @ own_key.mT  # (B, nh, T, S - P)
    unseen = ~_causal_mask(T, own_key.size(2), query.device)
    scores = torch.cat((prefix_scores, own_scores.masked_fill(unseen, -math.inf)), dim=-1)
    weights = scores.float().softmax(dim=-1).to(query.dtype)  # (B, nh, T, S)

    P = prefix_key.size(1)
    from_prefix = weights[..., :P].transpose(0, 1).flatten(1, 2) @ prefix_value  # (nh, B * T, hd)
    y: Tensor = from_prefix.unflatten(1, (B, T)).transpose(0, 1) + weights[..., P:] @ own_value
    return y
