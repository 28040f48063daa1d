"""The known mistakes of a homework: those that the modules of `src/hwN/hints/` declare, and one of any homework."""

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from src.errors import HomeworkError
from src.grading.part_test import Mistake

NOTHING = Mistake("nothing", "nothing is returned; does your block end with a `return`?")


def mistakes_in(package: str, path: Iterable[str]) -> dict[str, Mistake]:
    """All mistakes of the modules in `package`, which lies at `path`, and `NOTHING`, by name.

    Raises:
        HomeworkError: two mistakes have the same name, but not the same hint.
    """
    return collect(importlib.import_module(f"{package}.{module.name}") for module in pkgutil.iter_modules(path))


def collect(modules: Iterable[ModuleType]) -> dict[str, Mistake]:
    """All mistakes of `modules` and `NOTHING`, by name.

    Raises:
        HomeworkError: two mistakes have the same name, but not the same hint.
    """
    found = {NOTHING.name: NOTHING}
    for module in modules:
        for value in vars(module).values():
            for mistake in value if isinstance(value, tuple) else (value,):
                if not isinstance(mistake, Mistake):
                    continue
                if found.setdefault(mistake.name, mistake).hint != mistake.hint:
                    raise HomeworkError(f"{module.__name__}: {mistake.name!r} has another hint elsewhere")
    return found
