"""A filter of system calls: from now on, this process can make only those that Python and PyTorch need. seccomp(2).

What is not in the table fails with EPERM, as if the user lacked the right. `clone3` fails with ENOSYS: a filter cannot
look at its flags, and the C library then uses `clone`.

The constants have the names of the headers linux/seccomp.h, linux/filter.h, linux/audit.h, asm/unistd.h.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
BPF_LD_W_ABS, BPF_JEQ, BPF_JSET, BPF_RET = 0x20, 0x15, 0x45, 0x06
OFFSET_NR, OFFSET_ARCH, OFFSET_ARGS = 0, 4, 16  # in struct seccomp_data; an argument has 8 bytes, its low half first
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

CLONE_THREAD = 0x00010000
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 1030
O_TMPFILE = 0x00400000  # the bit that no other flag of open(2) has
TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX = 0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451
PR_SET_NAME, PR_GET_NAME = 15, 16

# The system calls that are allowed, and their numbers.
SYSCALLS = {
    "x86_64": {
        "read": 0, "write": 1, "readv": 19, "writev": 20, "pread64": 17, "pwrite64": 18, "lseek": 8, "close": 3,
        "open": 2, "openat": 257, "stat": 4, "lstat": 6, "fstat": 5, "newfstatat": 262, "statx": 332, "access": 21,
        "faccessat": 269, "statfs": 137, "fstatfs": 138, "readlink": 89, "readlinkat": 267, "getcwd": 79,
        "chdir": 80, "getdents": 78, "getdents64": 217, "mkdir": 83, "mkdirat": 258, "rmdir": 84, "unlink": 87,
        "unlinkat": 263, "rename": 82, "renameat": 264, "renameat2": 316, "ftruncate": 77, "fsync": 74,
        "fdatasync": 75, "sendfile": 40, "umask": 95, "dup": 32, "dup2": 33, "dup3": 292, "pipe": 22, "pipe2": 293,
        "poll": 7, "ppoll": 271, "select": 23, "pselect6": 270, "sendto": 44, "recvfrom": 45, "mmap": 9,
        "munmap": 11, "mprotect": 10, "mremap": 25, "msync": 26, "madvise": 28, "brk": 12, "rt_sigaction": 13,
        "rt_sigprocmask": 14, "rt_sigreturn": 15, "rt_sigpending": 127, "rt_sigtimedwait": 128, "sigaltstack": 131,
        "restart_syscall": 219, "futex": 202, "set_robust_list": 273, "rseq": 334, "set_tid_address": 218,
        "exit": 60, "exit_group": 231, "getpid": 39, "getppid": 110, "gettid": 186, "getuid": 102, "geteuid": 107,
        "getgid": 104, "getegid": 108, "getresuid": 118, "getresgid": 120, "getgroups": 115, "getpgid": 121,
        "getpgrp": 111, "getsid": 124, "nanosleep": 35, "clock_nanosleep": 230, "clock_gettime": 228,
        "clock_getres": 229, "gettimeofday": 96, "time": 201, "times": 100, "getrusage": 98, "getrlimit": 97,
        "sysinfo": 99, "uname": 63, "getcpu": 309, "sched_yield": 24, "sched_getaffinity": 204, "getrandom": 318,
        "wait4": 61, "clone": 56, "fcntl": 72, "ioctl": 16, "kill": 62, "prctl": 157, "prlimit64": 302,
        "tgkill": 234,
        "close_range": 436, "faccessat2": 439, "clone3": 435,
    },
    "aarch64": {
        "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "pwrite64": 68, "lseek": 62, "close": 57,
        "openat": 56, "fstat": 80, "newfstatat": 79, "statx": 291, "faccessat": 48, "statfs": 43, "fstatfs": 44,
        "readlinkat": 78, "getcwd": 17, "chdir": 49, "getdents64": 61, "mkdirat": 34, "unlinkat": 35, "renameat": 38,
        "renameat2": 276, "ftruncate": 46, "fsync": 82, "fdatasync": 83, "sendfile": 71, "umask": 166, "dup": 23,
        "dup3": 24, "pipe2": 59, "ppoll": 73, "pselect6": 72, "sendto": 206, "recvfrom": 207, "mmap": 222,
        "munmap": 215, "mprotect": 226, "mremap": 216, "msync": 227, "madvise": 233, "brk": 214, "rt_sigaction": 134,
        "rt_sigprocmask": 135, "rt_sigreturn": 139, "rt_sigpending": 136, "rt_sigtimedwait": 137, "sigaltstack": 132,
        "restart_syscall": 128, "futex": 98, "set_robust_list": 99, "rseq": 293, "set_tid_address": 96, "exit": 93,
        "exit_group": 94, "getpid": 172, "getppid": 173, "gettid": 178, "getuid": 174, "geteuid": 175, "getgid": 176,
        "getegid": 177, "getresuid": 148, "getresgid": 150, "getgroups": 158, "getpgid": 155, "getsid": 156,
        "nanosleep": 101, "clock_nanosleep": 115, "clock_gettime": 113, "clock_getres": 114, "gettimeofday": 169,
        "times": 153, "getrusage": 165, "getrlimit": 163, "sysinfo": 179, "uname": 160, "getcpu": 168,
        "sched_yield": 124, "sched_getaffinity": 123, "getrandom": 278, "wait4": 260, "clone": 220, "fcntl": 25,
        "ioctl": 29, "kill": 129, "prctl": 167, "prlimit64": 261, "tgkill": 131,
        "close_range": 436, "faccessat2": 439, "clone3": 435,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A system call that is allowed only with some values of one of its arguments."""

    syscall: str
    argument: int  # counted from 0
    values: tuple[int, ...]  # compared with the argument's low 32 bits, which is all that the kernel reads of these
    as_flags: bool = False  # the argument must have these bits, whatever others it has
    inverted: bool = False  # it must not have these values


Instruction = tuple[int, int, int, int]  # of BPF: code, jump if true, jump if false, k


# Where the scratch folder has no disk of its own, the grader counts the blocks of the files in it. So files must keep
# their names: a file without one lives on, uncounted, as long as somebody has it open or mapped. To remove one does
# nothing then, and says that it worked, so that temporary files can be used as everywhere; the grader removes them.
_REMOVING = ("unlink", "unlinkat", "rmdir")
_RENAMING = ("rename", "renameat", "renameat2")
_NAMELESS_FILES = (
    Rule("open", 1, (O_TMPFILE,), as_flags=True, inverted=True),
    Rule("openat", 2, (O_TMPFILE,), as_flags=True, inverted=True),
)


def rules(process: int) -> tuple[Rule, ...]:
    """The rules for the process with this id."""
    return (
        Rule("clone", 0, (CLONE_THREAD,), as_flags=True),
        Rule("fcntl", 1, (F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC)),
        Rule("ioctl", 1, (TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX)),
        Rule("prctl", 0, (PR_SET_NAME, PR_GET_NAME)),
        Rule("kill", 0, (process,)),  # so that it can abort
        Rule("tgkill", 0, (process,)),
        Rule("prlimit64", 0, (0,)),  # of itself
    )


def filter_syscalls(may_remove: bool) -> bool:
    """Install the filter. Whether the kernel can do that.

    Args:
        may_remove: whether this process may remove and rename files
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in SYSCALLS or struct.calcsize("P") != 8:
        return False
    allowed, by_argument = SYSCALLS[machine], rules(os.getpid())
    ignored: tuple[str, ...] = ()
    if not may_remove:
        allowed = {name: number for name, number in allowed.items() if name not in _RENAMING}
        by_argument += tuple(rule for rule in _NAMELESS_FILES if rule.syscall in allowed)
        ignored = tuple(name for name in _REMOVING if name in allowed)
    program = bpf_program(AUDIT_ARCH[machine], allowed, by_argument, ignored)
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class sock_fprog(ctypes.Structure):  # the kernel's name
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    fprog = sock_fprog(len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0) == 0)


def bpf_program(
    arch: int, syscalls: dict[str, int], by_argument: Sequence[Rule], ignored: Sequence[str] = ()
) -> list[Instruction]:
    """The filter: `syscalls` are allowed, those of `by_argument` as the rules say; those `ignored` return 0 at once."""
    ruled = {rule.syscall for rule in by_argument} | {"clone3", *ignored}
    program = [
        (BPF_LD_W_ABS, 0, 0, OFFSET_ARCH),
        (BPF_JEQ, 1, 0, arch),
        (BPF_RET, 0, 0, SECCOMP_RET_KILL_PROCESS),
        (BPF_LD_W_ABS, 0, 0, OFFSET_NR),
    ]
    for name, number in syscalls.items():
        if name not in ruled:
            program += [(BPF_JEQ, 0, 1, number), (BPF_RET, 0, 0, SECCOMP_RET_ALLOW)]
    program += [(BPF_JEQ, 0, 1, syscalls["clone3"]), (BPF_RET, 0, 0, SECCOMP_RET_ERRNO | errno.ENOSYS)]
    for name in ignored:
        program += [(BPF_JEQ, 0, 1, syscalls[name]), (BPF_RET, 0, 0, SECCOMP_RET_ERRNO | 0)]
    for rule in by_argument:
        checks = list(_checks(rule))
        program += [(BPF_JEQ, 0, len(checks), syscalls[rule.syscall]), *checks]
    return [*program, (BPF_RET, 0, 0, SECCOMP_RET_ERRNO | errno.EPERM)]


def _checks(rule: Rule) -> Iterator[Instruction]:
    """What follows where the system call is that of `rule`: it is allowed or refused here."""
    allow, refuse = SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | errno.EPERM
    yield BPF_LD_W_ABS, 0, 0, OFFSET_ARGS + 8 * rule.argument
    for value in rule.values:
        yield BPF_JSET if rule.as_flags else BPF_JEQ, 0, 1, value
        yield BPF_RET, 0, 0, refuse if rule.inverted else allow
    yield BPF_RET, 0, 0, allow if rule.inverted else refuse
