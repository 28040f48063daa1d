"""The measurements as a table and as a chart."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.files import write_file
from src.model.config import BUNDLED
from staff.bench.decoding import THROUGHPUT
from staff.bench.implementations import SMALL
from staff.bench.measurements import HEAD, Contest, Curves, Line, cells, heading
from staff.bench.results import Results, to_json

STYLES = {
    "ours": ("#d1495b", "-"),
    "ours, bfloat16": ("#d1495b", "--"),
    "ours, int8": ("#d1495b", ":"),
    "transformers": ("#30638e", "-"),
    "CTranslate2": ("#66a182", "-"),
    "CTranslate2, int8": ("#66a182", "--"),
    "llama.cpp": ("#edae49", "-"),
    "llama.cpp, int8, for 16": ("#edae49", "--"),
}
CLAIMS = {"ahead": "#66a182", "behind": "#d1495b"}  # colours of intervals; others are grey


def save(results: Results, folder: Path) -> None:
    """Write results.md, results.json and, if there is anything to draw, ratios.png and speed.png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "results.md", table(results).encode())
    write_file(folder / "results.json", to_json(results).encode())
    draw_all(results, folder)


def draw_all(results: Results, folder: Path) -> None:
    """Draw ratios.png and speed.png into `folder`, if there is anything to draw."""
    if contests := [c for c in results.contests if c.what.startswith(SMALL)] or results.contests:
        draw_ratios(contests, folder / "ratios.png")
    if charts := _charts(results.curves):
        draw(results.curves, charts, folder / "speed.png")


def table(results: Results) -> str:
    """The contests and the lines in Markdown."""
    parts = [f"Measured on {results.machine}."]
    parts += [f"{heading(contest)}.\n\n{table_of_contest(contest)}" for contest in results.contests]
    if results.lines:
        parts.append(table_of_lines(results.lines))
    return "\n\n".join(parts) + "\n"


def table_of_lines(lines: Sequence[Line]) -> str:
    """The lines as a table."""
    head = ["| what | measured | 95 % interval | bound | |", "| --- | ---: | --- | ---: | --- |"]
    return "\n".join([*head, *map(_row, lines)])


def table_of_contest(contest: Contest) -> str:
    """The contest as a table."""
    head = [_joined(HEAD), "| --- | ---: | ---: | ---: | --- | --- | --- |"]
    return "\n".join([*head, *(_joined(cells(entry)) for entry in contest.entries)])


def _joined(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def _row(line: Line) -> str:
    interval = "" if line.interval is None else "{:.3g} to {:.3g}".format(*line.interval)
    bound = "" if line.bound is None else f"{'≥' if line.bound > 0 else '≤'} {abs(line.bound):.3g}"
    verdict = line.verdict.replace("missed", "**missed**")
    note = "; ".join(text for text in (verdict, line.note) if text)
    return f"| {line.what} | {f'{line.value:.3g} {line.unit}'.strip()} | {interval} | {bound} | {note} |"


def draw_ratios(contests: Sequence[Contest], path: Path) -> None:
    """Draw each contender's time divided by ours, with its interval, one chart a contest, into a PNG file."""
    figure = Figure(figsize=(5.6 * len(contests), 4.6), layout="constrained")
    for axes, contest in zip(figure.subplots(1, len(contests), squeeze=False)[0], contests, strict=True):
        compared = [(entry, entry.ratio) for entry in reversed(contest.entries) if entry.ratio and entry.ratio.rounds]
        for y, (entry, ratio) in enumerate(compared):
            colour = CLAIMS.get(entry.claim, "#8d8d8d")
            axes.plot([ratio.low, ratio.high], [y, y], color=colour, linewidth=2)
            axes.plot(ratio.value, y, "s" if entry.is_limit else "o", color=colour, markersize=5)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_yticks(range(len(compared)), [entry.label for entry, _ in compared])
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("its time / ours, with 95 % interval")
        axes.set_title(contest.what.replace(SMALL, "GPT-2 small's shape").replace(", context", "\ncontext"), fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _charts(curves: Curves) -> list[str]:
    """The names of the charts that are drawn: time per token for one prompt, and tokens a second."""
    single = [name for name in curves if name.endswith("batch 1")]
    return [name for name in [*single, THROUGHPUT] if name in curves]


def draw(curves: Curves, charts: list[str], path: Path) -> None:
    """Draw these charts side by side into a PNG file."""
    figure = Figure(figsize=(5.2 * len(charts), 4.2), layout="constrained")
    for i, chart in enumerate(charts, start=1):
        axes = figure.add_subplot(1, len(charts), i)
        for label, points in curves[chart].items():
            colour, style = STYLES.get(label, ("#8d8d8d", "-"))
            axes.plot(list(points), list(points.values()), style, color=colour, marker="o", markersize=3, label=label)
        if chart == THROUGHPUT:
            _label_throughput(axes, max(map(list, curves[chart].values()), key=len))
        else:
            model = chart.split(",")[0].replace(SMALL, "GPT-2 small's shape").replace(BUNDLED, "the bundled model")
            axes.set(title=model, xlabel="position", ylabel="milliseconds a token, one prompt")
            axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    figure.legend(lines.values(), lines.keys(), frameon=False, fontsize=8, ncols=len(lines), loc="outside lower center")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _label_throughput(axes: Axes, batches: list[int]) -> None:
    axes.set(title="GPT-2 small's shape", xlabel="prompts at once", ylabel="tokens a second")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(batches, list(map(str, batches)))
    axes.yaxis.set_major_formatter("{x:g}")
