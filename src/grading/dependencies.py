"""Whether this Python and its packages are those that the homework needs.

`check()` runs before anything else is imported, also by a Python that is too old. So this file must run on Python 3.6:
it imports nothing but the standard library, what came later is imported after the check of the version, and
annotations that Python 3.6 cannot evaluate are strings.
"""

import sys
import zlib
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 14)  # as in pyproject.toml
REQUIREMENTS = Path(__file__).resolve().parent.parent.parent / "requirements.txt"
REMEDY = "run `make run`, then use .venv/bin/python; or pip install -r requirements.txt"


def check() -> None:
    """Check the version of Python, and that every package is installed, in any version.

    Raises:
        SystemExit: Python is too old or a package is missing; one line that says what to install.
    """
    check_python()
    missing = [name for name, version in _installed().items() if version is None]
    if missing:
        sys.exit(f"error: {', '.join(missing)} missing in {sys.executable}; {REMEDY}")


def check_python() -> None:
    """Check the version of Python. A newer one than the homework was tested with passes.

    Raises:
        SystemExit: it is too old; one line that says what to install.
    """
    here = sys.version_info[:2]
    if here < OLDEST:
        oldest, newest = _dotted(OLDEST), _dotted(NEWEST)
        sys.exit(
            f"error: Python {_dotted(here)} is too old for this homework; install Python {oldest} to {newest} "
            f"(python.org/downloads), then run make run again, or make run PYTHON=python{newest}"
        )


def interpreter() -> str:
    """The version of this Python and a checksum of where it is installed, for the Makefile: "python-3.11-5d0ac1f2".

    Two virtual environments of the same Python give the same text.

    Raises:
        SystemExit: this Python is too old.
    """
    check_python()
    return f"python-{_dotted(sys.version_info[:2])}-{zlib.crc32(sys.base_prefix.encode()):08x}"


def required() -> "dict[str, str]":
    """The version of each package in requirements.txt; empty where there is no such file."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines() if REQUIREMENTS.exists() else []
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {name.strip(): version.strip() for name, version in pairs}


def differing() -> "list[str]":
    """A few words for each package that is missing or is installed in another version than requirements.txt says."""
    found = []
    installed = _installed()
    for name, wanted in required().items():
        version = installed[name]
        if version is None:
            found.append(f"no {name}")
        elif version.split("+")[0] != wanted:  # 2.13.0+cpu is 2.13.0
            found.append(f"{name} {version} instead of {wanted}")
    return found


def _installed() -> "dict[str, str | None]":
    """The version of each required package that is installed; None for one that is missing."""
    from importlib.metadata import PackageNotFoundError, version  # Python 3.6 and 3.7 have no such module

    found: dict[str, str | None] = {}
    for name in required():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _dotted(version: "tuple[int, ...]") -> str:
    return ".".join(map(str, version))
