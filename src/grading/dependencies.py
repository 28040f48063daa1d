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
ENVIRONMENT = REQUIREMENTS.parent / ".venv"  # which `make run` makes
REMEDY = "run `make run`, then use .venv/bin/python; or pip install -r requirements.txt"


def check() -> None:
    """Check the version of Python, and that every package is installed, in any version.

    A Python that is newer than those that the homework was tested with is used, with a note, if it has the packages.

    Raises:
        SystemExit: Python is too old or a package is missing; one line that says what to install.
    """
    check_not_too_old()
    is_new = _here() > NEWEST
    missing = [] if _are_listed() else [name for name, version in _installed().items() if version is None]
    if missing and is_new:
        sys.exit(_too("new"))
    if missing:
        sys.exit(f"error: {', '.join(missing)} missing in {sys.executable}; {_remedy()}")
    if is_new:
        tested = f"{_dotted(OLDEST)} to {_dotted(NEWEST)}"
        print(f"note: the homework was tested with Python {tested}, not with {_dotted(_here())}", file=sys.stderr)


def check_not_too_old() -> None:
    """Check the version of Python.

    Raises:
        SystemExit: it is too old; one line that says what to install.
    """
    if _here() < OLDEST:
        sys.exit(_too("old"))


def _here() -> "tuple[int, ...]":
    return sys.version_info[:2]


def _too(what: str) -> str:
    """Why this Python, which is too old or too new, cannot be used."""
    oldest, newest = _dotted(OLDEST), _dotted(NEWEST)
    reason = " (its packages have no builds for it)" if what == "new" else ""
    return (
        f"error: Python {_dotted(_here())} is too {what} for this homework{reason}; install Python {oldest} to "
        f"{newest} (python.org/downloads), then run make run again, or make run PYTHON=python{newest}"
    )


def _remedy() -> str:
    """How to get at the packages that this Python lacks."""
    names = [name for name in ("bin/python", "Scripts/python.exe") if (ENVIRONMENT / name).exists()]
    if Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        return REMEDY
    if names:
        return f"use {ENVIRONMENT.name}/{names[0]}, or activate {ENVIRONMENT.name} first"
    if (ENVIRONMENT / "bin/python").is_symlink():
        return f"the Python that made {ENVIRONMENT.name} is gone: delete {ENVIRONMENT.name} and {REMEDY}"
    return REMEDY


def interpreter() -> str:
    """The version of this Python and a checksum of where it is installed, for the Makefile: "python-3.11-5d0ac1f2".

    Two virtual environments of the same Python give the same text.

    Raises:
        SystemExit: this Python is too old, or too new to install the packages for it.
    """
    check_not_too_old()
    if _here() > NEWEST:
        sys.exit(_too("new"))
    return f"python-{_dotted(_here())}-{zlib.crc32(sys.base_prefix.encode()):08x}"


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


def _are_listed() -> bool:
    """Whether each required package has a folder NAME-VERSION.dist-info; to load importlib.metadata takes 30 ms."""
    folders = [folder for path in sys.path for folder in Path(path).glob("*.dist-info")]
    listed = {folder.name.split("-")[0].lower().replace("_", "-") for folder in folders}
    return listed.issuperset(required())


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
