"""The power of the tests of `sample`: how often wrong draws lose points, and right ones do.

    python -m staff.hw1.power [--seeds 1000] [--gradings 10000] [--write]

Draws are simulated from what each alternative makes of the model's probabilities, by rank and in all contexts, and
then decided on exactly as the tests do, trial after trial. `--write` also writes docs/power.png and the table in
staff/README.md.
"""

import argparse
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.errors import run_command
from src.files import ROOT, write_file
from src.hw1.evidence import LEVEL, Draws, Evidence
from src.hw1.oracle import log_softmax
from src.hw1.table import SHAPES
from src.hw1.trials import FEW, Trial, gpt2_size, trials
from staff import marked

Floats = NDArray[np.float64]
Alter = Callable[[Floats, NDArray[np.int64], int], Floats]  # (p by rank, each token's rank, V) → q of each context

ENOUGH = 0.999  # of the seeds, where an alternative is required to lose points


@dataclass(frozen=True)
class Alternative:
    """A wrong way to draw."""

    name: str
    alter: Alter
    required: bool = False
    at_gpt2_size: bool = False  # shows only where the vocabulary is large
    of_tokens: bool = False  # depends on the tokens, not only on their ranks


def tempered(temperature: float, p: Floats, ranks: NDArray[np.int64], size: int) -> Floats:
    """p^(1/T)."""
    with np.errstate(divide="ignore"):
        return np.exp(log_softmax(np.log(p) / temperature))


def mixed(share: float, p: Floats, ranks: NDArray[np.int64], size: int) -> Floats:
    """A share of the draws is uniform over the vocabulary; the last rank stands for all that the filter removed."""
    uniform = np.where(p > 0, 1 / size, 0.0)
    uniform[:, -1] = 1 - uniform[:, :-1].sum(axis=1)
    return (1 - share) * p + share * uniform


def guarded(guard: float, p: Floats, ranks: NDArray[np.int64], size: int) -> Floats:
    """Something is added to each probability, and all are divided by their sum."""
    return mixed(guard * size / (1 + guard * size), p, ranks, size)


def shifted_token(offset: float, p: Floats, ranks: NDArray[np.int64], size: int) -> Floats:
    """Token 0 is too likely or too unlikely, wherever it passes the filter."""
    return _shifted(offset, p, ranks[:, 0])


def shifted_rank(rank: int, offset: float, p: Floats, ranks: NDArray[np.int64], size: int) -> Floats:
    """The token of one rank is too likely or too unlikely."""
    return _shifted(offset, p, np.full(len(p), rank))


def _shifted(offset: float, p: Floats, place: NDArray[np.int64]) -> Floats:
    rows = np.arange(len(p))
    old = p[rows, place]
    new = np.where(old > 0, np.clip(old + offset, 0, 1), 0)
    q = p * ((1 - new) / np.maximum(1 - old, 1e-300))[:, None]
    q[rows, place] = new
    return q


def right(p: Floats, ranks: NDArray[np.int64], size: int) -> Floats:
    """The right probabilities."""
    return p


CURVE = tuple(round(t, 2) for t in np.arange(0.9, 1.105, 0.01) if abs(t - 1) > 0.001)
ALTERNATIVES = (
    *(Alternative(f"T = {t:.2f}", partial(tempered, t), not 0.96 < t < 1.04) for t in CURVE),
    *(Alternative(f"{s:.1%} uniform", partial(mixed, s), s >= 0.01) for s in (0.001, 0.003, 0.01, 0.03)),
    *(Alternative(f"one token {o:+.0%}", partial(shifted_token, o), abs(o) >= 0.03, of_tokens=True)
      for o in (0.01, -0.01, 0.03, -0.03, 0.05, -0.05)),
    *(Alternative(f"the likeliest {o:+.0%}", partial(shifted_rank, 0, o), abs(o) >= 0.03)
      for o in (0.01, -0.01, 0.03, -0.03, 0.05, -0.05)),
    *(Alternative(f"the second {o:+.0%}", partial(shifted_rank, 1, o), True) for o in (0.03, -0.03)),
    *(Alternative(f"guard {g:g}", partial(guarded, g), g >= 1e-6, at_gpt2_size=True) for g in (1e-7, 3e-7, 1e-6, 1e-5)),
)  # fmt: skip


def simulated(trial: Trial, alternative: Alternative, rng: np.random.Generator) -> Draws:
    """What `sample` draws in a trial if it draws like the alternative."""
    n, size, answer = len(trial.prompts) * trial.repeats * trial.length, trial.model.vocab_size, trial.answer
    if size > FEW:  # the tokens' order does not matter there; single tokens are looked at in the other trials
        alter = right if alternative.of_tokens else alternative.alter
        q = alter(np.exp(answer.log_p), np.zeros((SHAPES, 1), int), size)
        counts = rng.multinomial(rng.multinomial(n, np.full(SHAPES, 1 / SHAPES)), q / q.sum(axis=1, keepdims=True))
        return Draws(answer, *np.divmod(np.repeat(np.arange(counts.size), counts.reshape(-1)), counts.shape[1]))
    shapes, last = rng.integers(0, SHAPES, n), answer.log_p.shape[1] - 1
    ranks = rng.integers(1, size, n)[:, None] * np.arange(size) + rng.integers(0, size, n)[:, None]
    ranks = (ranks % size).clip(max=last)
    q = alternative.alter(np.exp(answer.log_p)[shapes], ranks, size)
    drawn = (rng.random(n)[:, None] * q.sum(axis=1, keepdims=True) >= q.cumsum(axis=1)).sum(axis=1).clip(max=last)
    return Draws(answer, shapes, drawn, ranks)


@dataclass(frozen=True)
class Decided:
    """How one decision ended."""

    lost: bool
    largest: float  # of the log-factors on the way
    draws: int


def decided(rounds: Sequence[Trial], alternative: Alternative, rng: np.random.Generator) -> Decided:
    """How the tests decide if `sample` draws like the alternative."""
    evidence, largest, count = Evidence(), -np.inf, 0
    for trial in rounds:
        draws = simulated(trial, alternative, rng)
        count += len(draws.drawn)
        evidence.add(draws, trial.model.seed)
        largest = max(largest, evidence.log_factor)
        if evidence.is_too_much or evidence.is_settled:
            break
    return Decided(evidence.is_too_much, largest, count)


def rounds_of(alternative: Alternative, alone: bool, rng: np.random.Generator) -> list[Trial]:
    """The trials of the test in which the alternative is to be seen."""
    return gpt2_size(rng, alone) if alternative.at_gpt2_size else trials(rng, alone)


def decisions(alternative: Alternative, alone: bool, seeds: range) -> list[Decided]:
    """One decision for each seed."""
    generators = [np.random.default_rng((seed, alone)) for seed in seeds]
    return [decided(rounds_of(alternative, alone, rng), alternative, rng) for rng in generators]


@dataclass(frozen=True)
class Power:
    """How often an alternative loses points, in batches and with single prompts."""

    alternative: Alternative
    batch: float
    alone: float
    draws: float  # the mean number until a batch's decision

    @property
    def is_enough(self) -> bool:
        """Whether it is what is required."""
        return not self.alternative.required or min(self.batch, self.alone) >= ENOUGH


def power_of(alternative: Alternative, seeds: int) -> Power:
    """The share of the seeds for which the alternative loses points."""
    batch, alone = (decisions(alternative, each, range(seeds)) for each in (False, True))
    shares = [sum(decision.lost for decision in each) / seeds for each in (batch, alone)]
    return Power(alternative, *shares, sum(decision.draws for decision in batch) / seeds)


@dataclass(frozen=True)
class FalseAlarms:
    """What right draws come to."""

    gradings: int
    alarms: int
    largest: float  # log-factor


def false_alarms(seeds: range) -> FalseAlarms:
    """The decisions on right draws: in each grading two of batches and one of single prompts, as in the tests."""
    of_right = Alternative("right", right)
    found = [decisions(of_right, alone, each) for each, alone in _three(seeds)]
    every = [decision for few in found for decision in few]
    return FalseAlarms(len(seeds), sum(d.lost for d in every), max(d.largest for d in every))


def _three(seeds: range) -> list[tuple[range, bool]]:
    apart = range(seeds.start + 10**6, seeds.stop + 10**6)
    return [(seeds, False), (apart, False), (seeds, True)]


def measured(seeds: int, gradings: int) -> tuple[list[Power], FalseAlarms]:
    """The power against all alternatives, and the false alarms."""
    pieces = [range(at, min(at + 250, gradings)) for at in range(0, gradings, 250)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        alarms = pool.map(false_alarms, pieces)
        powers = list(pool.map(partial(power_of, seeds=seeds), ALTERNATIVES))
        found = list(alarms)
    return powers, FalseAlarms(gradings, sum(a.alarms for a in found), max(a.largest for a in found))


def problems(seeds: int, gradings: int) -> list[str]:
    """How the power falls short of what is required, a line each."""
    powers, alarms = measured(seeds, gradings)
    found = [f"{p.alternative.name}: {p.batch:.1%} in batches, {p.alone:.1%} alone" for p in powers if not p.is_enough]
    return found + ([f"{alarms.alarms} false alarms in {gradings} gradings"] if alarms.alarms else [])


def lines(powers: Sequence[Power], alarms: FalseAlarms, seeds: int) -> list[str]:
    """The table, in Markdown."""
    rows = ["| wrong draws | batches | single prompts |", "| --- | ---: | ---: |"]
    for power in powers:
        mark = "**" if power.alternative.required else ""
        rows.append(f"| {mark}{power.alternative.name}{mark} | {power.batch:.1%} | {power.alone:.1%} |")
    rows.append("")
    rows.append(
        f"Share of {seeds:,} seeds that lose points; required ones bold. Right draws in {alarms.gradings:,} gradings: "
        f"{alarms.alarms} false alarms; the largest log-factor was {alarms.largest:.1f}; {-np.log(LEVEL):.1f} fails."
    )
    return rows


def curve(powers: Sequence[Power]) -> bytes:
    """The share of seeds that lose points at each temperature, as a PNG."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    shown = list(zip(CURVE, powers, strict=False))  # the temperatures come first
    for name, colour in (("batch", "tab:blue"), ("alone", "tab:orange")):
        label = {"batch": "batches", "alone": "single prompts"}[name]
        axes.plot([t for t, _ in shown], [getattr(p, name) for _, p in shown], "o-", ms=3, color=colour, label=label)
    axes.axvspan(0.96, 1.04, color="0.5", alpha=0.10, linewidth=0)
    axes.set_title("How often does drawing at a temperature lose points?")
    axes.set_xlabel("temperature at which sample draws")
    axes.set_ylabel("share of the seeds")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": f"matplotlib {matplotlib.__version__}"})
    return buffer.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="for each alternative (%(default)s)")
    parser.add_argument("--gradings", type=int, default=10_000, help="with right draws (%(default)s)")
    parser.add_argument("--write", action="store_true", help="docs/power.png and the table in staff/README.md")
    args = parser.parse_args()
    powers, alarms = measured(args.seeds, args.gradings)
    table = lines(powers, alarms, args.seeds)
    print("\n".join(table))
    if args.write:
        marked.rewrite(ROOT / "staff" / "README.md", "power", table)
        write_file(ROOT / "docs" / "power.png", curve(powers))
    return 0 if all(power.is_enough for power in powers) and not alarms.alarms else 1


if __name__ == "__main__":
    run_command(main)
