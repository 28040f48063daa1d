"""Limit the memory of a process from outside: by a control group of its own, or by looking at it.

A limit of the address space (`limits.py`) alone is not enough: it counts what was mapped, and a process can give back
what it shares with the fork server, such as PyTorch's libraries, and take as much for itself.
"""

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PATIENCE = 2.0  # seconds until the kernel has removed an ended process from its group
_numbers = itertools.count()


class MemoryLimit:
    """The limit on one process: `limit` bytes beyond what it has and shares now."""

    def __init__(self, process: int, limit: int, usage: int | None):
        """`usage` is a descriptor of the process's smaps_rollup; None where the kernel has no such file."""
        self._process = process
        self._limit = limit
        self._usage = usage
        self._group: Path | None = None
        self._at_first = 0
        # The kernel takes a hundredth of a second to move a process; meanwhile, the process gives up its rights.
        self._start = threading.Thread(target=self._begin)
        self._start.start()

    def _begin(self) -> None:
        self._group = _new_group(self._process, self._limit)
        if self._group is None:
            self._at_first = self._own_memory()

    def wait(self) -> None:
        """Wait until the limit holds."""
        self._start.join()

    @property
    def works(self) -> bool:
        """Whether anything can be told of the process's memory."""
        return self._group is not None or self._usage is not None

    def exceeded(self) -> bool:
        """Whether the process has more than it may, or was ended by the kernel for that."""
        if self._group is not None:
            return _has_killed(self._group)
        return self._own_memory() - self._at_first > self._limit

    def close(self) -> None:
        """Remove the group, once the process has ended: soon, and before this program ends."""
        self.wait()
        if self._usage is not None:
            os.close(self._usage)
            self._usage = None
        if self._group is not None:
            threading.Thread(target=_remove, args=(self._group,)).start()
            self._group = None

    def _own_memory(self) -> int:
        """What the process has in memory, in bytes, with its share of what it shares (PSS); 0 where nobody can tell."""
        kilobytes = 0
        if self._usage is not None:
            with contextlib.suppress(OSError):  # it has ended
                for line in os.pread(self._usage, 4096, 0).decode().splitlines():
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
            for name, value in (("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", limit)):
                with contextlib.suppress(OSError):  # swap may not be counted here
                    (group / name).write_text(str(value))
            (group / "cgroup.procs").write_text(str(process))
            return group
        except OSError:
            group.rmdir()
    return None


def _remove(group: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            group.rmdir()
        except OSError:  # the process is still being taken down
            time.sleep(0.005)
        else:
            return


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
