"""Set the resource limits of a process: setrlimit(2), and the kernel's choice of whom to end when memory runs out."""

import contextlib
import sys
from pathlib import Path

from src.grading.homework import Limits

if sys.platform != "win32":
    try:
        import resource
    except ImportError:  # a Unix without it
        resource = None  # type: ignore[assignment]
else:
    resource = None


def can_limit() -> bool:
    """Whether this system has resource limits at all: not on Windows."""
    return resource is not None


def apply_limits(limits: Limits, own_user: bool) -> None:
    """Limit what this process may use from now on; does nothing where `can_limit` is False.

    Args:
        own_user: this process will be the only one of its user, so that the user's threads can be counted
    """
    if resource is None:
        return
    wanted = {
        "RLIMIT_CPU": limits.cpu_seconds,
        "RLIMIT_FSIZE": limits.file_size,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }
    with contextlib.suppress(OSError, ValueError, IndexError):
        address_space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        wanted["RLIMIT_AS"] = address_space + limits.memory
    if own_user:
        wanted["RLIMIT_NPROC"] = limits.threads
    for name, value in wanted.items():
        # A second more for the hard limit, so that SIGXCPU, which says why, comes before SIGKILL.
        hard = value + 1 if name == "RLIMIT_CPU" else value
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, hard))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # when memory runs out after all, end this process first
