"""How a result that a student has derived is checked: its function is called on random instances of known value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.grading.part_test import Mistakes, numbers
from src.grading.sandbox.messages import Argument, Returned
from src.hw10.checks.base import HW10Test
from src.hw10.hints.shared import NO_RESULT
from src.hw10.hints.theory import Floats, diagnose_values, same_values

FILE = "theory.py"
INSTANCES = 3
SHOWN = 16  # numbers of an argument or a value
Arguments = Mapping[str, Argument]  # of a call, by the names that they have in the student's file


@dataclass(frozen=True)
class Instance:
    """One random instance of a problem."""

    arguments: Arguments
    right: Any  # the value, an array or a number
    case: Any  # what the mistakes are computed from


def check_result(
    test: HW10Test, function: str, instance: Callable[[np.random.Generator], Instance], mistakes: Mistakes
) -> None:
    """The student's `function` returns the right value for a few instances."""
    listed = [instance(test.rng) for _ in range(INSTANCES)]
    got = [_value_of(test, function, each.arguments, np.shape(each.right)) for each in listed]
    right = [np.asarray(each.right, dtype=np.float64) for each in listed]
    for i, each in enumerate(listed):
        if not same_values(got[i], right[i]):
            found = diagnose_values(got, right, [other.case for other in listed], mistakes)
            input = _described(function, each.arguments)
            test.lose(input, _shown(right[i]), _shown(got[i]), found, "the result does not hold")


def _value_of(test: HW10Test, function: str, arguments: Arguments, shape: tuple[int, ...]) -> Floats:
    """What the student's function returns, as an array of this shape; the test is lost if it is none."""
    input = _described(function, arguments)
    returned = test.call(input, FILE, function, *arguments.values())
    value = _array(returned, shape)
    expected = f"a tensor of shape {shape}" if shape else "one number"
    if value is None:
        mistakes = (NO_RESULT,) if returned.is_nothing else ()
        test.lose(input, expected, returned.description(), mistakes, "the result is of another kind or shape")
    if not np.isfinite(value).all():
        test.lose(input, expected, _shown(value), reason="the result is not finite")
    return value


def _array(returned: Returned, shape: tuple[int, ...]) -> Floats | None:
    if not shape:
        value = returned.number()
        return None if value is None or isinstance(returned.value, str) else np.asarray(value, dtype=np.float64)
    array = returned.value
    if not isinstance(array, np.ndarray) or array.shape != shape:
        return None
    return np.asarray(array, dtype=np.float64)


def _described(function: str, arguments: Arguments) -> str:
    values = ", ".join(f"{name} = {_shown(value)}" for name, value in arguments.items())
    return f"`{function}` with {values}"


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.size <= SHOWN:
        return f"[{', '.join(numbers(row, SHOWN) for row in value)}]"
    if isinstance(value, np.ndarray) and value.ndim:
        return numbers(value, SHOWN) + (f" of shape {value.shape}" if value.ndim > 1 else "")
    return f"{float(value):.6g}"
