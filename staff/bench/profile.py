"""Where the time of a token goes, in a process that is set up as main.py is.

A compiled step cannot be stopped within. Its parts are differences of whole steps: with all layers and with none, after
many tokens and after one, and with a function in its place that does nothing.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from src.files import ROOT
from src.grading.student_code import load_function
from src.model.compiled import CompiledStep
from src.model.config import Config
from src.model.gpt2 import GPT2
from staff.bench import implementations
from staff.bench.contenders import environment_of
from staff.bench.implementations import SMALL, SOLUTION
from staff.bench.measurements import Measurements

READOUT, BLOCKS, CACHE = "reading the readout's weight", "reading the blocks' weights", "attention over the cache"
PYTHON, SAMPLING = "Python around the step", "sampling"
PARTS = (READOUT, BLOCKS, CACHE, PYTHON, SAMPLING)
CONTEXT, TOKENS, WARM_UP = 350, 20, 5


def profile(measurements: Measurements, rounds: int) -> None:
    """The milliseconds of each part of a token, sampling included; medians over some tokens after CONTEXT others."""
    environment = os.environ | environment_of(implementations.Ours) | {"TQDM_DISABLE": "1"}
    for dtype in ("float32", "bfloat16", "int8"):
        command = [sys.executable, "-m", "staff.bench.profile", dtype, str(rounds)]
        process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if process.returncode:
            raise RuntimeError(f"profiling failed: {process.stderr[-500:]}")
        parts = {int(batch): seconds for batch, seconds in json.loads(process.stdout).items()}
        for part in PARTS:
            measurements.add_curve(f"step, {dtype}", part, {batch: parts[batch][part] * 1e3 for batch in parts})
        for batch in parts:
            text = ", ".join(f"{part} {seconds * 1e3:.2f}" for part, seconds in parts[batch].items())
            print(f"{dtype}, batch {batch}, ms: {text}", flush=True)


@torch.inference_mode()
def parts_of_step(model: GPT2, config: Config, batch: int, context: int, rounds: int) -> dict[str, float]:
    """The seconds of each part of a step of `batch` texts after `context` tokens, for a model with a compiled step."""
    step: CompiledStep = model.step  # type: ignore[assignment]
    n_layer, function = step._model.n_layer, step._function
    ids = torch.randint(config.vocab_size, (batch, context))

    def seconds(length: int, layers: int = n_layer, computing: Callable[..., None] = function) -> float:
        _, past = model(ids[:, :length])
        step._model.n_layer, step._function = layers, computing
        times = []
        for _ in range(TOKENS):
            began = time.perf_counter()
            _, past = model(ids[:, :1], past=past)
            times.append(time.perf_counter() - began)
        step._model.n_layer, step._function = n_layer, function
        return float(np.median(times[WARM_UP:]))

    whole, short, empty, nothing = np.median(
        [(seconds(context), seconds(1), seconds(1, 0), seconds(1, 0, lambda *_: None)) for _ in range(rounds)], axis=0
    ).tolist()
    return {READOUT: empty - nothing, BLOCKS: short - empty, CACHE: whole - short, PYTHON: nothing}


@torch.inference_mode()
def _seconds_of_sampling(model: Callable[..., Any], config: Config, batch: int, rounds: int) -> float:
    sample = load_function(SOLUTION, "sample.py", "sample")
    returned: list[float] = []
    times: list[float] = []

    def timed_model(ids: torch.Tensor, past: Any = None) -> Any:
        times.extend(time.perf_counter() - ended for ended in returned)
        output = model(ids, past=past)
        returned[:] = [time.perf_counter()]
        return output

    for _ in range(rounds):
        returned.clear()
        sample(timed_model, torch.randint(config.vocab_size, (batch, CONTEXT)), config, TOKENS + WARM_UP)
    return float(np.median(times))


def _profiled(dtype: str, rounds: int) -> dict[int, dict[str, float]]:
    """For each batch size: the seconds of each part of a token."""
    model, config = implementations.ours(SMALL, dtype)
    if not hasattr(model, "step"):
        raise RuntimeError("the step cannot be compiled here; install g++")
    return {
        batch: parts_of_step(model, config, batch, CONTEXT, rounds)
        | {SAMPLING: _seconds_of_sampling(model, config, batch, rounds)}
        for batch in (1, 5)
    }


if __name__ == "__main__":
    print(json.dumps(_profiled(sys.argv[1], int(sys.argv[2]))))
