"""Keep student code from importing the grader's code, which exists only where it is graded.

A worker forgets that code and refuses to import it again: `forbid_in_process`. main.py and the grader need it in the
same process, so there only the import statements of the student's own files are refused: `forbid_in_student_code`.
"""

import builtins
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

from src.grading.student_code import PACKAGE


class _Refusal(MetaPathFinder):
    """Finds nothing, and raises an ImportError for a module of the forbidden packages."""

    def __init__(self, packages: Sequence[str]):
        self._packages = packages

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if _belongs(fullname, self._packages):
            raise _error(fullname)


def forbid_in_process(packages: Sequence[str]) -> None:
    """From now on, no code of this process can import `packages`; what is loaded of them works as before."""
    candidates = [name for name in sys.modules if name.startswith(tuple(packages))]  # of thousands, fast
    for name in [name for name in candidates if _belongs(name, packages)]:
        del sys.modules[name]
        parent, _, attribute = name.rpartition(".")
        if parent in sys.modules:
            vars(sys.modules[parent]).pop(attribute, None)  # `from src import grading` takes it from there
    sys.meta_path.insert(0, _Refusal(packages))


def forbid_in_student_code(packages: Sequence[str]) -> None:
    """From now on, import statements of the student's files cannot name `packages`."""
    usual = builtins.__import__

    def guarded(
        name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> ModuleType:
        if level == 0 and _belongs(str((globals or {}).get("__name__")), (PACKAGE,)):
            for module in (name, *(f"{name}.{each}" for each in fromlist or ())):
                if _belongs(module, packages):
                    raise _error(module)
        return usual(name, globals, locals, fromlist or (), level)

    builtins.__import__ = guarded


def _belongs(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def _error(module: str) -> ImportError:
    return ImportError(f"{module}: the grader's code cannot be imported by your answers", name=module)
