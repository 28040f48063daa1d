"""Calls the functions of question 5: with a small classifier, with tensors to train, with streams of examples."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

STALE = 3.0  # every entry of a gradient that training has left behind
STRANGER = -1  # what stands in the memory and is none of the examples


class SmallNetwork(nn.Module):
    """The model of `src.hw10.small_classifier`."""

    def __init__(self, weights: Sequence[Tensor]):
        super().__init__()
        self.layers = nn.ModuleList()
        for matrix, bias in zip(weights[::2], weights[1::2], strict=True):
            layer = nn.Linear(matrix.size(1), matrix.size(0))
            layer.weight, layer.bias = nn.Parameter(matrix), nn.Parameter(bias)
            self.layers.append(layer)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) to logits (N, C)."""
        if images.dim() != 4:
            raise ValueError(f"the model takes a batch of images, (N, 1, H, W), not {tuple(images.shape)}")
        values = images.flatten(1)
        for i, layer in enumerate(self.layers):
            values = layer(torch.tanh(values) if i else values)
        return values


def fisher(
    function: Callable[..., Any], images: Tensor, labels: Tensor, is_trained: bool, *weights: Tensor
) -> tuple[Any, ...] | Any:
    """What the function returns for a model with these weights.

    Args:
        is_trained: whether gradients of an earlier step of training are stored in the model

    Returns:
        whether the weights have changed, or do not require a gradient any more; whether a result requires one; then
        each tensor of the list
    """
    model = SmallNetwork(weights)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters() if is_trained else ():
        parameter.grad = torch.full_like(parameter, STALE)
    found = function(model, images, labels)
    if not isinstance(found, (list, tuple)) or not all(isinstance(each, Tensor) for each in found):
        return found
    pairs = zip(model.parameters(), before, strict=True)
    is_same = all(torch.equal(now, was) and now.requires_grad for now, was in pairs)
    return int(not is_same), int(any(each.requires_grad for each in found)), *found


def penalty(function: Callable[..., Any], *tensors: Tensor) -> tuple[Any, ...] | Any:
    """The penalty and its gradients. The `tensors` are the parameters, as many anchors, and as many of the Fisher.

    Returns:
        whether one of the tensors has changed; the penalty; then the gradient of each parameter. What the function
        returns instead, where that is no scalar with a gradient.
    """
    count = len(tensors) // 3
    given = [nn.Parameter(each.clone(), i < count) for i, each in enumerate(tensors)]
    parameters, anchors, information = given[:count], given[count : 2 * count], given[2 * count :]
    value = function(parameters, [each.data for each in anchors], [each.data for each in information])
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        return value
    found = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
    gradients = [torch.zeros_like(p) if each is None else each for p, each in zip(parameters, found, strict=True)]
    is_same = all(torch.equal(now, was) for now, was in zip(given, tensors, strict=True))
    return int(not is_same), value.detach().reshape(()), *gradients


def streams(function: Callable[..., Any], capacity: int, repeats: int, *lengths: int) -> tuple[Any, ...] | Any:
    """What is in the memory after so many examples, for many streams of them.

    Returns:
        how many examples are in the memory at most; the first of `lengths` after which it holds something that is no
        example, or one of them twice, else 0; whether the function returns a list; then which examples the memory
        holds, by their place in the stream from 1 on, and 0 where there is room: (repeats, lengths, capacity)
    """
    images = torch.arange(1, max(lengths) + 1, dtype=torch.float32).reshape(-1, 1, 1, 1)
    examples = [(image, i % 10) for i, image in enumerate(images)]
    kept = torch.zeros(repeats, len(lengths), capacity, dtype=torch.int64)
    returns_list, odd = 0, 0
    for stream in kept:
        memory: list[Any] = []
        for seen, example in enumerate(examples, start=1):
            value = function(memory, example, seen, capacity)
            returns_list |= int(isinstance(value, list) and value is not memory)
            if len(memory) > capacity:
                return len(memory), seen, returns_list, kept
            if seen in lengths:
                places = [_place(each) for each in memory]
                stream[lengths.index(seen), : len(places)] = torch.tensor(places, dtype=torch.int64)
                odd = odd or (seen if STRANGER in places or len(set(places)) < len(places) else 0)
    return capacity, odd, returns_list, kept


def _place(example: Any) -> int:
    """Which example of the stream this is."""
    image = example[0] if isinstance(example, tuple) and len(example) == 2 else None
    return int(image) if isinstance(image, Tensor) and image.numel() == 1 else STRANGER
