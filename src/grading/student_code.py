"""Load a student's functions from whichever folder is named, and explain what went wrong in them.

The folder is imported as the package `questions`, whatever its name, so that stubs, reference answers and a student's
answers can replace each other. Student code is untrusted: it may raise anything, also while it is imported.
"""

import importlib
import importlib.machinery
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import StudentCodeError

PACKAGE = "questions"
_PART_NUMBER = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class Failure:
    """Why a student's code failed."""

    part: str | None  # the part whose block is not written yet, where that is the reason
    place: str  # file:line
    text: str  # the traceback, or the error alone


def check_folder(folder: Path, files: Sequence[str]) -> None:
    """Check that `folder` exists; `files` are those that it should hold.

    Raises:
        StudentCodeError: there is no such folder.
    """
    if not folder.is_dir():
        raise StudentCodeError(f"--questions {folder}: there is no such folder; it must hold {', '.join(files)}")


def load_function(folder: Path, file: str, name: str) -> Callable[..., Any]:
    """The function `name` in `folder`/`file`; that file and its siblings are imported as `questions.*`.

    Raises:
        StudentCodeError: there is no such file or function.
        BaseException: whatever the file itself raises while it is imported.
    """
    package = sys.modules.get(PACKAGE)
    if package is None or list(package.__path__) != [str(folder.resolve())]:
        forget()
        spec = importlib.machinery.ModuleSpec(PACKAGE, None, is_package=True)
        spec.submodule_search_locations = [str(folder.resolve())]
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    if not (folder / file).is_file():
        raise StudentCodeError(f"{folder / file}: is missing; restore it from the starter code")
    module = importlib.import_module(f"{PACKAGE}.{file.removesuffix('.py')}")
    function = getattr(module, name, None)
    if not callable(function):
        raise StudentCodeError(f"{folder / file}: has no function {name}; restore its first line from the starter code")
    return function  # type: ignore[no-any-return] # callable() was asked


def forget() -> None:
    """Drop the student's modules, so that the next `load_function` imports them anew."""
    for module in [m for m in sys.modules if m == PACKAGE or m.startswith(PACKAGE + ".")]:
        del sys.modules[module]


def failure(error: BaseException, folder: Path, all_frames: bool = False) -> Failure | None:
    """What `error` says about the code in `folder`; None if that code had no part in it.

    The traceback is the student's own: frames of this project, of PyTorch and of Python are left out. With
    `all_frames`, those that the student's code has called are there.
    """
    trace = traceback.TracebackException.from_exception(error, compact=True)
    own = [frame for frame in trace.stack if _inside(frame.filename, folder)]
    last_lines = "".join(trace.format_exception_only()).rstrip()
    if isinstance(error, SyntaxError) and _inside(error.filename or "", folder):
        return Failure(None, f"{_relative(error.filename or '')}:{error.lineno}", last_lines)
    if not own:
        return None
    place = f"{_relative(own[-1].filename)}:{own[-1].lineno}"
    if isinstance(error, NotImplementedError) and _PART_NUMBER.fullmatch(str(error)):  # the line of a stub
        return Failure(str(error), place, last_lines)
    trace.stack = traceback.StackSummary.from_list(trace.stack[trace.stack.index(own[0]) :] if all_frames else own)
    trace.__cause__ = trace.__context__ = None
    return Failure(None, place, "".join(trace.format()).rstrip())


def _inside(filename: str, folder: Path) -> bool:
    return Path(filename).resolve().is_relative_to(folder.resolve())


def _relative(filename: str) -> str:
    path = Path(filename).resolve()
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()
