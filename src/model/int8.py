"""Linear layers with weights in int8, for inference only: a quarter of the memory, and of the time to read it.

A weight is a whole number from -127 to 127 times a scale, which GROUP inputs of one output share, such that the largest
of them becomes ±127. What is multiplied with it stays in float32. This is the quantization that llama.cpp calls q8_0,
with groups twice as long. Without the compiled code of `compiled.py`, each call turns the weights into float32 first,
which takes longer than reading less saves.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.model.gpt2 import GPT2, Conv1D

GROUP = 64  # inputs that share a scale
BLOCK = 64  # outputs whose weights lie together, as in step.cpp
SMALLEST = torch.finfo(torch.float32).tiny


class Int8Linear(nn.Module):
    """A linear layer, for inference only, whose weight (out, in) is rounded to int8.

    `weight` is (blocks, in / 4, BLOCK, 4), the order that step.cpp reads, and `scale` (blocks, in / GROUP, BLOCK).
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.n_out, self.n_in = weight.shape
        blocks = -(-self.n_out // BLOCK)
        padded = functional.pad(weight.float(), (0, 0, 0, blocks * BLOCK - self.n_out)).view(blocks, BLOCK, -1, GROUP)
        scale = padded.abs().amax(dim=3).clamp_min(SMALLEST) / 127  # (blocks, BLOCK, in / GROUP)
        rounded = (padded / scale.unsqueeze(3)).round().to(torch.int8)
        self.register_buffer("weight", rounded.view(blocks, BLOCK, -1, 4).transpose(1, 2).contiguous())
        self.register_buffer("scale", scale.transpose(1, 2).contiguous())
        self.register_buffer("bias", bias)

    def __deepcopy__(self, memo: dict[int, object]) -> "Int8Linear":
        return self  # its weight never changes

    def forward(self, x: Tensor) -> Tensor:  # (..., in) -> (..., out)
        return functional.linear(x, self.rounded_weight(), self.bias)

    def rounded_weight(self) -> Tensor:
        """The weight (out, in) in float32, as it is after rounding."""
        weight = self.weight.transpose(1, 2).reshape(len(self.weight), BLOCK, -1, GROUP)
        scaled = weight * self.scale.transpose(1, 2).unsqueeze(3)  # (blocks, BLOCK, in / GROUP, GROUP)
        return scaled.view(-1, self.n_in)[: self.n_out]


def use_int8(model: GPT2) -> None:
    """Replace each linear layer of `model` by an `Int8Linear`. The embeddings stay as they are."""
    for name in [name for name, module in model.named_modules() if isinstance(module, Conv1D)]:
        layer = model.get_submodule(name)
        assert isinstance(layer, Conv1D)
        model.set_submodule(name, Int8Linear(layer.weight.mT, layer.bias))
    model.readout_head.set_submodule("decoder", Int8Linear(model.transformer.wte.weight, None))
