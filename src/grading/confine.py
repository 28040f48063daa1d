"""What a process gives up for good before it runs student code. Linux does most of it; each layer stands by itself.

limits    processor time, memory, file size, open files (POSIX)
user      an unprivileged user of its own (where the grader is root)
Landlock  which folders may be read and written (Linux 5.13 and later)
seccomp   no new processes, sockets, tracing, or signals to others (Linux on x86-64 and ARM64)

Sources: landlock(7), seccomp(2), and the headers linux/landlock.h, linux/seccomp.h, linux/filter.h, linux/audit.h.
"""

import contextlib
import ctypes
import errno
import os
import platform
import signal
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 8, 38, 22, 2
_CAPABILITIES_V3, _MAY_READ = 0x20080522, 1 << 2  # CAP_DAC_READ_SEARCH

# System calls by number, on the two kinds of machine that PyTorch is built for.
_SYSCALLS = {
    "x86_64": {
        "audit": 0xC000003E, "clone": 56, "clone3": 435, "kill": 62, "tkill": 200, "tgkill": 234, "prlimit64": 302,
        "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "socket": 41, "ptrace": 101,
        "process_vm_readv": 310, "process_vm_writev": 311, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
        "pidfd_open": 434, "pidfd_send_signal": 424, "io_uring_setup": 425, "memfd_create": 319, "memfd_secret": 447,
        "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240, "unshare": 272, "setns": 308, "mount": 165,
        "bpf": 321, "userfaultfd": 323,
        "open_by_handle_at": 304, "keyctl": 250, "add_key": 248, "request_key": 249, "perf_event_open": 298,
        "sched_setaffinity": 203, "setpriority": 141, "sched_setscheduler": 144, "sched_setattr": 314,
        "socketpair": 53, "bind": 49, "connect": 42, "ioprio_set": 251,
        "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452,
        "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
        "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280,
        "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "setxattrat": 463,
        "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "removexattrat": 466, "file_setattr": 469,
    },
    "aarch64": {
        "audit": 0xC00000B7, "clone": 220, "clone3": 435, "kill": 129, "tkill": 130, "tgkill": 131, "prlimit64": 261,
        "execve": 221, "execveat": 281, "socket": 198, "ptrace": 117,
        "process_vm_readv": 270, "process_vm_writev": 271, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
        "pidfd_open": 434, "pidfd_send_signal": 424, "io_uring_setup": 425, "memfd_create": 279, "memfd_secret": 447,
        "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180, "unshare": 97, "setns": 268, "mount": 40,
        "bpf": 280, "userfaultfd": 282,
        "open_by_handle_at": 265, "keyctl": 219, "add_key": 217, "request_key": 218, "perf_event_open": 241,
        "sched_setaffinity": 122, "setpriority": 140, "sched_setscheduler": 119, "sched_setattr": 274,
        "socketpair": 199, "bind": 200, "connect": 203, "ioprio_set": 30,
        "fchmod": 52, "fchmodat": 53, "fchmodat2": 452, "fchown": 55, "fchownat": 54, "utimensat": 88,
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "setxattrat": 463,
        "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16, "removexattrat": 466, "file_setattr": 469,
    },
}  # fmt: skip
_CLONE_THREAD = 0x00010000
_X32_CALLS = 0x40000000

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ = 0b1101  # execute (shared libraries), read a file, list a folder
_FILE_RIGHTS = 0b111 | 1 << 14 | 1 << 15  # those that a rule on a file may name


@dataclass(frozen=True)
class Limits:
    """What a process may use. Sizes are in bytes."""

    cpu_seconds: int = 110
    memory: int = 350_000_000  # beyond what the process had when it was forked
    file_size: int = 8_000_000
    open_files: int = 64
    threads: int = 64


def apply_limits(limits: Limits, own_user: bool) -> None:
    """Limit what this process may use from now on; a no-op where the `resource` module is missing.

    Args:
        own_user: this process will be the only one of its user, whose processes and threads can then be counted
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
        hard = value + 1 if name == "RLIMIT_CPU" else value  # so that the signal that says why comes first
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (value, hard))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory runs out after all, this goes first


def become(user: int, keep_reading: bool = False) -> None:
    """Become the unprivileged user (and group) with this number; only root can.

    Args:
        keep_reading: keep one right of root's, to read files whatever their modes. Only for a process that Landlock
            holds to its folders, where Python itself lies in a folder that is closed to other users.

    Raises:
        OSError: the number is not available here, or the other rights could not be given up.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if keep_reading:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if keep_reading:
        header, data = struct.pack("=Ii", _CAPABILITIES_V3, 0), struct.pack("=6I", _MAY_READ, _MAY_READ, 0, 0, 0, 0)
        if libc.capset(header, data) != 0:
            raise OSError(ctypes.get_errno(), "capset")


def bind_to_parent() -> None:
    """Be killed when the parent dies, and never gain rights again by running a program (Linux).

    The second is what Landlock and seccomp demand of an ordinary user. A change of user would undo the first.
    """
    if platform.system() == "Linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def landlock_version() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    if platform.system() != "Linux" or platform.machine() not in _SYSCALLS:
        return 0
    return max(0, ctypes.CDLL(None, use_errno=True).syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1))


def restrict_paths(readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """From now on only these files and folders, and what is in them, can be opened. Whether the kernel can do that.

    Raises:
        OSError: the kernel can, but refused.
    """
    version = landlock_version()
    if version == 0:
        return False
    rights = (1 << 13) - 1  # version 1; 2 adds moving between folders, 3 truncation, 5 device control
    rights |= (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0) | (1 << 15 if version >= 5 else 0)
    net = 0b11 if version >= 4 else 0  # TCP: bind, connect
    scope = 0b11 if version >= 6 else 0  # abstract Unix sockets, signals
    attributes = struct.pack("=QQQ", rights, net, scope)[: 8 if version < 4 else 16 if version < 6 else 24]
    libc = ctypes.CDLL(None, use_errno=True)
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    try:
        for paths, allowed in ((readable, _READ), (writable, rights)):
            for path in paths:
                try:
                    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
                except OSError:
                    continue  # not on this machine
                granted = allowed & rights & (-1 if path.is_dir() else _FILE_RIGHTS)
                rule = struct.pack("=Qi", granted, descriptor)
                failed = libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0) != 0
                os.close(descriptor)
                if failed:
                    raise OSError(ctypes.get_errno(), "landlock_add_rule", str(path))
        if libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    return True


def filter_calls() -> bool:
    """From now on: no new process or program, no socket, no tracing, no signal to another, no change of what files are.

    Whether it can be done. (Landlock holds reading and writing to the folders, but not rights, times and owners.)

    Threads are allowed. Refused calls fail with EPERM, as if the user lacked the right. `clone3` fails with ENOSYS,
    since its flags lie where a filter cannot look; the C library then uses `clone`.
    """
    calls = dict(_SYSCALLS.get(platform.machine(), {}))
    if platform.system() != "Linux" or not calls or struct.calcsize("P") != 8:
        return False
    audit, own = calls.pop("audit"), os.getpid()
    program = _filter(audit, calls, own, platform.machine() == "x86_64")
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    described = Program(len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(described), 0, 0) == 0


def _filter(audit: int, calls: dict[str, int], own: int, has_x32: bool) -> Sequence[tuple[int, int, int, int]]:
    """The filter as BPF instructions (code, jump if true, jump if false, k)."""
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill = (give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x80000000)

    def refuse(number: int) -> tuple[int, int, int, int]:
        return (give, 0, 0, 0x00050000 | number)

    call_number, architecture, first_argument = 0, 4, 16
    program = [(load, 0, 0, architecture), (equal, 1, 0, audit), kill, (load, 0, 0, call_number)]
    if has_x32:
        program += [(at_least, 0, 1, _X32_CALLS), refuse(errno.EPERM)]
    clone, clone3 = calls.pop("clone"), calls.pop("clone3")
    program += [(equal, 0, 1, clone3), refuse(errno.ENOSYS)]
    program += [(equal, 0, 4, clone), (load, 0, 0, first_argument), (any_bit, 0, 1, _CLONE_THREAD), allow]
    program += [refuse(errno.EPERM)]
    for name in ("kill", "tgkill"):  # to itself is fine: that is how a process aborts
        program += [(equal, 0, 4, calls.pop(name)), (load, 0, 0, first_argument), (equal, 0, 1, own), allow]
        program += [refuse(errno.EPERM)]
    program += [(equal, 0, 4, calls.pop("prlimit64")), (load, 0, 0, first_argument), (equal, 0, 1, 0), allow]
    program += [refuse(errno.EPERM)]
    for number in calls.values():
        program += [(equal, 0, 1, number), refuse(errno.EPERM)]
    return [*program, allow]
