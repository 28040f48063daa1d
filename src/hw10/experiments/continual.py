"""Question 5: how much a network forgets of two earlier tasks, and what EWC and rehearsal do about it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.hw10.experiments.continual_training import FILE, TASKS, Ewc, Naive, Rehearsal, learn, make_tasks
from src.hw10.mnist import load
from src.hw10.networks.continual import NETWORKS
from src.hw10.plots import png
from src.hw10.run import Run
from src.hw10.tables import Row, table

STRENGTHS: Final = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)  # λ
STRENGTH: Final = 100.0  # the one whose accuracies are shown
CAPACITIES: Final = (30, 100, 300, 1000)
CAPACITY: Final = 300  # the one whose accuracies are shown
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """One training: of a network, by a method with its setting, from a seed."""

    network: str
    method: str  # naive, EWC or rehearsal
    setting: float  # 0 for the naive method, λ, or how many examples the memory holds
    seed: int


Results = Mapping[tuple[str, float], Floats]  # network, setting → accuracies (seeds, after task, on task)


def ewc(run: Run) -> Mapping[str, bytes]:
    """The accuracies and the forgetting with EWC, for several λ, beside those of the naive method."""
    results = train(run, "EWC", STRENGTHS)
    return {
        "continual_ewc.png": _matrices_picture(results, {"naive": 0.0, f"EWC, λ = {STRENGTH:g}": STRENGTH}),
        "continual_lambda.png": _settings_picture(results, STRENGTHS, "λ", "EWC: stability against plasticity"),
        "continual_ewc.csv": _table(results, "EWC", "lambda"),
    }


def rehearsal(run: Run) -> Mapping[str, bytes]:
    """The accuracies and the forgetting with a memory, for several sizes, beside those of the naive method."""
    results = train(run, "rehearsal", CAPACITIES)
    shown = {"naive": 0.0, f"rehearsal, {CAPACITY} examples": float(CAPACITY)}
    return {
        "continual_rehearsal.png": _matrices_picture(results, shown),
        "continual_memory.png": _settings_picture(
            results, CAPACITIES, "examples in the memory", "Rehearsal: how large a memory is needed?"
        ),
        "continual_rehearsal.csv": _table(results, "rehearsal", "capacity"),
    }


def train(run: Run, method: str, settings: Sequence[float]) -> Results:
    """Train each network naively and by `method` with each of `settings`, from each seed."""
    training, digits = run.training("continual"), load(run.data, run.full_mnist)
    seeds = [run.seed + i for i in range(training.seeds)]
    named = [("naive", 0.0), *((method, float(each)) for each in settings)]
    plans = [Plan(network, *each, seed) for network in NETWORKS for each in named for seed in seeds]
    with run.loop(f"continual-{method}", FILE, len(plans), {}) as loop:
        for i in loop:
            plan = plans[i]
            run.start_from(plan.seed)  # the same tasks, and the same network at the start, for every method
            tasks, network = make_tasks(digits, run.device), NETWORKS[plan.network]().to(run.device)
            accuracies = learn(network, tasks, _method(run, plan), training)
            loop.record(**{f"{j}{k}": accuracies[j][k] for j in range(TASKS) for k in range(TASKS)})
    flat = np.array([loop.history[f"{j}{k}"] for j in range(TASKS) for k in range(TASKS)])  # (9, plans)
    found = flat.T.reshape(len(NETWORKS), len(named), len(seeds), TASKS, TASKS)
    return {(name, setting): found[i, j] for i, name in enumerate(NETWORKS) for j, (_, setting) in enumerate(named)}


def _method(run: Run, plan: Plan) -> Naive:
    if plan.method == "naive":
        return Naive()
    return Ewc(run, plan.setting) if plan.method == "EWC" else Rehearsal(run, int(plan.setting))


def final_accuracies(accuracies: Floats) -> Floats:
    """The mean accuracy on all tasks after the last one, (seeds,), from (seeds, after task, on task)."""
    return np.asarray(accuracies[:, -1].mean(axis=1))


def forgetting(accuracies: Floats) -> Floats:
    """By how much the accuracy on the earlier tasks falls from its best to the end, in the mean, (seeds,).

    Chaudhry et al., "Riemannian walk for incremental learning", 2018, section 4.
    """
    best = accuracies[:, :-1, :-1].max(axis=1)  # after any task but the last, (seeds, earlier tasks)
    return np.asarray((best - accuracies[:, -1, :-1]).mean(axis=1))


def _error(values: Floats) -> float:
    """The standard error of the mean; NaN for one value, which has none."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else math.nan


def _table(results: Results, method: str, what: str) -> bytes:
    """A row for each network and setting, with standard errors over the seeds."""
    rows: list[Row] = []
    for (network, setting), accuracies in results.items():
        final, forgot = final_accuracies(accuracies), forgetting(accuracies)
        rows.append(
            {
                "network": network,
                "method": method if setting else "naive",
                what: f"{setting:g}" if setting else "",
                "final_accuracy": float(final.mean()),
                "final_accuracy_error": _error(final),
                "forgetting": float(forgot.mean()),
                "forgetting_error": _error(forgot),
                "seeds": len(final),
            }
        )
    return table(rows)


def _matrices_picture(results: Results, shown: Mapping[str, float]) -> bytes:
    """Heat maps of the accuracies: a row of them for each network, a column for each of `shown`, title → setting."""
    figure = Figure(figsize=(3.4 * len(shown) + 1.2, 6.4), layout="constrained")
    axes: Any = figure.subplots(len(NETWORKS), len(shown), squeeze=False)
    for i, network in enumerate(NETWORKS):
        for j, (title, setting) in enumerate(shown.items()):
            image = _matrix(axes[i, j], results[network, setting].mean(axis=0))
            axes[i, j].set_title(f"{network}, {title}", fontsize=10)
    figure.colorbar(image, ax=axes, label="accuracy on held-out images, %", shrink=0.7)
    return png(figure)


def _matrix(axes: Axes, accuracies: Floats) -> Any:
    """One heat map of (after task, on task), with its numbers."""
    image = axes.imshow(accuracies, vmin=0, vmax=100, cmap="Blues")
    for (after, on), value in np.ndenumerate(accuracies):
        weight = "bold" if after == len(accuracies) - 1 else "normal"
        color = "white" if value > 60 else "black"
        axes.text(on, after, f"{value:.0f}", ha="center", va="center", color=color, weight=weight)
    names = [str(i + 1) for i in range(len(accuracies))]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="on task", ylabel="after task")
    return image


def _settings_picture(results: Results, settings: Sequence[float], what: str, title: str) -> bytes:
    """For each network, the accuracies in the end over `settings`, and dotted those of the naive method."""
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axes: Any = figure.subplots(1, len(NETWORKS), squeeze=False)[0]
    for i, network in enumerate(NETWORKS):
        for color, (label, of) in zip(("black", "tab:blue", "tab:orange"), _curves().items(), strict=True):
            values = [of(results[network, float(each)]) for each in settings]
            means, errors = [each.mean() for each in values], [_error(each) for each in values]
            axes[i].errorbar(settings, means, errors, label=label, color=color, marker="o", markersize=4, capsize=3)
            axes[i].axhline(of(results[network, 0.0]).mean(), color=color, linestyle=":", linewidth=1)
        axes[i].set_xscale("log")
        axes[i].set(xlabel=what, title=network)
        axes[i].margins(y=0.1)
        axes[i].spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("accuracy after the last task, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"{title} (dotted: naive)")
    return png(figure)


def _curves() -> Mapping[str, Any]:
    return {
        "mean of all tasks": final_accuracies,
        "first task": lambda accuracies: accuracies[:, -1, 0],
        "last task": lambda accuracies: accuracies[:, -1, -1],
    }
