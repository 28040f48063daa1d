"""Load a student's functions from whichever folder is named, and explain what went wrong in them.

The folder is imported as the package `questions`, whatever its name, so that stubs, reference answers and a student's
answers can replace each other. Student code is untrusted: it may raise anything, also while it is imported.
"""

import bdb
import contextlib
import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import linecache
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from src.errors import StudentCodeError

PACKAGE = "questions"
START, END = "### START CODE HERE ###", "### END CODE HERE ###"  # the lines around a block
_MOST_TENSORS, _MOST_CHARACTERS = 6, 80  # of the values that are shown, and of each
_PART_NUMBER = re.compile(r"\d+(\.\d+)?[a-z]?")


@dataclass(frozen=True)
class Failure:
    """Why a student's code failed."""

    part: str | None  # the part whose block is not written yet, where that is the reason
    place: str  # file:line
    text: str  # the traceback with the tensors of its last line, or the error alone
    error: str  # "TypeError: …"
    line: str  # of the student's code: the last that ran
    is_begun: bool = False  # whether the block of `part` holds other code, too


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
    inside = functools.cache(lambda filename: _inside(filename, folder))
    own = [frame for frame in trace.stack if inside(frame.filename)]
    last_lines = "".join(trace.format_exception_only()).rstrip()
    if isinstance(error, SyntaxError) and _inside(error.filename or "", folder):
        message = f"{type(error).__name__}: {error.msg}"
        return Failure(None, f"{_relative(error.filename or '')}:{error.lineno}", last_lines, message, error.text or "")
    if not own:
        return None
    place, line = f"{_relative(own[-1].filename)}:{own[-1].lineno}", own[-1].line or ""
    if isinstance(error, NotImplementedError) and _PART_NUMBER.fullmatch(str(error)):  # the line of a stub
        is_begun = holds_other_code(linecache.getlines(own[-1].filename), own[-1].lineno or 0)
        return Failure(str(error), place, last_lines, last_lines, line, is_begun)
    trace.stack = traceback.StackSummary.from_list(trace.stack[trace.stack.index(own[0]) :] if all_frames else own)
    trace.__cause__ = trace.__context__ = None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if inside(frame.f_code.co_filename)]
    text = "".join(trace.format()).rstrip() + (_tensors(frames[-1], line) if frames else "")
    return Failure(None, place, text, last_lines, line)


def has_quit_debugger(error: BaseException) -> bool:
    """Whether `error` comes of a debugger that was quit, which Python 3.14 does by sys.exit()."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return isinstance(error, bdb.BdbQuit) or any(frame.f_globals.get("__name__") in ("bdb", "pdb") for frame in frames)


def holds_other_code(lines: Sequence[str], number: int) -> bool:
    """Whether the block around a stub's line, which has this number among the `lines` of a file, holds other code."""
    _, start, before = "".join(lines[: number - 1]).rpartition(START)
    after, end, _ = "".join(lines[number:]).partition(END)
    if not (start and end) or END in before or START in after:
        return False  # the marks are gone
    return any(line.strip() and not line.strip().startswith("#") for line in (before + after).splitlines())


def left_line(part: str) -> str:
    """What to say where a block holds other code besides the line of its stub."""
    return f'your block still has the line raise NotImplementedError("{part}"); delete it'


def spelled(place: str) -> str:
    """`place`, which is file:line, in words."""
    file, _, line = place.rpartition(":")
    return f"{file}, line {line}"


def _tensors(frame: FrameType, line: str) -> str:
    """A line about the tensors, arrays and tuples among the local names of `frame`, those in its `line` first."""
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return ""  # a class body, whose names may lie in an object that runs code
    names = re.findall(r"\w+", line)
    values = sorted(frame.f_locals.items(), key=lambda item: item[0] not in names)
    known = [(name[:_MOST_CHARACTERS], _shape(value)) for name, value in values]
    shown = [f"{name} is {what}" for name, what in known if what][:_MOST_TENSORS]
    return f"\n  where {', '.join(shown)}" if shown else ""


def _shape(value: Any) -> str:
    """Type and shape of a tensor or an array, or the length of a tuple, for a person; empty for any other object.

    Nothing of the student's is called: only these types themselves are looked at, and never a class below them.
    """
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    with contextlib.suppress(Exception):  # a tensor of an unusual kind has no shape
        if torch is not None and type(value) is torch.Tensor:
            dtype, kind = str(value.dtype).removeprefix("torch."), "tensor"
            place = "" if value.device.type == "cpu" else f" on {value.device}"
        elif numpy is not None and type(value) is numpy.ndarray:
            dtype, kind, place = str(value.dtype), "NumPy array", ""
        elif type(value) is tuple:
            return f"a tuple of {len(value)}"
        else:
            return ""
        article = "an" if dtype.startswith("i") else "a"
        return f"{article} {dtype} {kind} of shape {tuple(value.shape)}{place}"[:_MOST_CHARACTERS]
    return ""


def _inside(filename: str, folder: Path) -> bool:
    return Path(filename).resolve().is_relative_to(folder.resolve())


def _relative(filename: str) -> str:
    path = Path(filename).resolve()
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()
