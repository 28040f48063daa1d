"""The model's linear layers for fast inference on a CPU.

The product of a few rows with a large weight takes as long as reading the weight. oneDNN, a library within PyTorch,
reads it nearly at the memory's speed if it lies in the blocked order of oneDNN's kernels, and not much slower if not:
for 1 to 64 rows in float32, 1.3 to 3 times as fast as PyTorch's own choice of kernel.
"""

import torch
from torch import Tensor, nn

from src.gpt2 import GPT2


class OneDNNLinear(nn.Module):
    """A linear layer, for inference alone, that multiplies with oneDNN whatever the number of rows.

    `weight` is (out, in), or what `packed` made of it. `activation` is "none", or "gelu" for GELU in the tanh
    approximation, computed along with the product.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, activation: str = "none"):
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.activation = activation

    def __deepcopy__(self, memo: dict) -> "OneDNNLinear":
        return self  # opaque tensors cannot be copied that way, and this one never changes

    def forward(self, x: Tensor) -> Tensor:  # (..., in) -> (..., out)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], "tanh")


def packed(weight: Tensor) -> Tensor:
    """`weight` (out, in) in the order of oneDNN's kernels, as an opaque tensor of the same shape."""
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this machine has oneDNN's kernels for weights of this type."""
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pack(model: GPT2) -> None:
    """Replace each linear layer of `model`, which is on the CPU, by a `OneDNNLinear`."""
    # One place for all transposed weights: a new one each time leaves gaps in memory, a fifth of the model's size.
    place = torch.empty_like(model.transformer.h[0].mlp.c_fc.weight).flatten()
    for block in model.transformer.h:
        for module, name, activation in (
            (block.attn, "c_attn", "none"),
            (block.attn, "c_proj", "none"),
            (block.mlp, "c_fc", "gelu"),
            (block.mlp, "c_proj", "none"),
        ):
            linear = getattr(module, name)
            transposed = place[: linear.weight.numel()].view(linear.weight.mT.shape).copy_(linear.weight.mT)
            weight = nn.Parameter(packed(transposed), requires_grad=False)
            setattr(module, name, OneDNNLinear(weight, linear.bias, activation))
        block.mlp.gelu = nn.Identity()
    # The readout's weight is the embedding, in which rows are looked up. A packed copy beside it would make GPT-2 small
    # 8% faster, but 154 MB larger; in bfloat16, 20% and 77 MB.
    embedding = model.transformer.wte.weight
    if embedding.dtype != torch.float32:
        embedding = nn.Parameter(packed(embedding), requires_grad=False)
    model.readout_head.decoder = OneDNNLinear(embedding, None)
