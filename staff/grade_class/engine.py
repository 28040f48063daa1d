"""Run one function for many submissions, on any `concurrent.futures` executor, with few of them under way at a time.

By default these are threads, each of which talks to a warm process of this machine (`staff/warm.py`). On a cluster they
are the tasks of a Dask client. Neither is trusted to survive: a process that dies costs a retry, and a submission for
which it dies again and again has failed, which is our fault and never a zero.
"""

import atexit
import contextlib
import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from src.grading.time_budget import MOST_SLOWNESS, TOTAL
from staff.declaration import load_homework
from staff.grade_class.sources import part_hashes
from staff.grade_class.store import FAILED
from staff.warm import GraderDied, Graders

ATTEMPTS = 3
_PATIENCE = MOST_SLOWNESS * TOTAL + 60  # seconds for one submission, which ends itself before

T = TypeVar("T")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder that every user can enter. What processes left there that were killed is removed."""
    for left in Path(tempfile.gettempdir()).glob("class-*-*"):
        if not Path("/proc", left.name.split("-")[1]).exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"class-{os.getpid()}-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@functools.cache
def _graders(homework: str) -> Graders:
    """The warm processes of this process, which end with it."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(Graders("staff.grade_class.worker", homework, stack.enter_context(scratch())))


def stop(homework: str) -> None:
    """End all gradings of this process at once."""
    _graders(homework).stop()


def version(homework: str) -> dict[str, str]:
    """What this machine's results depend on; see `sources.py`."""
    declared = load_homework(homework)
    return part_hashes(declared, declared.find_model("bundled"))


@dataclass(frozen=True)
class Order:
    """What a task is told."""

    homework: str
    what: dict[str, Any]  # the arguments of `worker.graded`
    content: bytes | None  # the zip, where the submission's path is one of another machine


def grade(order: Order) -> dict[str, Any]:
    """Carry out an order in a warm process; after ATTEMPTS deaths, the status is FAILED."""
    if order.content is None:
        return _graded(order.homework, order.what)
    with scratch() as folder:
        path = folder / "submission.zip"
        path.write_bytes(order.content)
        return _graded(order.homework, order.what | {"submission": str(path)})


def _graded(homework: str, what: dict[str, Any]) -> dict[str, Any]:
    said = ""
    for _ in range(ATTEMPTS):
        try:
            return _graders(homework).ask(what, _PATIENCE)
        except GraderDied as error:
            said = str(error).splitlines()[-1]
    return _failure(f"the process that graded it died {ATTEMPTS} times ({said})")


def run(executor: Executor, orders: Iterable[tuple[T, Order]], in_flight: int) -> Iterator[tuple[T, dict[str, Any]]]:
    """What comes of each order, with what it belongs to, as soon as it is there; at most `in_flight` are under way.

    An exception, such as Dask's KilledWorker, is a failure of ours: the status is FAILED.
    """
    waiting: dict[Future[dict[str, Any]], T] = {}
    orders = iter(orders)
    try:
        while True:
            for what, order in itertools.islice(orders, in_flight - len(waiting)):
                waiting[executor.submit(grade, order)] = what
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), _result(future)
    finally:
        for future in waiting:
            future.cancel()


def _result(future: "Future[dict[str, Any]]") -> dict[str, Any]:
    try:
        return future.result()
    except Exception as error:
        return _failure(f"{type(error).__name__}: {error}".splitlines()[0])


def _failure(error: str) -> dict[str, Any]:
    return {
        "status": FAILED,
        "error": error,
        "notes": [],
        "blocks": {},
        "seconds": 0.0,
        "shown_seconds": 0,
        "tests": [],
    }
