"""Calls the functions of problem 2 with networks that record what goes through them."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

SAMPLER = "sample_gaussian"  # the function of 2a, which 2b calls


def sample_gradient(function: Callable[..., Any], m: Tensor, v: Tensor, directions: Tensor) -> Any:
    """The gradient of Σ directions · sample, all of shape (B, Z).

    Returns:
        the sample; its gradients by m and by v, each None where none flows
    """
    leaves = [m.requires_grad_(), v.requires_grad_()]
    value = function(*(leaf.clone() for leaf in leaves))
    if not isinstance(value, Tensor) or value.shape != directions.shape:
        return value
    return value.detach(), *_gradients((value * directions).sum(), leaves)


def elbo(function: Callable[..., Any], *arguments: Tensor) -> Any:
    """What the function returns for two small networks, and what goes through them.

    The encoder's mean is x @ to_mean, the logarithm of its variance x @ to_log_variance; the decoder's logits are
    z @ to_logits. Where the function asks sample_gaussian for a sample of the encoder's Gaussian, it gets `z`, so that
    mistakes in 2a do not matter. The sample's derivatives are 1 by the mean and `slope` by the variance.

    Args:
        arguments: images x (B, 784); to_mean and to_log_variance (784, Z); to_logits (Z, 784); z and slope (B, Z)

    Returns:
        the three values that the function returned; all that went into the decoder, (N, Z); the gradients of the first
        value by the three matrices, None where none flows
    """
    x, to_mean, to_log_variance, to_logits, z, slope = arguments
    weights = [weight.requires_grad_() for weight in (to_mean, to_log_variance, to_logits)]
    decoded: list[Tensor] = []

    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        images = images.to(to_mean.dtype)
        return images @ to_mean, (images @ to_log_variance).exp()

    def decode(latents: Tensor) -> Tensor:
        decoded.append(latents.detach().reshape(-1, z.size(1)))
        return latents.to(to_logits.dtype) @ to_logits

    sampler = _Sampler([each.detach() for each in encode(x)], z, slope)
    with _sampler_replaced(function, sampler):
        value = function(encode, decode, x)
    is_several = isinstance(value, (tuple, list)) or (isinstance(value, Tensor) and value.dim() == 1)
    if not is_several or len(value) != 3:
        return value
    latents = torch.cat(decoded) if decoded else z[:0]
    return *value, latents, *_gradients(value[0], weights)


def _gradients(value: Any, leaves: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """The gradients of `value`, which should be one number, by each of the leaves."""
    if not isinstance(value, Tensor) or not value.requires_grad or value.numel() != 1:
        return [None for _ in leaves]
    return torch.autograd.grad(value.reshape(()), leaves, allow_unused=True)


class _Sampler:
    """Gives `z`, with known derivatives, to whoever asks for a sample of one Gaussian; else calls the student's own."""

    def __init__(self, of: Sequence[Tensor], z: Tensor, slope: Tensor):
        self.of = of
        self.z = z
        self.slope = slope
        self.own: Callable[..., Any] | None = None

    def __call__(self, m: Tensor, v: Tensor) -> Any:
        is_known = all(
            isinstance(given, Tensor) and given.shape == right.shape and torch.allclose(given.to(right), right)
            for given, right in zip((m, v), self.of, strict=True)
        )
        if not is_known:
            assert self.own is not None
            return self.own(m, v)
        return self.z + (m - m.detach()) + self.slope * (v - v.detach())


@contextmanager
def _sampler_replaced(function: Callable[..., Any], sampler: _Sampler) -> Iterator[None]:
    """The student's file has `sampler` in the place of its own one."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    sampler.own = getattr(module, SAMPLER, None)
    if module is None or sampler.own is None:
        yield
        return
    setattr(module, SAMPLER, sampler)
    try:
        yield
    finally:
        setattr(module, SAMPLER, sampler.own)
