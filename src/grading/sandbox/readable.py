"""What student code may read of this machine, and what it must not be able to read, wherever it lies."""

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from src.files import ROOT

PRIVATE = ("staff", "tests", ".git", "dist")  # what a student worker may never read
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_SYSTEM = (
    "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/lib", "/lib64",
    "/etc/ld.so.cache", "/etc/localtime", "/sys/devices/system/cpu",
)  # fmt: skip


def library() -> list[str]:
    """Where Python and its packages lie."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places |= {path for path in sys.path if path and not ROOT.is_relative_to(path) and os.path.isdir(path)}
    places |= {path for path in (sys.prefix, sys.base_prefix) if path not in ("/", "/usr", "/usr/local")}
    return sorted(places - {str(ROOT)})


def system() -> tuple[str, ...]:
    """Python, its packages and the system's libraries, without what is private."""
    return tuple(without_private((*library(), *_SYSTEM)))


def without_private(paths: Iterable[str]) -> Iterator[str]:
    """These files and folders, and in the place of one that contains the project, what is in it beside the project.

    Landlock can allow a folder, but not forbid one that is in it.
    """
    for path in paths:
        place = Path(path).resolve()
        if any(place.is_relative_to(ROOT / name) for name in PRIVATE) and not _is_of_python(place):
            continue  # PYTHONPATH may name it
        if not ROOT.is_relative_to(place):
            yield path
        elif place != ROOT:
            yield from without_private(str(inside) for inside in Path(path).iterdir())


def private() -> tuple[str, ...]:
    """What a student worker looks for before it runs any student code: it must not be able to read any of it."""
    staff = ROOT / "staff"
    found = (staff, *staff.glob("*"), *staff.glob("hw*/*"))
    return tuple(str(path) for path in found if not _is_of_python(path.resolve()))


def _is_of_python(path: Path) -> bool:
    """Whether `path` belongs to a Python that is installed within the project, such as in a virtual environment."""
    prefixes = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    return any(prefix.is_relative_to(ROOT) and path.is_relative_to(prefix) for prefix in prefixes)
