"""The model's weights in memory that a worker shares with the fork server, which sees what the worker did to them."""

import mmap
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

_ALIGNMENT = 64  # bytes


class SharedModel:
    """A copy of some parameters, made before a worker is forked."""

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self._parameters: list[tuple[nn.Parameter, int]] = []
        size = 0
        for parameter in parameters:
            self._parameters.append((parameter, size))
            size += -(-parameter.nbytes // _ALIGNMENT) * _ALIGNMENT
        self._memory = mmap.mmap(-1, max(size, 1))  # shared with every process that is forked from now on
        for parameter, offset in self._parameters:
            self._copy(parameter, offset)[:] = _bytes(parameter)

    def use(self) -> None:
        """In the worker: let the parameters lie in the shared memory."""
        for parameter, offset in self._parameters:
            flat = torch.frombuffer(self._memory, dtype=parameter.dtype, count=parameter.numel(), offset=offset)
            parameter.data = flat.view(parameter.shape)

    def is_unchanged(self) -> bool:
        """In the fork server, whose own parameters no worker can change: whether the copy still is what it was."""
        return all(
            np.array_equal(self._copy(parameter, offset), _bytes(parameter)) for parameter, offset in self._parameters
        )

    def _copy(self, parameter: nn.Parameter, offset: int) -> NDArray[np.uint8]:
        return np.frombuffer(self._memory, np.uint8, parameter.nbytes, offset)


def _bytes(parameter: nn.Parameter) -> NDArray[np.uint8]:
    return parameter.detach().contiguous().numpy().reshape(-1).view(np.uint8)
