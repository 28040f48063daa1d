"""How many threads PyTorch uses, and how long a waiting one spins: so that it shares a busy machine fairly.

PyTorch's parallel loops end when their last thread does. By default, libgomp's waiting threads spin for several
milliseconds, which is longer than the time slice that the kernel gives them. When other programs want the processors,
too, they spin away the time that the last thread needs: a run beside two busy programs on two processors then takes
thirteen times as long, not twice. SPIN_COUNT keeps the waiting well below a time slice. See docs/performance.md.
"""

import math
import os
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path

SPIN_COUNT = 5_000  # turns of libgomp's waiting loop before a thread sleeps: less than 0.1 ms
_CHOSEN_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def share_processors(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what libgomp reads when PyTorch is imported, which must be later. What the user has set stays.

    On other systems than Linux, PyTorch comes with other libraries, and nothing is set.
    """
    if sys.platform != "linux":
        return
    if not any(name in environment for name in _CHOSEN_BY_USER):
        environment["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
    allowed, quota = len(os.sched_getaffinity(0)), processor_quota()
    if quota < allowed:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, math.floor(quota))))


def processor_quota(root: Path = Path("/")) -> float:
    """How many processors' time the control groups of this process grant it; infinite where they set no limit.

    Args:
        root: where proc/ and sys/ are
    """
    return min(_quotas(root), default=math.inf)


def _quotas(root: Path) -> Iterator[float]:
    for group in _groups(root):
        try:
            if (group / "cpu.max").exists():  # version 2: "50000 100000", or "max 100000"
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
            if quota not in ("max", "-1"):
                yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue  # this group says nothing about processors


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups, and of the groups around them; those of both versions."""
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount = root / "sys" / "fs" / "cgroup"
        elif "cpu" in controllers.split(","):
            mount = root / "sys" / "fs" / "cgroup" / controllers
        else:
            continue
        inside = Path(path.lstrip("/"))
        yield from (mount / folder for folder in (inside, *inside.parents))
