"""Limit the memory of a process from outside: by a control group of its own, or by looking at it.

A limit of the address space (`limits.py`) alone is not enough: it counts what was mapped, and a process can give back
what it shares with the fork server, such as PyTorch's libraries, and take as much for itself.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PATIENCE = 2.0  # seconds until the kernel has removed an ended process from its group
_numbers = itertools.count()


class MemoryLimit:
    """The limit on one process: `limit` bytes beyond what it has and shares now."""

    def __init__(self, process: int, limit: int):
        self._process = process
        self._limit = limit
        self._group = _new_group(process, limit)
        self._at_first = _own_memory(process)

    def exceeded(self) -> bool:
        """Whether the process has more than it may, or was ended by the kernel for that."""
        if self._group is not None:
            return _has_killed(self._group)
        return _own_memory(self._process) - self._at_first > self._limit

    def close(self) -> None:
        """Remove the group, once the process has ended."""
        deadline = time.monotonic() + _PATIENCE
        while self._group is not None:
            try:
                self._group.rmdir()
            except OSError:
                if time.monotonic() < deadline:
                    time.sleep(0.005)
                    continue
            self._group = None


def _own_memory(process: int) -> int:
    """What a process has in memory, in bytes, with its share of what it shares (PSS); 0 where nobody can tell."""
    kilobytes = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Pss:", "SwapPss:")):
                kilobytes += int(line.split()[1])
    return 1024 * kilobytes


def _new_group(process: int, limit: int) -> Path | None:
    """A new control group with the process in it; None where this user or this machine cannot have one."""
    for parent, file in _places():
        group = parent / f"grading-{os.getpid()}-{next(_numbers)}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / file).write_text(str(limit))
            with contextlib.suppress(OSError):  # swap may not be counted here
                (group / "memory.swap.max").write_text("0")
            (group / "cgroup.procs").write_text(str(process))
            return group
        except OSError:
            group.rmdir()
    return None


def _places() -> Iterator[tuple[Path, str]]:
    """Folders in which a group may be made, and the file in it that holds the limit; for both versions."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            inside = Path(path.lstrip("/"))
            if "memory" in controllers.split(","):
                yield _ROOT / controllers / inside, "memory.limit_in_bytes"
            elif controllers == "" and (_ROOT / "cgroup.controllers").exists():
                yield from ((_ROOT / folder, "memory.max") for folder in (inside, *inside.parents))


def _has_killed(group: Path) -> bool:
    """Whether the kernel has ended a process of this group because it had too much memory."""
    for name in ("memory.events", "memory.oom_control"):  # of version 2, of version 1
        with contextlib.suppress(OSError):
            for line in (group / name).read_text().splitlines():
                if line.startswith("oom_kill ") and line != "oom_kill 0":
                    return True
    return False
