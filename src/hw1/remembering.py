"""A GPT-2 that remembers what it computed for some texts, so that many submissions can be graded sooner.

Every submission is asked about the same texts. A fork server that serves many of them computes the hidden states of
these texts once, by itself; the workers that it forks then only look them up. Nothing that student code does gets into
this memory: each worker has a copy of its own. Whatever else a model is asked, or once its weights were touched, it
computes as always.
"""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from src.model.gpt2 import GPT2, Transformer
from src.model.kv_cache import KVCache

MAX_TEXTS = 500  # each takes about 1 MB


@dataclass(eq=False)
class _Memory:
    texts: dict[bytes, tuple[Tensor, list[Tensor]]]  # hash of a text → hidden states; keys and values of each layer
    state: Hashable  # of the module that computed them

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Memory":
        return self  # a copy of the model has weights of its own, for which nothing here is looked up


class RememberingTransformer(Transformer):
    """A transformer that looks up the hidden states of the texts in its `memory`."""

    memory: _Memory

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        past: Sequence[KVCache] | None = None,
    ) -> tuple[Tensor, list[KVCache]]:
        """As in `Transformer`."""
        if position_ids is None and token_type_ids is None and not past and input_ids.shape[:-1] == (1,):
            known = self.memory.texts.get(_key(input_ids))
            if known is not None and self.memory.state == _state(self):
                hidden_states, presents = known
                return hidden_states.clone(), [KVCache.of(present.clone()) for present in presents]
        return super().forward(input_ids, position_ids, token_type_ids, past)


def remember(model: GPT2, input_ids: Tensor) -> None:
    """Let `model` compute now what it will answer to the text `input_ids` (1, T)."""
    transformer = model.transformer
    if not isinstance(transformer, RememberingTransformer):
        transformer.__class__ = RememberingTransformer  # the same object, so whoever holds it goes on with it
        assert isinstance(transformer, RememberingTransformer)
        transformer.memory = _Memory({}, _state(transformer))
    texts, key = transformer.memory.texts, _key(input_ids)
    if key not in texts and len(texts) < MAX_TEXTS:
        with torch.no_grad():
            hidden_states, presents = transformer(input_ids)
        texts[key] = hidden_states, [present.own for present in presents]


def _key(input_ids: Tensor) -> bytes:
    """A hash, so that the memory does not tell which texts the tests are about."""
    return hashlib.sha256(repr(input_ids.flatten().tolist()).encode()).digest()


def _state(module: nn.Module) -> Hashable:
    """Changes when a weight is replaced or changed in place, or somebody hooks into the module."""
    weights = tuple((parameter.data_ptr(), parameter._version) for parameter in module.parameters())
    return weights, any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
