"""Measure how fast a class is graded, beside a loop of grader.py over some of its submissions.

    python -m staff.grade_class.throughput [--write]

The class is a synthetic one (`synthetic.py`). Half of the loop runs before it and half after it, in the same run, and
the scores are compared. `--write` writes the table in docs/grading-a-class.md and the chart docs/class-throughput.png.
"""

import argparse
import functools
import io
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from tqdm import tqdm

from src.errors import UserError, run_command
from src.files import ROOT, write_file
from staff import marked
from staff.audit.subject import DEFAULT_HOMEWORK, load_subject
from staff.grade_class import synthetic
from staff.grade_class.submissions import Handed, read

SIZES = (30, 100, 300, 1000)
WHOLE = 300  # the class that is compared with the loop
WORKERS = (1, 2)
SEED = 7
HOSTILE, COPIES = 30, 6  # one submission in HOSTILE is an attack


@dataclass(frozen=True)
class Took:
    """What some gradings took: seconds on the clock and of the processors."""

    submissions: int
    wall: float
    cpu: float

    @property
    def a_minute(self) -> float:
        """Submissions a minute."""
        return 60 * self.submissions / self.wall

    def __add__(self, other: "Took") -> "Took":
        return Took(self.submissions + other.submissions, self.wall + other.wall, self.cpu + other.cpu)


NOTHING = Took(0, 0.0, 0.0)


@dataclass
class Report:
    """What was measured."""

    alone: Took = NOTHING
    together: Took = NOTHING
    differing: list[str] = field(default_factory=list)  # ids whose scores are not the same both ways
    sizes: dict[tuple[int, int], Took] = field(default_factory=dict)  # submissions, workers →


def timed(command: Sequence[str], submissions: int) -> Took:
    """Run a command of this project and all processes that it starts.

    Raises:
        UserError: it failed.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):  # grader.py ends with 1 where points are lost
        raise UserError(f"{' '.join(command)}: ended with {done.returncode}\n{done.stderr}")
    return Took(submissions, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def export_of(submissions: int, folder: Path) -> Path:
    """A synthetic class of so many, as an export in `folder`."""
    attacks, copies = max(1, submissions // HOSTILE), min(COPIES, submissions // 10)
    made = synthetic.make_class(load_subject(DEFAULT_HOMEWORK), submissions, attacks, copies=copies)
    path = folder / f"{submissions}.zip"
    write_file(path, synthetic.export(made))
    return path


def grade_class(export: Path, submissions: int, workers: int) -> Took:
    """Grade a class with nothing in the store; the results go to the folder `export` without .zip."""
    out = export.with_suffix("")
    shutil.rmtree(out, ignore_errors=True)
    options = ["--out", str(out), "--seed", str(SEED), "--jobs", str(workers)]
    return timed(["-m", "staff.grade_class", str(export), *options], submissions)


def compare(folder: Path, sample: int, report: Report) -> None:
    """Grade the class of WHOLE; and `sample` of it in a loop of grader.py, half before and half after."""
    export = export_of(WHOLE, folder)
    unpacked = folder / "unpacked"
    handed = [one for one in read(export, unpacked).submissions if one.path is not None and one.is_active]
    chosen = random.Random(SEED).sample(handed, sample)
    alone = [_grade_alone(one, folder) for one in tqdm(chosen[: sample // 2], "loop", unit="submission")]
    report.together = grade_class(export, WHOLE, max(WORKERS))
    alone += [_grade_alone(one, folder) for one in tqdm(chosen[sample // 2 :], "loop", unit="submission")]
    report.alone = functools.reduce(Took.__add__, alone)
    results = export.with_suffix("") / "results"
    report.differing = [
        one.id for one in chosen if _scores(folder / f"{one.id}.json") != _scores(results / f"{one.id}.json")
    ]


def _grade_alone(one: Handed, folder: Path) -> Took:
    results = ["--seed", str(SEED), "--json", str(folder / f"{one.id}.json")]
    return timed(["grader.py", "--submission", str(one.path), *results], 1)


def _scores(results: Path) -> list[tuple[str, float]]:
    """Number and score of each test; none where a submission was refused."""
    found = json.loads(results.read_text(encoding="utf-8"))["tests"]
    return [(test["number"], test["score"]) for test in found]


def lines(report: Report) -> list[str]:
    """The figures, as a table."""
    alone, together = report.alone, report.together
    table = [
        "| | submissions | minutes | submissions a minute | CPU seconds a submission |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, took in (("a loop of `grader.py`", alone), (f"a class, {max(WORKERS)} processes", together)):
        cpu = took.cpu / took.submissions
        table.append(f"| {name} | {took.submissions} | {took.wall / 60:.1f} | {took.a_minute:.0f} | {cpu:.2f} |")
    same = alone.submissions - len(report.differing)
    text = (
        f"That is {together.a_minute / alone.a_minute:.1f} times the throughput. The loop took a random sample of the "
        f"class; {same} of these {alone.submissions} got the same score in every test both ways."
    )
    table += ["", *textwrap.wrap(text, 120)]
    return table


def chart(report: Report) -> bytes:
    """Throughput over the size of the class, as a PNG."""
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for workers in WORKERS:
            found = {size: took for (size, of), took in report.sizes.items() if of == workers}
            label = f"{workers} process" + ("es" if workers > 1 else "")
            axes.plot(list(found), [took.a_minute for took in found.values()], "o-", label=label)
        axes.axhline(report.alone.a_minute, linestyle="--", color="gray", label="a loop of grader.py")
        axes.set(xscale="log", xlabel="submissions in the class", ylabel="submissions a minute", ylim=(0, None))
        axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
        axes.minorticks_off()
        axes.legend(frameon=False)
        file = io.BytesIO()
        figure.savefig(file, dpi=150, metadata={"Software": None})
        return file.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", type=int, default=30, help="submissions of the loop (%(default)s)")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="of classes for the chart (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table and the chart")
    args = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="throughput-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        compare(folder, args.loop, report)
        print("\n".join(lines(report)), flush=True)
        for size in args.sizes:
            export = export_of(size, folder)
            for workers in WORKERS:
                took = report.sizes[size, workers] = grade_class(export, size, workers)
                print(
                    f"{size} submissions, {workers} at a time: {took.wall:.0f} s, {took.a_minute:.1f} a minute",
                    flush=True,
                )
    if args.write:
        marked.rewrite(ROOT / "docs" / "grading-a-class.md", "throughput", lines(report))
        write_file(ROOT / "docs" / "class-throughput.png", chart(report))
    return 1 if report.differing else 0


if __name__ == "__main__":
    run_command(main)
