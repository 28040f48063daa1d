"""Landlock: from now on, this process can open only some files and folders. landlock(7), kernel 5.13 and later.

The constants have the names of linux/landlock.h. What an older version of Landlock cannot forbid, the filter of system
calls does: truncating by a path (version 2), connecting (3), ioctl on devices (4), signals to other processes and
abstract sockets (5).
"""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

SYS_landlock_create_ruleset, SYS_landlock_add_rule, SYS_landlock_restrict_self = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION, LANDLOCK_RULE_PATH_BENEATH = 1, 1
LANDLOCK_ACCESS_FS_EXECUTE, LANDLOCK_ACCESS_FS_WRITE_FILE = 1 << 0, 1 << 1
LANDLOCK_ACCESS_FS_READ_FILE, LANDLOCK_ACCESS_FS_READ_DIR = 1 << 2, 1 << 3
LANDLOCK_ACCESS_FS_ALL_V1 = (1 << 13) - 1  # the rights of version 1
LANDLOCK_ACCESS_FS_REFER, LANDLOCK_ACCESS_FS_TRUNCATE, LANDLOCK_ACCESS_FS_IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
LANDLOCK_ACCESS_NET_BIND_TCP, LANDLOCK_ACCESS_NET_CONNECT_TCP = 1 << 0, 1 << 1
LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, LANDLOCK_SCOPE_SIGNAL = 1 << 0, 1 << 1
COMPLETE = 6  # the version from which on it forbids all that this module asks for
MACHINES = ("x86_64", "aarch64")  # where these system calls have these numbers, and this was tested


def version() -> int:
    """The version of the kernel's Landlock; 0 where it has none."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(SYS_landlock_create_ruleset, None, ctypes.c_size_t(0), LANDLOCK_CREATE_RULESET_VERSION)
    return max(0, int(found))


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


def restrict_paths(readable: Iterable[Path], writable: Iterable[Path]) -> int:
    """From now on only these files and folders, and what is in them, can be opened. The version that sees to it, or 0.

    Raises:
        OSError: the kernel can, but refused.
    """
    supported = version()
    if supported == 0:
        return 0
    rights, attributes = _landlock_attributes(supported)
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
    return supported


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
