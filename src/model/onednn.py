"""Faster linear layers for inference on a CPU, with oneDNN, a library that is part of PyTorch.

Multiplying a few rows by a large weight takes as long as reading the weight from memory. oneDNN reads it at close to
the memory's full speed if it is stored in the blocked order of oneDNN's kernels, and not much slower otherwise. For 1
to 64 rows in float32, this is 1.3 to 3 times as fast as the kernel that PyTorch chooses by itself.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.model.gpt2 import GPT2, Conv1D

ROWS = 8  # that `compute_with_onednn` makes the number of rows a multiple of, where it is larger


class OneDNNLinear(nn.Module):
    """A linear layer, for inference only, that uses oneDNN for any number of rows.

    `weight` is (out, in), in either order of memory (see `reorder_weight`). `activation` is "none" or "gelu", which
    is GELU in its tanh approximation, computed together with the product.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str = "none"):
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.activation = activation

    def __deepcopy__(self, memo: dict[int, object]) -> "OneDNNLinear":
        return self  # a reordered weight cannot be copied, and need not be: it never changes

    def forward(self, x: Tensor) -> Tensor:  # (..., in) -> (..., out)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], "tanh")
        return y


def reorder_weight(weight: Tensor) -> nn.Parameter:
    """A copy of `weight` (out, in) in the blocked order of oneDNN's kernels: an opaque tensor of the same shape."""
    return nn.Parameter(torch.ops.mkldnn._reorder_linear_weight(weight), requires_grad=False)


def is_supported(dtype: torch.dtype) -> bool:
    """Whether oneDNN has fast kernels for weights of type `dtype` on this processor."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def use_onednn(model: GPT2) -> None:
    """Replace each linear layer of `model`, which must be on the CPU, by a `OneDNNLinear`."""
    # All transposed weights are written to one buffer. With a buffer each, memory becomes so fragmented that a fifth of
    # the model's size stays unusable.
    largest = max(module.weight.numel() for module in model.modules() if isinstance(module, Conv1D))
    buffer = torch.empty(largest, dtype=model.transformer.wte.weight.dtype)
    for name in [name for name, module in model.named_modules() if isinstance(module, Conv1D)]:
        layer = model.get_submodule(name)
        assert isinstance(layer, Conv1D)
        transposed = buffer[: layer.weight.numel()].view(layer.weight.mT.shape).copy_(layer.weight.mT)
        activation = "gelu" if name.endswith("mlp.c_fc") else "none"
        model.set_submodule(name, OneDNNLinear(reorder_weight(transposed), layer.bias, activation))
    for block in model.transformer.h:
        block.set_submodule("mlp.gelu", nn.Identity())
    # The embedding looks rows up, and needs them in their usual order: from here on, there are two copies.
    readout = OneDNNLinear(reorder_weight(model.transformer.wte.weight), None)
    model.readout_head.set_submodule("decoder", readout)


def compute_with_onednn(model: GPT2) -> None:
    """Let oneDNN compute the linear layers of `model`, whose modules and weights all stay as they are.

    For whoever looks at the weights, copies or changes them. It brings most of what `use_onednn` brings where the rows
    are many; a gradient, or another type of number, is left to PyTorch's usual kernels.
    """
    for module in model.modules():
        if isinstance(module, Conv1D):
            module.__class__ = _Conv1D  # the same object, so whoever holds it goes on with it
    model.readout_head.decoder.__class__ = _Linear


class _Conv1D(Conv1D):
    def forward(self, x: Tensor) -> Tensor:
        return _linear(x, self.weight.mT, self.bias) if _can_take(x, self.weight) else super().forward(x)


class _Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return _linear(x, self.weight, self.bias) if _can_take(x, self.weight) else super().forward(x)


def _can_take(x: Tensor, weight: Tensor) -> bool:
    needs_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return x.dtype == weight.dtype == torch.float32 and x.numel() > 0 and not needs_gradient


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weightᵀ + bias, with x (..., in) and weight (out, in)."""
    rows = x.flatten(0, -2)
    # oneDNN compiles a kernel for each number of rows, which takes as long as a few products: so there are few numbers.
    count = len(rows) if len(rows) <= ROWS else -(-len(rows) // ROWS) * ROWS
    padded = functional.pad(rows, (0, 0, 0, count - len(rows)))
    y: Tensor = torch.ops.mkldnn._linear_pointwise(padded, weight, bias, "none", [], "")
    return y[: len(rows)].view(*x.shape[:-1], y.size(1))
