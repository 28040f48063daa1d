"""How long a new token takes: at several contexts, and for several prompts at once."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from src.model.config import Config, model_config
from staff.bench import machine
from staff.bench.implementations import SMALL
from staff.bench.measurements import Measurements
from staff.bench.own_process import QUIET, OwnProcess, start_all
from staff.bench.timing import in_turn, ratio

CONTEXTS = (10, 100, 350, 600, 900)
MIDDLE = (100, 350, 600)
TOKENS = 24  # decoded at each context
BATCHES = (1, 5, 16, 64)
THROUGHPUT = "tokens a second"  # a chart

# Jobs beside the implementations: a plain read of the bytes that a step needs, and the matrix products of a step.
READ, PRODUCTS = "read", "products"
BOUNDS = {("transformers", 1): 1.15, ("transformers", 5): 1.4, ("ours, bfloat16", 5): -1 / 1.5}  # for SMALL


@dataclass(frozen=True)
class DecodingTimes:
    """Seconds a token, one number for each round."""

    of: Mapping[tuple[str, int], Sequence[float]]  # (label of an implementation, or READ or PRODUCTS; context)
    model: Mapping[int, Sequence[float]]  # context → our model's step, without the sampling


def decoding(measurements: Measurements, rounds: int, name: str = SMALL) -> None:
    """Time per token at several contexts for one prompt and for five."""
    config, implementations = model_config(name), start_all(name)
    contexts = [c for c in CONTEXTS if c + TOKENS <= config.n_positions]
    middle = [c for c in contexts if c in MIDDLE]
    read = machine.reader()
    for batch in (1, 5):
        chosen = {k: v for k, v in implementations.items() if k != "plain" or batch == 1}
        measured_at = contexts if batch == 1 else middle
        times = _decode(config, chosen, read, batch, measured_at, rounds)
        for label in chosen:
            points = {c: statistics.median(times.of[label, c]) * 1e3 for c in measured_at}
            measurements.add_curve(f"{name}, batch {batch}", label, points)
        _compare(measurements, times, name, list(chosen), batch, middle)
        if batch == 1 and 900 in contexts:
            late = ratio(times.of["ours", 900], times.of["ours", 100])
            measurements.add(f"{name}: a token at position 900 / at 100", late, "times", -1.25)
    for implementation in implementations.values():
        implementation.close()


def _decode(
    config: Config, implementations: Mapping[str, OwnProcess], read: Callable[[], float], batch: int,
    contexts: Sequence[int], rounds: int,
) -> DecodingTimes:  # fmt: skip
    model_times: dict[int, list[float]] = {c: [] for c in contexts}

    def decode(label: str, context: int) -> float:
        prompts = torch.randint(config.vocab_size, (batch, context))
        times = implementations[label].decode(prompts, TOKENS + 1)
        if label == "ours":
            model_times[context].append(float(np.median(times.model)))
        return float(np.median(times.steps))

    def read_bytes_of_step(context: int) -> float:
        time.sleep(QUIET)
        return min(read() for _ in range(3)) * bytes_of_step(config, batch, context + TOKENS / 2)

    jobs: dict[tuple[str, int], Callable[[], float]] = {}
    for context in contexts:
        for label in implementations:
            jobs[label, context] = functools.partial(decode, label, context)
        jobs[READ, context] = functools.partial(read_bytes_of_step, context)
        jobs[PRODUCTS, context] = functools.partial(implementations["ours"].products, batch, context, 1)
    times = in_turn(jobs, rounds, f"decoding {config.name}, batch {batch}")
    return DecodingTimes(times, {c: in_rounds[1:] for c, in_rounds in model_times.items()})  # without the warm-up


def _compare(
    measurements: Measurements, times: DecodingTimes, name: str, labels: Sequence[str], batch: int,
    contexts: Sequence[int],
) -> None:  # fmt: skip
    """Add the lines for one batch size, averaged over the contexts."""
    is_small = name == SMALL
    what = f"{name}, batch {batch}, context {contexts[0]} to {contexts[-1]}:"
    milliseconds = 1e3 * statistics.fmean(statistics.median(times.of["ours", c]) for c in contexts)
    measurements.add(f"{what} a token, sampling included", milliseconds, "ms")
    read = statistics.fmean(ratio(times.of[READ, c], times.model[c]) for c in contexts)
    products = statistics.fmean(ratio(times.of[PRODUCTS, c], times.model[c]) for c in contexts)
    if batch == 1:
        measurements.add(f"{what} memory's limit / the model's step", read, "", 0.9 if is_small else None)
    else:
        bound = 0.85 if is_small else None
        measurements.add(f"{what} only the products / step", products, "", bound, f"memory's limit / step {read:.2f}")
    for label in labels:
        if label != "ours":
            mean = statistics.fmean(ratio(times.of[label, c], times.of["ours", c]) for c in contexts)
            bound = BOUNDS.get((label, batch)) if is_small else None
            measurements.add(f"{what} {label} / ours", mean, "times", bound)


def bytes_of_step(config: Config, batch: int, context: float) -> float:
    """The bytes that a step in float32 must read: all weights except the rows of the embeddings, and the cache."""
    blocks = config.n_layer * (12 * config.n_embd**2 + 13 * config.n_embd)
    readout = config.vocab_size * config.n_embd
    cache = 2 * batch * config.n_layer * context * config.n_embd
    return 4 * (blocks + readout + cache)


def batches(measurements: Measurements, rounds: int) -> None:
    """Tokens a second for several numbers of prompts."""
    config, implementations = model_config(SMALL), start_all(SMALL)
    implementations.pop("plain").close()

    def decode(label: str, batch: int) -> float:
        times = implementations[label].decode(torch.randint(config.vocab_size, (batch, 100)), 9)
        return float(np.median(times.steps))

    jobs = {(label, b): functools.partial(decode, label, b) for b in BATCHES for label in implementations}
    times = in_turn(jobs, rounds, "batches")
    speeds = {key: key[1] / statistics.median(in_rounds) for key, in_rounds in times.items()}
    for label in implementations:
        measurements.add_curve(THROUGHPUT, label, {b: speeds[label, b] for b in BATCHES})
    for b in BATCHES:
        compared = ratio(times["transformers", b], times["ours", b])
        note = f"{speeds['ours', b]:.0f} tokens a second"
        measurements.add(f"{SMALL}, batch {b}: transformers / ours", compared, "times", None, note)
    for implementation in implementations.values():
        implementation.close()
