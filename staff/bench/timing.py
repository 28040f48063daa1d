"""Timing: several jobs in turn, one command, or the grader's first result."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from src.files import ROOT

Name = TypeVar("Name", bound=Hashable)


def in_turn(jobs: Mapping[Name, Callable[[], float | None]], rounds: int, description: str) -> dict[Name, list[float]]:
    """Run all jobs one after the other, `rounds` times after a warm-up round; the seconds of each job in each round.

    A job returns the seconds that count, or None if all that it does counts.
    """
    times: dict[Name, list[float]] = {name: [] for name in jobs}
    for turn in tqdm(range(rounds + 1), desc=description, unit="round", leave=False):
        for name, job in jobs.items():
            began = time.perf_counter()
            seconds = job()
            if turn:
                times[name].append(time.perf_counter() - began if seconds is None else seconds)
    return times


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios of the rounds."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


# Linux counts the parent's memory as that of a new process, so a small process starts the measured one.
_LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def run_python(*arguments: str) -> tuple[float, int]:
    """Run Python with these arguments in the project's folder; the seconds it took, and its peak memory in bytes.

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
