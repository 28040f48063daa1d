"""Processes that tests start, as Linux's /proc shows them."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: Callable[[], T], seconds: float = 120) -> T:
    """What `what()` returns, as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return found


def children_of(process: int) -> list[int]:
    """The processes that `process` started."""
    tasks = Path(f"/proc/{process}/task")
    with contextlib.suppress(OSError):  # it ended meanwhile
        return [int(n) for task in tasks.iterdir() for n in (task / "children").read_text().split()]
    return []


def is_alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        return _state(process)[0] not in "ZX"
    return False


def looping(grader: int) -> list[int]:
    """The fork server of a grader and the worker whose student code loops; nothing until that is under way.

    No other worker takes half a second.
    """
    for server in children_of(grader):
        for worker in children_of(server):
            with contextlib.suppress(OSError):
                if sum(map(int, _state(worker)[11:13])) > 0.5 * os.sysconf("SC_CLK_TCK"):
                    return [server, worker]
    return []


def _state(process: int) -> list[str]:
    """What /proc/PROCESS/stat says after the name."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
