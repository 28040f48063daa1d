"""The picture of question 7. Importing matplotlib takes a while; see `plots`."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.hw1.long_horizon.fine_tune import Measured
from src.hw1.long_horizon.study import TEMPERATURE, TEMPERATURES, Study
from src.hw1.plots import png

BLUE, ORANGE, GREEN, GREY = "#2f6db3", "#d9822b", "#2e8b57", "0.45"


def picture(found: Study, measured: Sequence[Measured] = ()) -> bytes:
    """What was found on the small model and, if there is any, on a language model, as a PNG."""
    if measured:
        figure = Figure(figsize=(10.4, 8.2), layout="constrained")
        axes = figure.subplots(2, 2).flatten().tolist()
        _draw_language_model(axes[3], measured)
    else:
        figure = Figure(figsize=(13.2, 4.0), layout="constrained")
        axes = figure.subplots(1, 3).tolist()
    _draw_horizons(axes[0], found)
    _draw_chain(axes[1], found)
    _draw_log_z(axes[2], found)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return png(figure)


def _draw_horizons(axes: Axes, found: Study) -> None:
    horizons = range(1, len(found.by_horizon) + 1)
    axes.plot(horizons, found.by_horizon, color=BLUE, marker="o", label="scaled, h tokens ahead")
    axes.axhline(found.trained, color=ORANGE, linestyle="--", label=f"q, trained: {found.trained:.4f}")
    axes.set_xticks(list(horizons))
    axes.set_ylim(bottom=0)
    axes.set_title(f"How far from the scaled joint, T = {TEMPERATURE}?")
    axes.set_xlabel("horizon h (tokens)")
    axes.set_ylabel("KL($p_T$ ‖ q) (nats)")
    axes.legend(frameon=False)


def _draw_chain(axes: Axes, found: Study) -> None:
    axes.semilogy(range(len(found.by_step)), found.by_step, color=GREEN, marker=".", label="Metropolis-Hastings")
    axes.axhline(found.trained, color=ORANGE, linestyle="--", label="q, trained")
    for h, value in enumerate(found.by_horizon[:2], start=1):
        axes.axhline(value, color=GREY, linewidth=0.8, linestyle=":")
        axes.annotate(f"h = {h}", (1, value), xycoords=axes.get_yaxis_transform(), ha="right", va="bottom", color=GREY)
    axes.set_title("A chain whose proposals come from p")
    axes.set_xlabel("steps")
    axes.set_ylabel("KL($p_T$ ‖ chain) (nats)")
    axes.legend(frameon=False, loc="lower left")


def _draw_log_z(axes: Axes, found: Study) -> None:
    axes.plot(TEMPERATURES, found.log_z, color=BLUE)
    axes.plot([1], [0], color=GREY, marker="o")
    axes.annotate("Z(1) = 1", (1, 0), (8, -12), textcoords="offset points", color=GREY)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title("The partition function")
    axes.set_xlabel("temperature T")
    axes.set_ylabel("log Z(T)")


def _draw_language_model(axes: Axes, measured: Sequence[Measured]) -> None:
    myopic = sorted((each for each in measured if each.horizon == 1), key=lambda each: each.distinct[0])
    places = [(each.distinct[0], each.log_p) for each in myopic]
    axes.plot(*zip(*places, strict=True), color=GREY, marker=".", label="horizon 1, at several T")
    for each, place in zip(myopic, places, strict=True):
        axes.annotate(f"{each.temperature:.3g}", place, (3, 4), textcoords="offset points", color=GREY)
    colours = iter((BLUE, ORANGE))
    for each in measured:
        if each.horizon > 1:
            axes.errorbar(
                each.distinct[0], each.log_p, each.error, color=next(colours), marker="o", capsize=3, label=each.name
            )
    axes.set_title("The language model: likelihood against diversity")
    axes.set_xlabel("distinct pairs of tokens (share)")
    axes.set_ylabel("mean log-likelihood of a token (nats)")
    axes.legend(frameon=False)
