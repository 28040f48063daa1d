"""The machine's own limits: how fast it reads memory and multiplies matrices."""

import mmap
import time
from collections.abc import Callable

import torch

READ_BYTES = 2**29
SQUARE = 2048  # rows and columns of the matrices that are multiplied


def description() -> str:
    """The machine by its cores, its instruction sets and its PyTorch."""
    features = [torch.backends.cpu.get_cpu_capability()]
    features += ["bfloat16 units"] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else []
    features += ["AMX"] if torch.cpu._is_amx_tile_supported() else []
    return f"{torch.get_num_threads()} cores, {', '.join(features)}, PyTorch {torch.__version__}"


def reader() -> Callable[[], float]:
    """A function that returns the seconds per byte of a large read: the sum of half a gigabyte of float32 numbers.

    They lie in large pages if the kernel offers them, as our model's weights do (src/model/memory.py).
    """
    memory = mmap.mmap(-1, READ_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    numbers = torch.frombuffer(memory, dtype=torch.float32).fill_(1)

    def read() -> float:
        began = time.perf_counter()
        numbers.sum()
        return (time.perf_counter() - began) / READ_BYTES

    return read


def multiplier(dtype: torch.dtype) -> Callable[[], float]:
    """A function that returns the seconds per floating-point operation of a large matrix product."""
    matrix = torch.randn(SQUARE, SQUARE).to(dtype)

    def multiply() -> float:
        began = time.perf_counter()
        matrix @ matrix
        return (time.perf_counter() - began) / (2 * SQUARE**3)

    return multiply
