"""How long a new token takes: of several implementations, at several contexts, and for several prompts at once.

All times include the sampling of the token from the 40 likeliest: by the homework's reference answer for our model and
the plain one, by their own samplers for transformers, CTranslate2 and llama.cpp, and by NumPy for OpenVINO and ONNX
Runtime, which have none. All keep the keys and values of the tokens before.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from src.model.config import BUNDLED, Config, model_config
from staff.bench.contenders import (
    CONTENDERS,
    DRAWN_ALIKE,
    LLAMA_16,
    MOST_PROMPTS,
    NOT_COMPILED,
    ONE_PROMPT,
    OURS,
    PRODUCTS,
    Contender,
    start_all,
)
from staff.bench.implementations import SMALL
from staff.bench.intervals import Ratio, ratio
from staff.bench.measurements import Contest, Entry, Measurements
from staff.bench.timing import Times, in_turn, joined

MIDDLE = (100, 350, 600)
POSITIONS = (10, 100, 350, 600, 880)
TOKENS = 20  # a block
BLOCKS = 5  # timed in a row; then the prompts are read anew, so that the context stays close to where it began
BATCHES = (1, 5, 16, 64)
HALF, INT8 = "ours, bfloat16", "ours, int8"
OTHERS_INT8 = ("CTranslate2, int8", "llama.cpp, int8")  # that ours is to be ahead of
FEW = (OURS, HALF, INT8, "transformers", *OTHERS_INT8[:1])
THROUGHPUT = "tokens a second"  # a chart
MEMORY = "memory: weights and cache, float32"
MEMORY_SHARE, PRODUCTS_SHARE = "memory's limit / the model's step", "the products by oneDNN / the model's step"
BFLOAT16, CLOSEST = "float32 / bfloat16", "the closest other in float32 / ours"
CLOSEST_ALIKE = "the closest other in float32 / ours, drawn by NumPy"
CLOSEST_INT8 = "the closer of CTranslate2 and llama.cpp in int8 / ours in int8"
# Batch → line → bound, for SMALL.
BOUNDS = {
    1: {MEMORY_SHARE: 0.85, CLOSEST: 1.0, CLOSEST_INT8: 1.0},
    5: {MEMORY_SHARE: 0.85, CLOSEST: 1.0, CLOSEST_INT8: 1.0, BFLOAT16: 1.5},
    16: {CLOSEST_INT8: 1.0},
}


@dataclass(frozen=True)
class Decoded:
    """What was measured of a batch size: seconds a token."""

    contexts: Sequence[int]
    at: Mapping[int, Times[str]]  # context → times by label
    model: Mapping[int, NDArray[np.float64]]  # context → our model's part of the time, in each round

    def everywhere(self) -> Times[str]:
        """The rounds at all contexts."""
        return joined([self.at[c] for c in self.contexts])


def decoding(measurements: Measurements, rounds: int) -> None:
    """Everybody, with GPT-2 small's shape: one prompt and five, at context 100 to 600."""
    labels = [label for label in CONTENDERS if label != LLAMA_16]
    _decoding(measurements, rounds, SMALL, labels, (1, 5))


def mini(measurements: Measurements, rounds: int) -> None:
    """The bundled model."""
    _decoding(measurements, rounds, BUNDLED, (*FEW, "plain", PRODUCTS), (1, 5))


def _decoding(
    measurements: Measurements, rounds: int, name: str, labels: Sequence[str], batches: Sequence[int]
) -> None:
    config = model_config(name)
    contenders = start_all(config, name, labels)
    contexts = [c for c in MIDDLE if _fits(config, c)]
    for batch in batches:
        chosen = [c for c in contenders if batch == 1 or c.label not in ONE_PROMPT]
        decoded = _decode(config, chosen, batch, contexts, rounds)
        what = f"{name}, batch {batch}, context {contexts[0]} to {contexts[-1] + BLOCKS * (TOKENS + 1)}"
        _compare(measurements, decoded, config, chosen, batch, what)
        if batch == 1:
            _add_curves(measurements, decoded, name, [label for label in FEW if label in labels])
    for contender in contenders:
        contender.close()


def positions(measurements: Measurements, rounds: int) -> None:
    """How a token's time grows with its position: ours and a few others, one prompt."""
    config = model_config(SMALL)
    contenders = start_all(config, SMALL, (*FEW, "llama.cpp"))
    decoded = _decode(config, contenders, 1, [c for c in POSITIONS if _fits(config, c)], rounds)
    _add_curves(measurements, decoded, SMALL, [c.label for c in contenders if not c.error])
    for contender in contenders:
        contender.close()


def _fits(config: Config, context: int) -> bool:
    return context + (BLOCKS + 1) * (TOKENS + 1) <= config.n_positions


def _decode(
    config: Config, contenders: Sequence[Contender], batch: int, contexts: Sequence[int], rounds: int,
    tokens: int = TOKENS,
) -> Decoded:  # fmt: skip
    parts: dict[int, list[Times[str]]] = {c: [] for c in contexts}
    model: dict[int, list[float]] = {c: [] for c in contexts}

    def decode(contender: Contender, of_model: list[float]) -> float:
        block = contender.block()
        if contender.label == OURS:
            of_model.append(block.model)
        return block.seconds

    for in_a_row in _passes(rounds):
        for context in contexts:
            prompts = torch.randint(config.vocab_size, (batch, context))
            of_model: list[float] = []
            for contender in contenders:
                contender.start(prompts, tokens, in_a_row + 1)
            jobs: dict[str, Callable[[], float]] = {c.label: functools.partial(decode, c, of_model) for c in contenders}
            parts[context].append(in_turn(jobs, in_a_row, f"{config.name}, batch {batch}, context {context}"))
            model[context] += of_model[1:]  # without the warm-up
    return Decoded(contexts, {c: joined(parts[c]) for c in contexts}, {c: np.array(model[c]) for c in contexts})


def _passes(rounds: int) -> Iterator[int]:
    """The rounds in portions of at most BLOCKS."""
    for done in range(0, rounds, BLOCKS):
        yield min(BLOCKS, rounds - done)


def _compare(
    measurements: Measurements, decoded: Decoded, config: Config, contenders: Sequence[Contender], batch: int, what: str
) -> None:
    """Add the table of one batch size, over all contexts, and the lines with bounds."""
    times = decoded.everywhere()
    limit, model = _memory_limit(decoded, config, batch)
    read = Entry(MEMORY, float(limit.min()), float(np.median(limit)), ratio(limit, times[OURS]), is_limit=True)
    entries = [_entry(times, contender) for contender in contenders]
    measurements.add_contest(Contest(what, (*entries, read), times.discarded()))

    bounds = BOUNDS[batch] if config.name == SMALL else {}
    for label, numerator, denominator in (
        (MEMORY_SHARE, limit, model),
        (PRODUCTS_SHARE, times[PRODUCTS], model),
        (BFLOAT16, times[OURS], times[HALF]),
    ):
        measurements.add_ratio(f"{what}: {label}", ratio(numerator, denominator), "times", bounds.get(label))
    _add_closest(measurements, f"{what}: {CLOSEST}", times, _in_float32(contenders), OURS, bounds.get(CLOSEST))
    _add_closest(measurements, f"{what}: {CLOSEST_ALIKE}", times, _in_float32(contenders), DRAWN_ALIKE, None)
    _add_closest(measurements, f"{what}: {CLOSEST_INT8}", times, OTHERS_INT8, INT8, bounds.get(CLOSEST_INT8))


def _in_float32(contenders: Sequence[Contender]) -> list[str]:
    ours = (OURS, DRAWN_ALIKE, NOT_COMPILED, PRODUCTS)
    return [c.label for c in contenders if CONTENDERS[c.label][1] == "float32" and c.label not in ours]


def _add_closest(
    measurements: Measurements, what: str, times: Times[str], others: Sequence[str], ours: str, bound: float | None
) -> None:
    """Add the line of the one of `others` whose time divided by ours has the interval that begins lowest."""
    if ours not in times.seconds:
        return
    compared = [(label, ratio(times[label], times[ours])) for label in others if label in times.seconds]
    timed = [pair for pair in compared if pair[1].rounds]
    closest, value = min(timed, key=lambda pair: pair[1].low, default=("", ratio([], [])))
    measurements.add_ratio(what, value, "times", bound, closest)


def _memory_limit(decoded: Decoded, config: Config, batch: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each round: the seconds that reading what a step needs takes, and those of our model's step."""
    times = decoded.everywhere()
    bytes_read = [
        np.full(len(decoded.model[c]), bytes_of_step(config, batch, c + BLOCKS * TOKENS / 2)) for c in decoded.contexts
    ]
    model = np.concatenate([decoded.model[c] for c in decoded.contexts])
    return times.reading(OURS) * np.concatenate(bytes_read), np.where(times.busy(OURS), math.nan, model)


def _entry(times: Times[str], contender: Contender) -> Entry:
    label = contender.label
    compared: Ratio | None = None if label == OURS else ratio(times[label], times[OURS])
    if contender.error:
        return Entry(label, error=contender.error)
    minimum, median = times.minimum(label), times.median(label)
    return Entry(label, minimum, median, compared, contender.computes, is_limit=label == PRODUCTS)


def _add_curves(measurements: Measurements, decoded: Decoded, name: str, labels: Sequence[str]) -> None:
    for label in labels:
        points = {c: decoded.at[c].median(label) * 1e3 for c in decoded.contexts}
        measurements.add_curve(f"{name}, batch 1", label, points)


def bytes_of_step(config: Config, batch: int, context: float) -> float:
    """The bytes that a step in float32 must read: all weights except the rows of the embeddings, and the cache."""
    blocks = config.n_layer * (12 * config.n_embd**2 + 13 * config.n_embd)
    readout = config.vocab_size * config.n_embd
    cache = 2 * batch * config.n_layer * context * config.n_embd
    return 4 * (blocks + readout + cache)


def batches(measurements: Measurements, rounds: int) -> None:
    """Tokens a second for several numbers of prompts."""
    config = model_config(SMALL)
    contenders = start_all(config, SMALL, (*FEW, LLAMA_16))
    decoded = {}
    for b in BATCHES:
        chosen = [c for c in contenders if b <= MOST_PROMPTS.get(c.label, b)]
        decoded[b] = _decode(config, chosen, b, (100,), rounds, tokens=8).everywhere()
    for contender in contenders:
        label = contender.label
        speeds = {b: b / decoded[b].median(label) for b in BATCHES if label in decoded[b].seconds}
        if not contender.error:
            measurements.add_curve(THROUGHPUT, label, speeds)
    for b, times in decoded.items():
        note = f"{b / times.median(OURS):.0f} tokens a second"
        compared = ratio(times["transformers"], times[OURS])
        measurements.add_ratio(f"{SMALL}, batch {b}: transformers / ours", compared, "times", None, note)
    what, bound = f"{SMALL}, batch 16, context 100: {CLOSEST_INT8}", BOUNDS[16][CLOSEST_INT8]
    _add_closest(measurements, what, decoded[16], (OTHERS_INT8[0], LLAMA_16), INT8, bound)
    for contender in contenders:
        contender.close()
