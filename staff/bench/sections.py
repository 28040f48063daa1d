"""The sections of the benchmark. Each adds its lines to the table, and its curves to the charts."""

import datetime
import time
from collections.abc import Callable

import torch

from staff.bench import commands, decoding, inference, machine, profile, shapes
from staff.bench.implementations import make_small
from staff.bench.measurements import Measurements
from staff.bench.timing import in_turn


def limits(measurements: Measurements, rounds: int) -> None:
    """The machine's own limits."""
    jobs = {"large read": machine.reader()}
    for dtype in (torch.float32, torch.bfloat16):
        jobs[f"large product, {str(dtype).removeprefix('torch.')}"] = machine.multiplier(dtype)
    times = in_turn(jobs, rounds, "limits")
    for what in jobs:
        unit = "GB/s" if what == "large read" else "GFLOP/s"
        measurements.add(what, 1e-9 / times.median(what), unit)


SECTIONS: dict[str, Callable[[Measurements, int], None]] = {
    "limits": limits,
    "decoding": decoding.decoding,
    "positions": decoding.positions,
    "mini": decoding.mini,
    "batches": decoding.batches,
    "ahead": inference.lookahead,
    "likelihood": inference.likelihood,
    "rounding": inference.rounding,
    "profile": profile.profile,
    "starting": commands.starting,
    "grading": commands.grading,
    "growth": inference.growth,
    "threads": inference.threads,
    "memory": shapes.memory,
    "whole": commands.whole,
}
WITHOUT_SMALL = {"limits", "mini", "rounding", "starting", "grading"}  # these do not need the checkpoint SMALL


def run(name: str, rounds: int) -> Measurements:
    """Run this section; each line is printed as soon as it is measured."""
    if name not in WITHOUT_SMALL:
        make_small()
    now, began = datetime.datetime.now(datetime.UTC), time.monotonic()
    measurements = Measurements(now.strftime("%Y-%m-%d %H:%M"), rounds=rounds)
    SECTIONS[name](measurements, rounds)
    measurements.minutes = round((time.monotonic() - began) / 60, 1)
    return measurements
