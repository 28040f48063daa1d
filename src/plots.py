"""The histograms. Importing matplotlib takes a while, so this module is imported only where something is drawn."""

import io
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"random": "#d1495b", "shakespeare": "#edae49", "neurips": "#30638e"}
LABELS = {"random": "random letters", "shakespeare": "plays", "neurips": "abstracts"}


def histogram(name: str, log_likelihoods: np.ndarray) -> bytes:
    """One data set's histogram, as a PNG; `log_likelihoods` (N,) in nats."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(log_likelihoods, bins=20, color=COLOURS[name], edgecolor="white", linewidth=0.6)
    axes.set_title(f"{LABELS[name].capitalize()}: {len(log_likelihoods)} strings of 100 characters")
    mean = float(np.mean(log_likelihoods))
    axes.axvline(mean, color="black", linewidth=1, linestyle="--", label=f"mean {mean:.0f}")
    _finish(axes)
    return _png(figure)


def overview(log_likelihoods: Mapping[str, np.ndarray]) -> bytes:
    """All data sets on one axis, as a PNG, with any wide gap between them left open to see."""
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    everything = np.sort(np.concatenate(list(log_likelihoods.values())))
    bins = np.linspace(everything[0], everything[-1] + 1e-6, 60)
    for name, values in log_likelihoods.items():
        axes.hist(
            values, bins=bins, color=COLOURS[name], alpha=0.75, label=LABELS[name], edgecolor="white", linewidth=0.4
        )
    gaps = np.diff(everything)
    if len(gaps) and gaps.max() > 0.1 * (everything[-1] - everything[0]):
        left, right = everything[gaps.argmax()], everything[gaps.argmax() + 1]
        axes.axvspan(left, right, color="0.5", alpha=0.10, linewidth=0)
        axes.text((left + right) / 2, 0.5, "?", transform=axes.get_xaxis_transform(), ha="center", va="center",
                  fontsize=48, color="0.45")  # fmt: skip
    axes.set_title("How likely does the model find each kind of text?")
    _finish(axes)
    return _png(figure)


def _finish(axes: Axes) -> None:
    axes.set_xlabel("log-likelihood of the string (nats)")
    axes.set_ylabel("strings")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": f"matplotlib {matplotlib.__version__}"})
    return buffer.getvalue()
