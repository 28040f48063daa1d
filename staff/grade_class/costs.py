"""Measure what a submission costs the machine that leads a cluster: for the plan in docs/grading-a-class.md.

    python -m staff.grade_class.costs [--write]

The class is a synthetic one (`synthetic.py`), and every submission gets the same real reply: what is measured is all
but the grading. Needs the dependency group `cluster`. `--write` writes the table of that document.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from distributed import Client

from src.errors import run_command
from src.files import ROOT, write_file
from staff import marked
from staff.audit.subject import DEFAULT_HOMEWORK, load_subject
from staff.declaration import load_homework
from staff.grade_class import engine, report, similarity, synthetic, table
from staff.grade_class.blocks import blocks_of
from staff.grade_class.grading import Class, packed
from staff.grade_class.store import Store
from staff.grade_class.submissions import Handed, read

SIZE = 1000  # submissions
PAIRS = (1000, 2000, 4000)
TASKS = 2000
WORKERS, PLANNED = 800, 10_000
REPEATS = 3
SEED = 7


@dataclass
class Costs:
    """Milliseconds a submission, one line each, with how that was measured."""

    lines: list[tuple[str, float, str]] = field(default_factory=list)

    def add(self, what: str, seconds: float, how: str) -> None:
        """Note that `what` takes so long for one submission."""
        self.lines.append((what, 1000 * seconds, how))
        print(f"{what}: {1000 * seconds:.2f} ms ({how})", flush=True)


class Instant(Executor):
    """Everything is graded at once, with the same reply."""

    def __init__(self, reply: dict[str, Any]):
        self._reply = json.dumps(reply)

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """A future that is done."""
        future: Future[Any] = Future()
        future.set_result(json.loads(self._reply))
        return future


class TimedStore(Store):
    """A store that notes how long each transaction takes."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.seconds: list[float] = []

    def put(self, *args: Any) -> None:
        """Store it."""
        began = time.perf_counter()
        super().put(*args)
        self.seconds.append(time.perf_counter() - began)


def _timed(function: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    result = function()
    return result, time.perf_counter() - began


def real_reply(handed: Handed) -> dict[str, Any]:
    """What grading a submission leads to."""
    what = {"submission": str(handed.path), "seed": SEED, "parts": ()}
    return engine.grade(engine.Order(DEFAULT_HOMEWORK, what))


def measure_class(folder: Path, costs: Costs) -> dict[str, Any]:
    """From the export to the pages; returns the reply that each submission got."""
    homework = load_homework(DEFAULT_HOMEWORK)
    export = folder / "export.zip"
    write_file(export, synthetic.export(synthetic.make_class(load_subject(DEFAULT_HOMEWORK), SIZE, 0)))
    handed, seconds = _timed(lambda: read(export, folder / "unpacked").submissions)
    metadata = next((folder / "unpacked").rglob("submission_metadata.yml")).stat().st_size
    costs.add("read the export", seconds / SIZE, f"{SIZE:,} submissions, {metadata / SIZE:,.0f} bytes of metadata each")
    reply = real_reply(next(one for one in handed if one.path is not None))
    store = TimedStore(folder / "class.sqlite")
    with store:
        whole, seconds = _timed(lambda: Class(homework, handed, store, SEED))
        jobs, more = _timed(whole.jobs)
        costs.add("hash its files, look it up", (seconds + more) / SIZE, f"{SIZE:,} submissions")
        sizes = [_timed(lambda job=job: len(packed(job.submissions[0].path))) for job in jobs[:100]]
        size = statistics.median(size for size, _ in sizes)
        costs.add("pack it", statistics.median(s for _, s in sizes), f"median of 100; the zip has {size:,.0f} bytes")
        list(whole.grade(jobs, engine.Place(Instant(reply), lambda: WORKERS, lambda: None)))
        stored = (folder / "class.sqlite").stat().st_size / len(store.seconds)
        how = f"median of {len(store.seconds)} transactions; {stored:,.0f} bytes each"
        costs.add("store its result", statistics.median(store.seconds), how)
        rows, seconds = _timed(whole.rows)
    measure_pages(folder, rows, seconds, costs)
    return reply


def measure_pages(folder: Path, rows: Sequence[table.Row], seconds: float, costs: Costs) -> None:
    """The table, results.json and the pages of a class."""
    homework = load_homework(DEFAULT_HOMEWORK)
    _, more = _timed(lambda: [table.grades_csv(homework, rows, None), *map(table.results_file, rows)])
    costs.add("read it again, grades.csv, results.json", (seconds + more) / len(rows), f"{len(rows):,} submissions")
    shown = [(row.handed, row.record) for row in rows]
    index, seconds = _timed(lambda: report.write_pages(folder / "out", homework, shown))
    page = statistics.median(path.stat().st_size for path in (folder / "out" / "students").iterdir())
    whole = index.stat().st_size / 1e6
    how = f"{len(rows):,} pages of {page / 1000:.0f} kB; that of the class has {whole:.1f} MB"
    costs.add("write its page", seconds / len(rows), how)


# --- Dask ---


def echo(order: engine.Order, reply: dict[str, Any]) -> dict[str, Any]:
    """In the place of grading."""
    return reply


@contextmanager
def _dask(*arguments: str) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def measure_dask(folder: Path, reply: dict[str, Any], content: bytes, costs: Costs) -> None:
    """What the scheduler and the client spend on a task, on plain TCP."""
    file = str(folder / "cluster.json")
    with ExitStack() as stack:
        options = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", file)
        scheduler = stack.enter_context(_dask("scheduler", *options))
        stack.enter_context(_dask("worker", "--scheduler-file", file, "--nthreads", "1", "--host", "127.0.0.1"))
        client = stack.enter_context(Client(scheduler_file=file, timeout=60, set_as_default=False))
        client.wait_for_workers(1, timeout=60)
        executor = client.get_executor(pure=False, retries=2)
        processes = {"scheduler": scheduler, "client": psutil.Process()}
        order = engine.Order(DEFAULT_HOMEWORK, {}, content, engine.version(DEFAULT_HOMEWORK), "run")
        found: dict[str, list[float]] = {name: [] for name in processes}
        for _ in range(REPEATS):
            before = {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}
            _carry_out(executor, order, reply)
            for name, process in processes.items():
                found[name].append((sum(process.cpu_times()[:2]) - before[name]) / TASKS)
    how = f"its processor time, median of {REPEATS} times {TASKS:,} tasks"
    costs.add("Dask's scheduler", statistics.median(found["scheduler"]), how)
    costs.add("Dask's client", statistics.median(found["client"]), how)


def _carry_out(executor: Executor, order: engine.Order, reply: dict[str, Any]) -> None:
    waiting: set[Future[Any]] = set()
    for _ in range(TASKS):
        waiting.add(executor.submit(echo, order, reply))
        if len(waiting) >= 20:
            waiting = set(wait(waiting, return_when=FIRST_COMPLETED).not_done)
    wait(waiting)


# --- pairs ---


def pairs(size: int) -> tuple[float, float]:
    """Seconds and gigabytes to find the pairs in a class of this size."""
    subject = load_subject(DEFAULT_HOMEWORK)
    homework = load_homework(DEFAULT_HOMEWORK)
    made = synthetic.make_class(subject, size, 0)
    answers = []
    for number, entry in enumerate(made):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in entry.files.items():
                if name.endswith(".py"):
                    (Path(folder) / Path(name).name).write_bytes(text)
            blocks = blocks_of(homework, Path(folder))
        answers.append(similarity.Answers(str(number), (), blocks))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, seconds = _timed(lambda: similarity.pairs_to_look_at(homework, answers))
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6


def lines(costs: Costs, found: dict[int, tuple[float, float]]) -> list[str]:
    """The table."""
    text = ["| what | ms a submission | at 10,000 | how it was measured |", "| --- | ---: | ---: | --- |"]
    for what, cost, how in costs.lines:
        text.append(f"| {what} | {cost:.2f} | {cost * PLANNED / 1000:.0f} s | {how} |")
    largest = max(found)
    seconds, gigabytes = found[largest]
    how = ", ".join(f"{took:.1f} s for {size:,}" for size, (took, _) in found.items()) + f" ({gigabytes:.1f} GB)"
    at = f"{seconds * (PLANNED / largest) ** 2:.0f} s"
    text.append(f"| find pairs, which grows with the square | {1000 * seconds / largest:.2f} | {at} | {how} |")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table of docs/grading-a-class.md")
    args = parser.parse_args()
    costs, found = Costs(), dict[int, tuple[float, float]]()
    with tempfile.TemporaryDirectory(prefix="costs-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        reply = measure_class(folder, costs)
        measure_dask(folder, reply, bytes(12_000), costs)
    for size in PAIRS:
        with ProcessPoolExecutor(1) as pool:  # a process each, so that its memory is known
            found[size] = pool.submit(pairs, size).result()
        print(f"pairs of {size}: {found[size][0]:.1f} s, {found[size][1]:.1f} GB", flush=True)
    if args.write:
        marked.rewrite(ROOT / "docs" / "grading-a-class.md", "costs", lines(costs, found))
    return 0


if __name__ == "__main__":
    run_command(main)
