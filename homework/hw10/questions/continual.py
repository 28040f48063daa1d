"""Question 5: continual learning. One network learns several tasks, one after the other, and should forget none.

EWC, elastic weight consolidation: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", 2017.
"""

if __name__ == "__main__":
    raise SystemExit("experiment.py runs this file; try: python experiment.py --model continual")

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import LongTensor, Tensor, nn

Example = TypeVar("Example")


def fisher_information(
    model: nn.Module,  # a classifier: model(images) returns logits, (N, C)
    images: Tensor,  # (N, 1, H, W); the model takes batches of any size, but not a single image without the first axis
    labels: LongTensor,  # (N,), a class for each image
) -> list[Tensor]:  # one tensor for each of model.parameters(), of the same shape
    """How much the predictions depend on each parameter θ: the diagonal of the Fisher information.

        F = 1/N · Σ_n (∂ log p(label_n | image_n) / ∂θ)²

    Each example has its own gradient, which is squared by itself: this is not the square of a batch's gradient. With
    labels that were drawn from the model, as experiment.py does, this estimates the Fisher information; with those of
    the data, it is called the empirical one.

    The result requires no gradient, and the model's weights stay as they are. Training has left gradients in the model;
    they must not get into the result.
    """
    # TODO 5b: the mean over the examples of their squared gradients.
    # torch.autograd.grad returns gradients, and does not touch those that are stored in the model.
    ### START CODE HERE ###
    raise NotImplementedError("5b")
    ### END CODE HERE ###


def ewc_penalty(
    parameters: Sequence[Tensor],  # θ, tensors of any shapes
    anchors: Sequence[Tensor],  # θ*, of the same shapes: what the parameters were after an earlier task
    fisher: Sequence[Tensor],  # F, of the same shapes: what `fisher_information` said then
) -> Tensor:  # a scalar
    """EWC's penalty for an earlier task, a sum over all entries of all tensors:

        ½ Σ_i F_i (θ_i - θ*_i)²

    The factor ½ belongs to it; the caller multiplies it by λ and adds it to the loss. Gradients flow to the parameters.
    """
    # TODO 5c: the sum over all tensors; one line is enough.
    ### START CODE HERE ###
    raise NotImplementedError("5c")
    ### END CODE HERE ###


def update_memory(
    memory: list[Example],  # the examples that are kept, at most `capacity`; this list is changed
    example: Example,  # the next one of the stream
    seen: int,  # how many have come so far, this one among them: 1 at the first call, then 2, ...
    capacity: int,  # 1 or more
) -> None:
    """Reservoir sampling: afterwards, each of the `seen` examples is in the memory with the same probability.

    While there is room, the example is appended. Then the memory stays full, and each of the `seen` examples is in it
    with probability capacity / seen: the new one may take the place of an old one, or is dropped.
    """
    # TODO 5d: decide at random whether this example is kept, and in whose place.
    # torch.randint(n, ()) draws one of the integers 0, ..., n - 1.
    ### START CODE HERE ###
    raise NotImplementedError("5d")
    ### END CODE HERE ###
