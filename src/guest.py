"""A student's file is a guest: loaded from whichever folder is named, called, and never trusted to work.

The folder is imported as the package `questions`, whatever it is called, so that the stubs, the reference answers and a
student's answers can stand in for each other.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from src.artifacts import FILES, QUESTION_FILES
from src.errors import UserError

PACKAGE = "questions"


class GuestError(UserError):
    """A questions folder that lacks something, or a function that returned the wrong kind of thing."""


@dataclass(frozen=True)
class Failure:
    """Why a guest's code didn't work out. `part` is set where a block is simply not written yet."""

    part: str | None
    place: str  # file:line
    text: str  # what to show


def check_folder(folder: Path) -> None:
    """See that `folder` can hold a student's files.

    Raises:
        GuestError: there is no such folder.
    """
    if not folder.is_dir():
        raise GuestError(f"--questions {folder}: there is no such folder; it must hold {', '.join(QUESTION_FILES)}")


def load_function(folder: Path, file: str, name: str) -> Callable:
    """The function `name` in `folder`/`file`; that file and its siblings are imported as `questions.*`.

    Raises:
        GuestError: there is no such file or function.
        BaseException: whatever the file itself raises while it is imported.
    """
    package = sys.modules.get(PACKAGE)
    if package is None or list(package.__path__) != [str(folder.resolve())]:
        forget()
        spec = importlib.machinery.ModuleSpec(PACKAGE, None, is_package=True)
        spec.submodule_search_locations = [str(folder.resolve())]
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    if not (folder / file).is_file():
        raise GuestError(f"{folder / file}: is missing; restore it from the starter code")
    module = importlib.import_module(f"{PACKAGE}.{file.removesuffix('.py')}")
    function = getattr(module, name, None)
    if not callable(function):
        raise GuestError(f"{folder / file}: has no function {name}; restore its first line from the starter code")
    return function


def forget() -> None:
    """Drop the student's files that were imported; the next `load_function` imports them anew."""
    for module in [m for m in sys.modules if m == PACKAGE or m.startswith(PACKAGE + ".")]:
        del sys.modules[module]


def failure(error: BaseException, folder: Path) -> Failure | None:
    """What `error` says about the code in `folder`; None if that code had no part in it.

    The traceback is the student's own: frames of the library, of PyTorch and of Python are left out.
    """
    trace = traceback.TracebackException.from_exception(error, compact=True)
    own = [frame for frame in trace.stack if _inside(frame.filename, folder)]
    if isinstance(error, SyntaxError) and _inside(error.filename or "", folder):
        place = f"{_shown(error.filename)}:{error.lineno}"
        return Failure(None, place, "".join(trace.format_exception_only()).rstrip())
    if not own:
        return None
    place = f"{_shown(own[-1].filename)}:{own[-1].lineno}"
    if isinstance(error, NotImplementedError) and str(error) in FILES:  # a block of a stub
        return Failure(str(error), place, "".join(trace.format_exception_only()).rstrip())
    trace.stack = traceback.StackSummary.from_list(own)
    trace.__cause__ = trace.__context__ = None
    return Failure(None, place, "".join(trace.format()).rstrip())


def _inside(filename: str, folder: Path) -> bool:
    return Path(filename).resolve().is_relative_to(folder.resolve())


def _shown(filename: str) -> str:
    path = Path(filename).resolve()
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()
