"""Timing: several jobs in turn, one command, or the grader's first result."""

import functools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from src.files import ROOT
from staff.bench import machine

Name = TypeVar("Name", bound=Hashable)

QUIET = 0.25  # seconds after which the threads of the job that ran before no longer wait actively
BUSY = 1.15  # memory that takes this many times as long to read as it usually does is used by somebody else, too


@dataclass(frozen=True)
class Times(Generic[Name]):
    """Seconds of each job in each round, and what reading memory took just before and just after it."""

    seconds: Mapping[Name, NDArray[np.float64]]  # (rounds,); nan if the job failed
    readings: Mapping[Name, NDArray[np.float64]]  # (rounds, 2): seconds a byte before and after the job

    def __getitem__(self, name: Name) -> NDArray[np.float64]:
        """The seconds of a job, nan in rounds in which the machine was busy."""
        return np.where(self.busy(name), math.nan, self.seconds[name])

    def busy(self, name: Name) -> NDArray[np.bool_]:
        """(rounds,): whether the memory was slow to read before or after the job."""
        usual = np.median(np.concatenate(list(self.readings.values())))
        busy: NDArray[np.bool_] = self.readings[name].max(axis=1) > BUSY * usual
        return busy

    def reading(self, name: Name) -> NDArray[np.float64]:
        """(rounds,): seconds a byte around the job."""
        return self.readings[name].mean(axis=1)

    def discarded(self) -> tuple[int, int]:
        """How many runs of jobs are discarded because the machine was busy, and of how many."""
        busy = [self.busy(name) for name in self.readings]
        return int(np.sum(busy)), int(np.size(busy))

    def median(self, name: Name) -> float:
        """The median of the seconds of a job; of all of them, if the machine was never quiet."""
        seconds = self[name] if not self.busy(name).all() else self.seconds[name]
        return float(np.nanmedian(seconds)) if not np.isnan(seconds).all() else math.nan

    def minimum(self, name: Name) -> float:
        """The shortest of the seconds of a job."""
        return float(np.fmin.reduce(self.seconds[name]))


def joined(parts: Sequence[Times[Name]]) -> Times[Name]:
    """The rounds of all `parts`, which timed the same jobs, one after the other."""
    seconds = {name: np.concatenate([part.seconds[name] for part in parts]) for name in parts[0].seconds}
    readings = {name: np.concatenate([part.readings[name] for part in parts]) for name in parts[0].readings}
    return Times(seconds, readings)


@functools.cache
def _reader() -> Callable[[], float]:
    return machine.reader()


def read_memory() -> float:
    """Seconds a byte: the best of three large reads, once the threads of the last job have gone to sleep."""
    time.sleep(QUIET)
    return min(_reader()() for _ in range(3))


def in_turn(
    jobs: Mapping[Name, Callable[[], float | None]], rounds: int, description: str,
    read: Callable[[], float] = read_memory,
) -> Times[Name]:  # fmt: skip
    """Run all jobs `rounds` times after a warm-up round, in random order within a round; the memory is read between.

    A job returns the seconds that count, or None if all that it does counts.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in jobs}
    readings: dict[Name, list[tuple[float, float]]] = {name: [] for name in jobs}
    before = read()
    for turn in tqdm(range(rounds + 1), desc=description, unit="round", leave=False):
        for name in random.sample(list(jobs), len(jobs)):
            began = time.perf_counter()
            counted = jobs[name]()
            took = time.perf_counter() - began if counted is None else counted
            after = read()
            if turn:
                seconds[name].append(took)
                readings[name].append((before, after))
            before = after
    return Times({n: np.array(s) for n, s in seconds.items()}, {n: np.array(r) for n, r in readings.items()})


# Linux counts the parent's memory as that of a new process, so a small process starts the measured one.
_LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
sys.exit(code)
"""


@dataclass(frozen=True)
class Cost:
    """What a program took, with all processes that it started and waited for."""

    seconds: float
    cpu: float  # seconds of all processors
    memory: int  # the peak of the largest process, in bytes


def run_python(*arguments: str) -> Cost:
    """Run Python with these arguments in the project's folder.

    Raises:
        RuntimeError: it failed.
    """
    began = time.perf_counter()
    command = [sys.executable, "-S", "-c", _LAUNCHER, sys.executable, *arguments]
    environment = os.environ | {"TQDM_DISABLE": "1"}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed: {process.stderr[-500:]}")
    kilobytes, cpu = process.stdout.split()
    return Cost(time.perf_counter() - began, float(cpu), int(kilobytes) * 1024)


def first_result(*arguments: str) -> float:
    """Seconds until the grader, called with these arguments, has written the result of its first test.

    Raises:
        RuntimeError: it ended without one.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        began = time.perf_counter()
        command = [sys.executable, *arguments, "--json", str(file)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                if file.exists() and json.loads(file.read_text(encoding="utf-8"))["tests"]:
                    return time.perf_counter() - began
                time.sleep(0.002)
    raise RuntimeError(f"{' '.join(arguments)} wrote no result")
