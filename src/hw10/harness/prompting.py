"""Calls the functions of problem 1 with a small language model, whose weights come from the grader."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST = 100  # things in a list of parameters that are looked at


class ElmanLM(nn.Module):
    """The model of `src.hw10.small_lm`, with the interface of questions/prompting.py."""

    def __init__(self, weights: Iterable[Tensor], is_trainable: bool = True):
        super().__init__()
        embedding, places, recurrence, readout = weights
        self.embedding = nn.Parameter(embedding, is_trainable)
        self.places = nn.Parameter(places, is_trainable)
        self.recurrence = nn.Parameter(recurrence, is_trainable)
        self.readout = nn.Parameter(readout, is_trainable)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to embeddings (B, T, E)."""
        return F.embedding(ids, self.embedding)

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, T, E) to logits (B, T, V)."""
        width = self.recurrence.size(0)
        if embeddings.dim() != 3 or embeddings.size(2) != width:
            raise ValueError(f"logits_of needs embeddings (B, T, {width}), not {tuple(embeddings.shape)}")
        vectors = embeddings.to(self.readout.dtype).unbind(dim=1)
        state, states = torch.zeros_like(vectors[0]), []
        for place, vector in zip(self.places, vectors, strict=False):
            state = torch.tanh(state @ self.recurrence + vector + place)
            states.append(state)
        return torch.stack(states, dim=1) @ self.readout

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, T, V)."""
        return self.logits_of(self.embed(ids))


def label_log_likelihood(function: Callable[..., Any], *arguments: Tensor) -> Any:
    """What the function returns; `arguments` are the model's weights, the prompt (1, P) and the label (1, L)."""
    *weights, prompt, label = arguments
    return function(ElmanLM(weights), prompt, label)


def trained(function: Callable[..., Any], *arguments: Tensor) -> Any:
    """What is in the returned list, as numbers, after the function got a model and a soft prompt (K, E).

    Returns:
        how often the prompt itself is in it, how many of the model's parameters are, how many other things are; how
        many of the model's parameters still require a gradient; whether the prompt does; whether the model's
        weights are what they were
    """
    *weights, prompt = arguments
    model, soft_prompt = ElmanLM(weights), nn.Parameter(prompt)
    before = _copies(model)
    value = function(model, soft_prompt)
    if isinstance(value, (Tensor, str, dict)) or not isinstance(value, Iterable):
        return value
    found = list(itertools.islice(value, MOST))
    own = list(model.parameters())
    of_prompt = sum(each is soft_prompt for each in found)
    of_model = sum(any(each is parameter for parameter in own) for each in found)
    trainable = sum(parameter.requires_grad for parameter in own)
    others = len(found) - of_prompt - of_model
    return of_prompt, of_model, others, trainable, int(soft_prompt.requires_grad), int(_is_same(model, before))


def logits(function: Callable[..., Any], *arguments: Tensor) -> Any:
    """What the function returns for a frozen model, a soft prompt (K, E) and token ids (B, T)."""
    *weights, soft_prompt, ids = arguments
    return function(ElmanLM(weights, False), nn.Parameter(soft_prompt), ids)


def gradient(function: Callable[..., Any], *arguments: Tensor) -> Any:
    """The gradients of Σ directions · logits, for a frozen model.

    `arguments` end with the soft prompt (K, E), ids (B, T) and directions (B, T, V).

    Returns:
        the logits (B, T, V); the gradient of the soft prompt (K, E), zeros where there is none; whether there is one;
        whether the model is what it was: no gradient, none required, the same weights
    """
    *weights, prompt, ids, directions = arguments
    model, soft_prompt = ElmanLM(weights, False), nn.Parameter(prompt)
    before = _copies(model)
    value = function(model, soft_prompt, ids)
    if not isinstance(value, Tensor) or not value.requires_grad or value.shape != directions.shape:
        return value
    (value * directions).sum().backward()  # type: ignore[no-untyped-call]
    is_untouched = all(each.grad is None and not each.requires_grad for each in model.parameters())
    gradient = torch.zeros_like(prompt) if soft_prompt.grad is None else soft_prompt.grad
    return value.detach(), gradient, int(soft_prompt.grad is not None), int(is_untouched and _is_same(model, before))


def _copies(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def _is_same(model: nn.Module, before: Iterable[Tensor]) -> bool:
    return all(torch.equal(now, was) for now, was in zip(model.parameters(), before, strict=True))
