"""Timing side by side, and the machine's own limits."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from tqdm import tqdm

from src.config import ROOT

READ_BYTES = 2**29
SQUARE = 2048  # rows and columns of the matrices that are multiplied to measure the arithmetic

Times = dict[Hashable, list[float]]  # of each contender, what it took in each round


def in_turn(contenders: Mapping[Hashable, Callable[[], float | None]], rounds: int, what: str) -> Times:
    """Run the contenders one after the other, and all again, `rounds` times after one that doesn't count.

    A contender returns the seconds that count, or None where all that it does counts.
    """
    times: Times = {name: [] for name in contenders}
    for turn in tqdm(range(rounds + 1), desc=what, unit="round", leave=False):
        for name, contender in contenders.items():
            began = time.perf_counter()
            seconds = contender()
            if turn:
                times[name].append(time.perf_counter() - began if seconds is None else seconds)
    return times


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over the rounds of what one took, divided by what another one took in the same round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def reader() -> Callable[[], float]:
    """A contender: seconds a byte in a large read, the sum of half a gigabyte of float32 numbers."""
    numbers = torch.ones(READ_BYTES // 4)

    def read() -> float:
        began = time.perf_counter()
        numbers.sum()
        return (time.perf_counter() - began) / READ_BYTES

    return read


def multiplier(dtype: torch.dtype) -> Callable[[], float]:
    """A contender: seconds a floating-point operation in a large product of matrices."""
    matrix = torch.randn(SQUARE, SQUARE).to(dtype)

    def multiply() -> float:
        began = time.perf_counter()
        matrix @ matrix
        return (time.perf_counter() - began) / (2 * SQUARE**3)

    return multiply


def described() -> str:
    """The machine by its cores and units."""
    units = [torch.backends.cpu.get_cpu_capability()]
    units += ["bfloat16 units"] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else []
    units += ["AMX"] if torch.cpu._is_amx_tile_supported() else []
    return f"{torch.get_num_threads()} cores, {', '.join(units)}, PyTorch {torch.__version__}"


# A process begins with the memory of the one that starts it, as Linux counts: so a small one stands between.
_LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def run(*arguments: str) -> tuple[float, int]:
    """Run Python with these arguments in the project's folder: the seconds that it took, its peak memory in bytes.

    Raises:
        RuntimeError: it failed.
    """
    began = time.perf_counter()
    command = [sys.executable, "-S", "-c", _LAUNCHER, sys.executable, *arguments]
    environment = os.environ | {"TQDM_DISABLE": "1"}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed: {process.stderr[-500:]}")
    return time.perf_counter() - began, int(process.stdout) * 1024
