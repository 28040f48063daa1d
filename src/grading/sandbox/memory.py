"""Limit the memory of workers from outside: by a control group around them, or by looking at each.

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
_PATIENCE = 2.0  # seconds until the kernel has removed ended processes from their group
_numbers = itertools.count()


class Group:
    """A control group around a fork server that has loaded everything, and around the workers that it forks.

    What the server has by then is counted elsewhere, so the limit is on what it and its workers take from then on. To
    move each worker by itself would cost more time than to fork it.
    """

    def __init__(self, folder: Path, origin: Path):
        """`origin` is the group in which the fork server began."""
        self._folder = folder
        self._origin = origin

    @classmethod
    def around(cls, process: int, limit: int) -> "Group | None":
        """A new group with `process` in it, and a limit in bytes; None where this user or machine cannot have one."""
        places = list(_places())
        for parent, file in places:
            _remove_left(parent)
            folder = parent / f"grading-{os.getpid()}-{next(_numbers)}"
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                (folder / file).write_text(str(limit))
                for name, value in (("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", limit)):
                    with contextlib.suppress(OSError):  # swap may not be counted here
                        (folder / name).write_text(str(value))
                (folder / "cgroup.procs").write_text(str(process))
                return cls(folder, next(p for p, f in places if f == file))  # a process's own group comes first
            except OSError:
                folder.rmdir()
        return None

    def release(self, process: int) -> None:
        """Let `process` have as much memory as it wants."""
        with contextlib.suppress(OSError):  # then the group's limit goes for it, too
            (self._origin / "cgroup.procs").write_text(str(process))

    def kills(self) -> int:
        """How many processes of this group the kernel has ended because they had too much memory."""
        for name in ("memory.events", "memory.oom_control"):  # of version 2, of version 1
            with contextlib.suppress(OSError):
                for line in (self._folder / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    def close(self) -> None:
        """Remove the group, once its processes have ended."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                self._folder.rmdir()
            except OSError:  # they are still being taken down
                time.sleep(0.005)
            else:
                return


class MemoryLimit:
    """The limit on one worker: `limit` bytes beyond what it has and shares now."""

    def __init__(self, limit: int, group: Group | None, usage: int | None):
        """Args:
        group: in which the worker is, and which limits its memory
        usage: a descriptor of its smaps_rollup; None where the kernel has no such file
        """
        self._limit = limit
        self._group = group
        self._usage = usage
        self._at_first = self._own_memory() if group is None else group.kills()

    @property
    def works(self) -> bool:
        """Whether anything can be told of the worker's memory."""
        return self._group is not None or self._usage is not None

    def exceeded(self) -> bool:
        """Whether the worker has more than it may, or a process of its group was ended for that."""
        if self._group is not None:
            return self._group.kills() > self._at_first
        return self._own_memory() - self._at_first > self._limit

    def close(self) -> None:
        """Forget the worker, once it has ended."""
        if self._usage is not None:
            os.close(self._usage)
            self._usage = None

    def _own_memory(self) -> int:
        """What the process has in memory, in bytes, with its share of what it shares (PSS); 0 where nobody can tell."""
        kilobytes = 0
        if self._usage is not None:
            with contextlib.suppress(OSError):  # it has ended
                for line in os.pread(self._usage, 4096, 0).decode().splitlines():
                    if line.startswith(("Pss:", "SwapPss:")):
                        kilobytes += int(line.split()[1])
        return 1024 * kilobytes


def _remove_left(parent: Path) -> None:
    """Remove groups of graders that were killed."""
    for folder in parent.glob("grading-*-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


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
