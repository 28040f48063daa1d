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
import platform
import queue
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from src.errors import UserError
from src.grading.time_budget import MOST_SLOWNESS, TOTAL
from staff.declaration import load_homework
from staff.grade_class.sources import part_hashes, versions
from staff.grade_class.store import FAILED
from staff.warm import GraderDied, Graders

ATTEMPTS = 3
LOOK_SECONDS = 2.0  # between two looks at how many may be under way
_PATIENCE = MOST_SLOWNESS * TOTAL + 60  # seconds for one submission, which ends itself before
UPDATE = "bring it to the version of this machine and start it again"
_LOCK = threading.Lock()
_STOPPED: set[str] = set()  # runs that this process does no more for

T = TypeVar("T")


class Stopped(UserError):
    """Nothing more can be graded now; what was graded is stored."""


class OtherVersion(Stopped):
    """A machine that would grade in another way than the one that asks it."""


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


def _graders(homework: str) -> Graders:
    with _LOCK:
        return _only_graders(homework)


@functools.cache
def _only_graders(homework: str) -> Graders:
    """The warm processes of this process, which end with it."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(Graders("staff.grade_class.worker", homework, stack.enter_context(scratch())))


def stop(homework: str, run: str = "") -> None:
    """End all gradings of this process at once; those of another run are then begun again."""
    _STOPPED.add(run)
    graders = _graders(homework)
    _only_graders.cache_clear()
    graders.stop()


def close(homework: str) -> None:
    """Let the warm processes end. They do not survive the thread that started them: call it before that ends."""
    graders = _graders(homework)
    _only_graders.cache_clear()
    graders.close()


def version(homework: str) -> Mapping[str, str]:
    """What the results of this process depend on: packages and their versions, parts and the hashes of `sources.py`."""
    with _LOCK:  # `ast.parse` fails where two threads call it at once
        return _only_version(homework)


@functools.cache
def _only_version(homework: str) -> Mapping[str, str]:
    declared = load_homework(homework)
    return {"Python": platform.python_version()} | versions() | part_hashes(declared, declared.find_model("bundled"))


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """In what another machine's version is not that of this one."""
    names = sorted(name for name in here if there.get(name) != here[name])
    packages = [name for name in names if name in ("Python", *versions())]
    if packages:
        return ", ".join(f"{name} {there.get(name, '(none)')} instead of {here[name]}" for name in packages)
    parts = set(here) - {"Python", *versions()}
    return "another grader, model or data" if parts <= set(names) else f"other tests of {', '.join(names)}"


@dataclass(frozen=True)
class Order:
    """What a task is told."""

    homework: str
    what: dict[str, Any]  # the arguments of `worker.graded`
    content: bytes | None = None  # the zip, where the submission's path is one of another machine
    version: Mapping[str, str] | None = None  # which that machine must have
    run: str = ""  # of the command, so that it can stop what it began elsewhere


@dataclass(frozen=True)
class Place:
    """Where submissions are graded."""

    executor: Executor
    in_flight: Callable[[], int]  # how many may be under way just now; at least one
    stop: Callable[[], None]  # end at once what is under way
    version: Mapping[str, str] | None = None  # which its machines must have; None: it is this machine
    run: str = ""  # what is begun there carries this name


def grade(order: Order) -> dict[str, Any]:
    """Carry out an order in a warm process; after ATTEMPTS deaths, the status is FAILED.

    Raises:
        OtherVersion: this is not the machine that the order is for.
    """
    if order.version is not None and (own := version(order.homework)) != order.version:
        raise OtherVersion(f"a worker on {socket.gethostname()} has {difference(order.version, own)}; {UPDATE}")
    if order.content is None:
        return _graded(order, order.what)
    with scratch() as folder:
        path = folder / "submission.zip"
        path.write_bytes(order.content)
        return _graded(order, order.what | {"submission": str(path)})


def _graded(order: Order, what: dict[str, Any]) -> dict[str, Any]:
    said = ""
    for _ in range(ATTEMPTS):
        if order.run in _STOPPED:
            return _failure("the run that it belongs to was stopped")
        try:
            return _graders(order.homework).ask(what, _PATIENCE)
        except GraderDied as error:
            said = str(error).splitlines()[-1]
    return _failure(f"the process that graded it died {ATTEMPTS} times ({said})")


def run(place: Place, orders: Iterable[tuple[T, Order]]) -> Iterator[tuple[T, dict[str, Any]]]:
    """What comes of each order, with what it belongs to, as soon as it is there; few are under way at a time.

    An exception, such as Dask's KilledWorker, is a failure of ours: the status is FAILED.

    Raises:
        Stopped: nothing more can be graded there.
    """
    waiting: dict[Future[dict[str, Any]], T] = {}
    done: queue.SimpleQueue[Future[dict[str, Any]]] = queue.SimpleQueue()
    orders = iter(orders)
    while True:
        for what, order in itertools.islice(orders, max(0, place.in_flight() - len(waiting))):
            future = place.executor.submit(grade, order)
            waiting[future] = what
            future.add_done_callback(done.put)
        if not waiting:
            return
        with contextlib.suppress(queue.Empty):
            future = done.get(timeout=LOOK_SECONDS)
            yield waiting.pop(future), _result(future)


def _result(future: "Future[dict[str, Any]]") -> dict[str, Any]:
    if future.cancelled():
        raise Stopped("the scheduler has dropped what was under way; is it still running?")
    try:
        return future.result()
    except Stopped:
        raise
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
