"""Search the students' code for the answers by what it does: each of its functions is tried as an answer.

`staff/NAME/probes.py` says, for each part, with what a student would call a function, and whether the result is right.
"""

import importlib
import inspect
import io
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any, get_origin

from src.grading.homework import Homework

MAX_NESTING = 2  # a class's instance, then what its methods and properties return


@dataclass(frozen=True)
class Probe:
    """One way to use a function as the answer to a part."""

    part: str
    arguments: tuple[Any, ...]
    is_right: Callable[[Any], bool]  # whether a result answers the part; it may raise anything


def answers_in(package: str, probes: Sequence[Probe]) -> list[str]:
    """The functions and classes of `package` that answer a part, a line each."""
    found = []
    for name, thing in _defined_in(package):
        parts = {probe.part for probe in probes if _answers(thing, probe)}
        found += [f"{name}: answers {part}" for part in sorted(parts)]
    return found


def probes_of(homework: Homework) -> list[Probe]:
    """The probes of a homework."""
    return list(importlib.import_module(f"staff.{homework.name}.probes").probes())


def _defined_in(package: str) -> Iterator[tuple[str, Any]]:
    """Every function and class that a module of `package` defines, with its name; those inside of classes, too."""
    top = importlib.import_module(package)
    modules = pkgutil.walk_packages(top.__path__, f"{package}.") if hasattr(top, "__path__") else []
    for module in (top, *(importlib.import_module(info.name) for info in modules)):
        for name, value in list(vars(module).items()):
            if getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value
            if inspect.isclass(value):
                yield f"{module.__name__}.{name}", value
                inner = {n: getattr(v, "__func__", v) for n, v in vars(value).items()}
                yield from ((f"{module.__name__}.{name}.{n}", v) for n, v in inner.items() if inspect.isfunction(v))


def _answers(thing: Callable[..., Any], probe: Probe) -> bool:
    """Whether `thing`, called with the probe's arguments, or what can be read off its result, is right."""
    try:
        signature = inspect.signature(thing)
        given = signature.bind(*probe.arguments).arguments
    except (TypeError, ValueError):
        return False
    if any(_is_meant_otherwise(signature.parameters[name].annotation, value) for name, value in given.items()):
        return False
    return any(_is_right(probe, value) for value in _values(lambda: thing(*probe.arguments), MAX_NESTING))


def _is_meant_otherwise(annotation: Any, value: Any) -> bool:
    """Whether a parameter takes a text or a mapping, and `value` is none: such calls may load models for minutes."""
    kind = get_origin(annotation) or annotation
    return kind in (str, Mapping) and not isinstance(value, kind)


def _values(call: Callable[[], Any], depth: int) -> Iterator[Any]:
    """What `call` returns, and, where that is an object of the project, what its properties and methods give."""
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
            value = call()
    except (Exception, SystemExit):
        return
    yield value
    if isinstance(value, tuple):
        yield from value
    elif depth and type(value).__module__.startswith("src."):
        for name in dir(value):
            if not name.startswith("__"):
                yield from _values(lambda name=name: _read(value, name), depth - 1)  # type: ignore[misc]


def _read(value: Any, name: str) -> Any:
    """An attribute of `value`; a method is called."""
    attribute = getattr(value, name)
    return attribute() if inspect.ismethod(attribute) else attribute


def _is_right(probe: Probe, value: Any) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            return bool(probe.is_right(value))
    except Exception:
        return False
