"""The measurements as a table and as a chart."""

import json
from dataclasses import asdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.files import write_file
from staff.bench.decoding import THROUGHPUT
from staff.bench.implementations import SMALL
from staff.bench.measurements import Line, Measurements

STYLES = {
    "ours": ("#d1495b", "-"),
    "ours, bfloat16": ("#d1495b", "--"),
    "transformers": ("#30638e", "-"),
    "transformers, bfloat16": ("#30638e", "--"),
    "CTranslate2": ("#66a182", "-"),
    "CTranslate2, int8": ("#66a182", "--"),
    "plain": ("#8d8d8d", "-"),
}


def save(measurements: Measurements, folder: Path) -> None:
    """Write results.md, results.json and, if there is anything to draw, speed.png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "results.md", table(measurements).encode())
    write_file(folder / "results.json", (json.dumps(asdict(measurements), indent=1) + "\n").encode())
    if charts := _charts(measurements):
        draw(measurements, charts, folder / "speed.png")


def table(measurements: Measurements) -> str:
    """The lines in Markdown."""
    head = [f"Measured on {measurements.machine}.", "", "| what | measured | bound | |", "| --- | ---: | ---: | --- |"]
    return "\n".join([*head, *map(_row, measurements.lines)]) + "\n"


def _row(line: Line) -> str:
    bound = "" if line.bound is None else f"{'≥' if line.bound > 0 else '≤'} {abs(line.bound):.3g}"
    verdict = "**missed**" if line.met is False else ""
    note = "; ".join(text for text in (verdict, line.note) if text)
    return f"| {line.what} | {line.value:.3g} {line.unit} | {bound} | {note} |"


def _charts(measurements: Measurements) -> list[str]:
    """The names of the charts that are drawn: time per token for one prompt, and tokens a second."""
    single = [name for name in measurements.curves if name.endswith("batch 1")]
    return [name for name in [*single, THROUGHPUT] if name in measurements.curves]


def draw(measurements: Measurements, charts: list[str], path: Path) -> None:
    """Draw these charts side by side into a PNG file."""
    figure = Figure(figsize=(5.2 * len(charts), 4.2), layout="constrained")
    for i, chart in enumerate(charts, start=1):
        axes = figure.add_subplot(1, len(charts), i)
        for label, points in measurements.curves[chart].items():
            colour, style = STYLES[label]
            axes.plot(list(points), list(points.values()), style, color=colour, marker="o", markersize=3, label=label)
        if chart == THROUGHPUT:
            _label_throughput(axes, list(points))
        else:
            model = chart.split(",")[0].replace(SMALL, "GPT-2 small's shape")
            axes.set(title=model, xlabel="position", ylabel="milliseconds a token, one prompt")
            axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8, ncols=2, loc="lower left")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _label_throughput(axes: Axes, batches: list[int]) -> None:
    axes.set(title="GPT-2 small's shape", xlabel="prompts at once", ylabel="tokens a second")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(batches, list(map(str, batches)))
    axes.yaxis.set_major_formatter("{x:g}")
