"""Where the time of a step of our model goes, in a process that is set up as main.py is."""

import functools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from src.files import ROOT
from src.grading.student_code import load_function
from src.model.config import Config
from staff.bench import implementations
from staff.bench.contenders import environment_of
from staff.bench.implementations import SMALL, SOLUTION
from staff.bench.measurements import Measurements

# What counts as which part: the first pattern that is found in a module's name. A module that is called by another one
# of the list counts by itself; what belongs to no module counts as the rest.
PARTS = {
    "readout": r"^readout_head$",
    "MLPs": r"\.mlp$",
    "attention: linear layers": r"\.attn\.c_\w+$",
    "attention: cache, scores, softmax": r"\.attn$",
    "layer norms": r"ln_\w+$",
}
REST, SAMPLING = "the rest of the model", "sampling"
CONTEXT, TOKENS, WARM_UP = 350, 20, 5


class Stopwatch:
    """The seconds of each part during the last call of the model."""

    def __init__(self, model: nn.Module):
        self.seconds: dict[str, float] = {}
        self._running: list[list[float]] = []  # of the modules that run, the outermost first: began, seconds inside
        for name, module in model.named_modules():
            part = REST if module is model else next((p for p in PARTS if re.search(PARTS[p], name)), None)
            if part:
                module.register_forward_pre_hook(self._begin)
                module.register_forward_hook(functools.partial(self._end, part))

    def _begin(self, *_: Any) -> None:
        if not self._running:
            self.seconds = dict.fromkeys([*PARTS, REST], 0.0)
        self._running.append([time.perf_counter(), 0.0])

    def _end(self, part: str, *_: Any) -> None:
        began, inside = self._running.pop()
        took = time.perf_counter() - began
        self.seconds[part] += took - inside
        if self._running:
            self._running[-1][1] += took


def profile(measurements: Measurements, rounds: int) -> None:
    """The milliseconds of each part of a token, sampling included; medians over some tokens after CONTEXT others."""
    environment = os.environ | environment_of(implementations.Ours) | {"TQDM_DISABLE": "1"}
    for dtype in ("float32", "bfloat16"):
        command = [sys.executable, "-m", "staff.bench.profile", dtype, str(rounds)]
        process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if process.returncode:
            raise RuntimeError(f"profiling failed: {process.stderr[-500:]}")
        parts = {int(batch): seconds for batch, seconds in json.loads(process.stdout).items()}
        for part in (*PARTS, REST, SAMPLING):
            measurements.add_curve(f"step, {dtype}", part, {batch: parts[batch][part] * 1e3 for batch in parts})
        for batch in parts:
            text = ", ".join(f"{part} {seconds * 1e3:.2f}" for part, seconds in parts[batch].items())
            print(f"{dtype}, batch {batch}, ms: {text}", flush=True)


@torch.inference_mode()
def _profiled(dtype: str, rounds: int) -> dict[int, dict[str, float]]:
    """For each batch size: the seconds of each part of a token."""
    sample = load_function(SOLUTION, "sample.py", "sample")
    model, config = implementations.ours(SMALL, dtype)
    stopwatch = Stopwatch(model)
    return {batch: _parts(model, stopwatch, sample, config, batch, rounds) for batch in (1, 5)}


def _parts(
    model: nn.Module, stopwatch: Stopwatch, sample: Callable[..., Any], config: Config, batch: int, rounds: int
) -> dict[str, float]:
    """The seconds of each part of a token."""
    steps: list[dict[str, float]] = []
    ends: list[float] = []

    def timed_model(ids: torch.Tensor, past: Any = None) -> Any:
        began = time.perf_counter()
        output = model(ids, past=past)
        ended = time.perf_counter()
        ends.append(ended)
        steps.append(stopwatch.seconds | {SAMPLING: began - ends[-2] if len(ends) > 1 else 0.0})
        return output

    kept = []
    for _ in range(rounds):
        steps.clear()
        ends.clear()
        sample(timed_model, torch.randint(config.vocab_size, (batch, CONTEXT)), config, TOKENS + WARM_UP)
        kept += steps[WARM_UP:]
    return {part: float(np.median([step[part] for step in kept])) for part in (*PARTS, REST, SAMPLING)}


if __name__ == "__main__":
    print(json.dumps(_profiled(sys.argv[1], int(sys.argv[2]))))
