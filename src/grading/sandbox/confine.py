"""The rights that a process gives up for good before it runs student code. Each layer works without the others.

Covered on Linux:
- files: only Python, the project's `src/`, the model and the submission can be read, only a scratch folder can be
  written (Landlock, kernel 5.13 and later, x86-64 and ARM64)
- no new processes or programs, no sockets, no tracing, no signals to others, no change of modes, owners or times of
  files (seccomp)
- no privileges: an unused user id of its own (only where the grader is root)
- processor time, memory, file size, open files, threads: see `limits.py`

Not covered on Linux:
- without Landlock, it can read what its user can read; as root, the grader then closes staff/ to other users
- without root, it runs as the user who grades
- timing side channels, load on the machine within the limits, and errors in the kernel itself

macOS: resource limits, and a time limit from outside; nothing else. Student code can read, write and connect as the
user who grades. Windows: only the time limit.

Sources: landlock(7), seccomp(2), and the headers linux/landlock.h, linux/seccomp.h, linux/filter.h, linux/audit.h.
The constants have the names of these headers.
"""

import contextlib
import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 8, 22, 38
# linux/capability.h
_LINUX_CAPABILITY_VERSION_3, CAP_DAC_READ_SEARCH = 0x20080522, 2
# linux/landlock.h
SYS_landlock_create_ruleset, SYS_landlock_add_rule, SYS_landlock_restrict_self = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION, LANDLOCK_RULE_PATH_BENEATH = 1, 1
LANDLOCK_ACCESS_FS_EXECUTE, LANDLOCK_ACCESS_FS_WRITE_FILE = 1 << 0, 1 << 1
LANDLOCK_ACCESS_FS_READ_FILE, LANDLOCK_ACCESS_FS_READ_DIR = 1 << 2, 1 << 3
LANDLOCK_ACCESS_FS_ALL_V1 = (1 << 13) - 1  # the rights of version 1
LANDLOCK_ACCESS_FS_REFER, LANDLOCK_ACCESS_FS_TRUNCATE, LANDLOCK_ACCESS_FS_IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
LANDLOCK_ACCESS_NET_BIND_TCP, LANDLOCK_ACCESS_NET_CONNECT_TCP = 1 << 0, 1 << 1
LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, LANDLOCK_SCOPE_SIGNAL = 1 << 0, 1 << 1
# linux/seccomp.h, linux/filter.h
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
BPF_LD_W_ABS, BPF_JEQ, BPF_JGE, BPF_JSET, BPF_RET = 0x20, 0x15, 0x35, 0x45, 0x06
OFFSET_NR, OFFSET_ARCH, OFFSET_ARG0 = 0, 4, 16  # in struct seccomp_data
# linux/sched.h, asm/unistd.h
CLONE_THREAD = 0x00010000
X32_SYSCALL_BIT = 0x40000000
# linux/audit.h
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# System call numbers that both kinds of machine share, and those in which they differ.
_SHARED_SYSCALLS = {
    "clone3": 435, "pidfd_open": 434, "pidfd_send_signal": 424, "io_uring_setup": 425, "fchmodat2": 452,
    "setxattrat": 463, "removexattrat": 466, "file_setattr": 469,
}  # fmt: skip
SYSCALLS = {
    "x86_64": _SHARED_SYSCALLS | {
        "clone": 56, "kill": 62, "tkill": 200, "tgkill": 234, "prlimit64": 302,
        "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "socket": 41, "ptrace": 101,
        "process_vm_readv": 310, "process_vm_writev": 311, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
        "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240,
        "unshare": 272, "setns": 308, "mount": 165, "bpf": 321, "userfaultfd": 323,
        "open_by_handle_at": 304, "keyctl": 250, "add_key": 248, "request_key": 249, "perf_event_open": 298,
        "sched_setaffinity": 203, "setpriority": 141, "sched_setscheduler": 144, "sched_setattr": 314,
        "socketpair": 53, "bind": 49, "connect": 42, "ioprio_set": 251,
        "chmod": 90, "fchmod": 91, "fchmodat": 268, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
        "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280,
        "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198,
        "fremovexattr": 199,
    },
    "aarch64": _SHARED_SYSCALLS | {
        "clone": 220, "kill": 129, "tkill": 130, "tgkill": 131, "prlimit64": 261,
        "execve": 221, "execveat": 281, "socket": 198, "ptrace": 117,
        "process_vm_readv": 270, "process_vm_writev": 271, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
        "memfd_create": 279, "memfd_secret": 447, "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180,
        "unshare": 97, "setns": 268, "mount": 40, "bpf": 280, "userfaultfd": 282,
        "open_by_handle_at": 265, "keyctl": 219, "add_key": 217, "request_key": 218, "perf_event_open": 241,
        "sched_setaffinity": 122, "setpriority": 140, "sched_setscheduler": 119, "sched_setattr": 274,
        "socketpair": 199, "bind": 200, "connect": 203, "ioprio_set": 30,
        "fchmod": 52, "fchmodat": 53, "fchown": 55, "fchownat": 54, "utimensat": 88,
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
    },
}  # fmt: skip

Instruction = tuple[int, int, int, int]  # of BPF: code, jump if true, jump if false, k


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
            raise OSError(ctypes.get_errno(), "capset")


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


def landlock_version() -> int:
    """The kernel's Landlock ABI version; 0 where it has none."""
    if sys.platform != "linux" or platform.machine() not in SYSCALLS:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(SYS_landlock_create_ruleset, None, ctypes.c_size_t(0), LANDLOCK_CREATE_RULESET_VERSION)
    return max(0, int(version))


def _landlock_attributes(version: int) -> tuple[int, bytes]:
    """All rights to files that this version knows, and struct landlock_ruleset_attr as it expects it."""
    rights = LANDLOCK_ACCESS_FS_ALL_V1
    rights |= LANDLOCK_ACCESS_FS_REFER if version >= 2 else 0
    rights |= LANDLOCK_ACCESS_FS_TRUNCATE if version >= 3 else 0
    rights |= LANDLOCK_ACCESS_FS_IOCTL_DEV if version >= 5 else 0
    net = LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP if version >= 4 else 0
    scoped = LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL if version >= 6 else 0
    size = 8 if version < 4 else 16 if version < 6 else 24
    return rights, struct.pack("=QQQ", rights, net, scoped)[:size]


def restrict_paths(readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """From now on only these files and folders, and what is in them, can be opened. Whether the kernel can do that.

    Raises:
        OSError: the kernel can, but refused.
    """
    version = landlock_version()
    if version == 0:
        return False
    rights, attributes = _landlock_attributes(version)
    read = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR
    libc = ctypes.CDLL(None, use_errno=True)
    ruleset = libc.syscall(SYS_landlock_create_ruleset, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    try:
        for paths, allowed in ((readable, read), (writable, rights)):
            for path in paths:
                _allow_path(libc, ruleset, path, allowed & rights)
        if libc.syscall(SYS_landlock_restrict_self, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    return True


def _allow_path(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    if sys.platform != "linux":
        return
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # this machine does not have it
    if not path.is_dir():  # the rights that a rule on a file may name
        rights &= LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE \
            | LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_IOCTL_DEV  # fmt: skip
    rule = struct.pack("=Qi", rights, descriptor)
    failed = libc.syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0) != 0
    os.close(descriptor)
    if failed:
        raise OSError(ctypes.get_errno(), "landlock_add_rule", str(path))


def filter_syscalls() -> bool:
    """From now on, refuse the system calls in `SYSCALLS`. Whether the kernel can do that.

    They fail with EPERM, as if the user lacked the right. Threads stay possible, and signals to itself, which is how a
    process aborts. `clone3` fails with ENOSYS: a filter cannot look at its flags, and the C library then uses `clone`.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in SYSCALLS or struct.calcsize("P") != 8:
        return False
    program = _bpf_program(AUDIT_ARCH[machine], dict(SYSCALLS[machine]), os.getpid(), machine == "x86_64")
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class sock_fprog(ctypes.Structure):  # the kernel's name
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    fprog = sock_fprog(len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0) == 0)


def _bpf_program(arch: int, syscalls: dict[str, int], own: int, has_x32: bool) -> Sequence[Instruction]:
    """The filter; `own` is this process's id."""
    allow, kill = (BPF_RET, 0, 0, SECCOMP_RET_ALLOW), (BPF_RET, 0, 0, SECCOMP_RET_KILL_PROCESS)
    refuse = (BPF_RET, 0, 0, SECCOMP_RET_ERRNO | errno.EPERM)

    def allow_if(syscall: str, test: int, k: int) -> list[Instruction]:
        """Allow it where the test of its first argument holds, else refuse it."""
        return [
            (BPF_JEQ, 0, 4, syscalls.pop(syscall)), (BPF_LD_W_ABS, 0, 0, OFFSET_ARG0), (test, 0, 1, k), allow, refuse,
        ]  # fmt: skip

    program = [(BPF_LD_W_ABS, 0, 0, OFFSET_ARCH), (BPF_JEQ, 1, 0, arch), kill, (BPF_LD_W_ABS, 0, 0, OFFSET_NR)]
    if has_x32:
        program += [(BPF_JGE, 0, 1, X32_SYSCALL_BIT), refuse]
    program += [(BPF_JEQ, 0, 1, syscalls.pop("clone3")), (BPF_RET, 0, 0, SECCOMP_RET_ERRNO | errno.ENOSYS)]
    program += allow_if("clone", BPF_JSET, CLONE_THREAD)
    program += allow_if("kill", BPF_JEQ, own)
    program += allow_if("tgkill", BPF_JEQ, own)
    program += allow_if("prlimit64", BPF_JEQ, 0)  # of itself
    for number in syscalls.values():
        program += [(BPF_JEQ, 0, 1, number), refuse]
    return [*program, allow]


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
