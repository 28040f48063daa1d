"""Known mistakes in homework 1: one module a question. An entry has a mistake's name, hint, and what it leads to."""

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from src.errors import HomeworkError
from src.grading.part_test import Mistake


def collect(modules: Iterable[ModuleType]) -> dict[str, Mistake]:
    """All mistakes of `modules`, by name.

    Raises:
        HomeworkError: two mistakes have the same name, but not the same hint.
    """
    found: dict[str, Mistake] = {}
    for module in modules:
        for value in vars(module).values():
            for mistake in value if isinstance(value, tuple) else (value,):
                if not isinstance(mistake, Mistake):
                    continue
                if found.setdefault(mistake.name, mistake).hint != mistake.hint:
                    raise HomeworkError(f"{module.__name__}: {mistake.name!r} has another hint elsewhere in {__name__}")
    return found


HINTS = collect(importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
