"""The histograms. Importing matplotlib takes a while, so this module is imported only where something is drawn."""

import io
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.hw1.dataset import DATASETS, Dataset

Floats = NDArray[np.float64]


def histogram(dataset: Dataset, log_likelihoods: Floats) -> bytes:
    """One data set's histogram, as a PNG; `log_likelihoods` (N,) in nats."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(log_likelihoods, bins=20, color=dataset.colour, edgecolor="white", linewidth=0.6)
    axes.set_title(f"{dataset.label.capitalize()}: {len(log_likelihoods)} strings of 100 characters")
    mean = float(np.mean(log_likelihoods))
    axes.axvline(mean, color="black", linewidth=1, linestyle="--", label=f"mean {mean:.0f}")
    _finish(axes)
    return png(figure)


def overview(log_likelihoods: Mapping[str, Floats]) -> bytes:
    """All data sets (by name) on one axis, as a PNG; a wide gap between them is marked, but no threshold is drawn."""
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    everything = np.sort(np.concatenate(list(log_likelihoods.values())))
    bins = np.linspace(everything[0], everything[-1] + 1e-6, 60).tolist()
    for dataset in DATASETS:
        axes.hist(
            log_likelihoods[dataset.name], bins=bins, color=dataset.colour, alpha=0.75, label=dataset.label,
            edgecolor="white", linewidth=0.4,
        )  # fmt: skip
    gaps = np.diff(everything)
    if len(gaps) and gaps.max() > 0.1 * (everything[-1] - everything[0]):
        _mark_gap(axes, everything[gaps.argmax()], everything[gaps.argmax() + 1])
    axes.set_title("How likely does the model find each kind of text?")
    _finish(axes)
    return png(figure)


def _mark_gap(axes: Axes, left: float, right: float) -> None:
    axes.axvspan(left, right, color="0.5", alpha=0.10, linewidth=0)
    axes.text(
        (left + right) / 2, 0.5, "?", transform=axes.get_xaxis_transform(), ha="center", va="center", fontsize=48,
        color="0.45",
    )  # fmt: skip


def _finish(axes: Axes) -> None:
    axes.set_xlabel("log-likelihood of the string (nats)")
    axes.set_ylabel("strings")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def png(figure: Figure) -> bytes:
    """`figure` as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": f"matplotlib {matplotlib.__version__}"})
    return buffer.getvalue()
