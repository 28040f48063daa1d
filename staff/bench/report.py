"""What was found, as a table and as a chart."""

import json
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure

from src.artifacts import write_file
from staff.bench.sections import Findings, Line

STYLES = {
    "ours": ("#d1495b", "-"),
    "ours, bfloat16": ("#d1495b", "--"),
    "transformers": ("#30638e", "-"),
    "transformers, bfloat16": ("#30638e", "--"),
    "CTranslate2": ("#66a182", "-"),
    "CTranslate2, int8": ("#66a182", "--"),
    "plain": ("#8d8d8d", "-"),
}


def table(found: Findings) -> str:
    """The lines in Markdown."""
    rows = [f"Measured on {found.machine}.", "", "| what | measured | bound | |", "| --- | ---: | ---: | --- |"]
    return "\n".join([*rows, *map(_row, found.lines)]) + "\n"


def _row(line: Line) -> str:
    bound = "" if line.bound is None else f"{'≥' if line.bound > 0 else '≤'} {abs(line.bound):.3g}"
    verdict = {None: "", True: "", False: "**missed**"}[line.met]
    note = "; ".join(words for words in (verdict, line.note) if words)
    return f"| {line.what} | {line.value:.3g} {line.unit} | {bound} | {note} |"


def chart(found: Findings, path: Path) -> None:
    """Time per token over the position, and tokens a second over the batch, as a PNG."""
    single = [name for name in found.curves if name.endswith("batch 1")]
    panels = [(name, found.curves[name]) for name in [*single, "tokens a second"] if name in found.curves]
    figure = Figure(figsize=(5.2 * len(panels), 4.2), layout="constrained")
    for i, (name, curves) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), i)
        for who, points in curves.items():
            colour, style = STYLES[who]
            axes.plot(list(points), list(points.values()), style, color=colour, marker="o", markersize=3, label=who)
        if name == "tokens a second":
            axes.set(title="GPT-2 small's shape", xlabel="prompts at once", ylabel="tokens a second")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            axes.set_xticks(list(points), list(points))
            axes.yaxis.set_major_formatter("{x:g}")
        else:
            model = name.split(",")[0].replace("gpt2-random", "GPT-2 small's shape")
            axes.set(title=model, xlabel="position", ylabel="milliseconds a token, one prompt")
            axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8, ncols=2, loc="lower left")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def save(found: Findings, folder: Path) -> None:
    """Write results.md, results.json and speed.png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "results.md", table(found).encode())
    write_file(folder / "results.json", (json.dumps(asdict(found), indent=1) + "\n").encode())
    if any("batch 1" in name or name == "tokens a second" for name in found.curves):
        chart(found, folder / "speed.png")
