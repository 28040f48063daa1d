"""The rights that a process gives up for good before it runs student code. Each layer works without the others.

Covered on Linux:
- files: only Python, the project's model, and the submission can be read, only a scratch folder can be written
  (`landlock.py`: kernel 5.13 and later, x86-64 and ARM64)
- system calls: only those that Python and PyTorch need (`seccomp.py`). So there are no new processes or programs, no
  sockets, tracing, signals to others, file locks, timers, shared memory, or changes of modes, owners and times of files
- as root: no privileges, an unused user id of its own, a scratch folder on a small disk of its own (a tmpfs in a mount
  namespace of its own, which vanishes with the process), memory (`memory.py`: a control group)
- otherwise: the grader watches the blocks that are written and the memory that is used
- processor time, address space, file size, open files, threads: see `limits.py`

Not covered on Linux:
- without Landlock, it can read what its user can read; as root, the grader then closes staff/ to other users, and the
  submission of each grading is readable to that grading's user only
- without root, it runs as the user who grades
- where it has no disk or control group of its own, the grader looks twenty times a second: what is written in between
  goes beyond the limit (`watch.py`). It cannot remove or rename files then: removing does nothing
- timing side channels, load on the machine within the limits, and errors in the kernel itself

macOS: resource limits, and a time limit from outside; nothing else. Student code can read, write and connect as the
user who grades. Windows: only the time limit.

Sources: seccomp(2), prctl(2), mount(2), unshare(2), capabilities(7). The constants have the names of the headers.
"""

import contextlib
import ctypes
import os
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 1, 8, 38
# linux/capability.h
_LINUX_CAPABILITY_VERSION_3, CAP_DAC_READ_SEARCH = 0x20080522, 2
# linux/sched.h, sys/mount.h
CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 18


def become(user: int, keep_reading: bool = False) -> None:
    """Become the unprivileged user (and group) with this id; only root can.

    Args:
        keep_reading: keep CAP_DAC_READ_SEARCH, with which files can be read whatever their modes. Only for a process
            that Landlock holds to its folders, where Python itself lies in a folder that is closed to other users.

    Raises:
        OSError: the id is not available here, or the other rights could not be given up.
    """
    if sys.platform == "win32":
        raise OSError("only a Unix has user ids")
    libc = ctypes.CDLL(None, use_errno=True)
    if keep_reading:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if keep_reading:
        read = 1 << CAP_DAC_READ_SEARCH
        header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
        if libc.capset(header, struct.pack("=6I", read, read, 0, 0, 0, 0)) != 0:
            raise OSError(
                ctypes.get_errno(),
                "Python lies in a folder that is closed to other users, and this container's root may not let student "
                "code's process read there (CAP_DAC_READ_SEARCH); use a Python that all users can read",
            )


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends, even by SIGKILL (Linux). A change of user undoes it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def bind_to_parent() -> None:
    """Be killed when the parent dies, and never gain rights by running a program (Linux).

    Landlock and seccomp demand the second of an ordinary user.
    """
    die_with_parent()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def mount_scratch(folder: str, size: int, files: int, user: int) -> bool:
    """Put a disk of `size` bytes and so many files over `folder`, for this process alone. Whether that was possible.

    Only root can, and not in every container.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or libc.unshare(CLONE_NEWNS) != 0:
        return False
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:  # nobody else shall see the mount
        return False
    options = f"size={size},nr_inodes={files},mode=700,uid={user},gid={user}".encode()
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    return bool(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options) == 0)


def first_readable(paths: Iterable[str]) -> str | None:
    """The first of these files and folders that this process can read; None if there is none."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDONLY))
            return path
    return None


def unused_user(process: int) -> int:
    """A user id that nobody has, and no other grader that runs now; this one's process id is `process`."""
    number = 1_000_000 + process
    with contextlib.suppress(OSError, ValueError):
        spans = [map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if not any(first <= number < first + length for first, _, length in spans):  # a container with few users
            number = 20_000 + process % 40_000
    return number


def is_open_to_others(path: str) -> bool:
    """Whether a user who is neither owner nor of the group can get there."""
    place = Path(path).resolve()
    return all(not p.exists() or p.stat().st_mode & 0o005 == 0o005 for p in (place, *place.parents))
