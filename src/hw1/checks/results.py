"""How a result that a student has derived is checked: its function is called on random instances of known value."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.grading.part_test import Mistakes, numbers
from src.grading.sandbox.messages import Argument, Returned
from src.hw1.checks.base import GPT2Test
from src.hw1.hints.shared import NOT_A_NUMBER, NOTHING
from src.hw1.hints.theory import diagnose_values, same_values
from src.hw1.oracle import Floats

FILE = "theory.py"
Arguments = Mapping[str, Argument]  # of a call, by the names that they have in the student's file
SHOWN = 16  # numbers of an argument or a value


@dataclass(frozen=True)
class Instance:
    """One random instance of a problem."""

    arguments: Arguments
    right: Any  # the value, an array or a number
    case: Any  # what the mistakes are computed from


def check_result(
    test: GPT2Test,
    function: str,
    instances: Iterable[Instance],
    mistakes: Mistakes,
    same: Callable[[Floats, Floats], bool] = same_values,
) -> None:
    """The student's `function` returns the right value for each instance."""
    listed = list(instances)
    got = [value_of(test, function, each.arguments, np.shape(each.right)) for each in listed]
    right = [np.asarray(each.right, dtype=np.float64) for each in listed]
    wrong = [i for i in range(len(listed)) if not same(got[i], right[i])]
    if wrong:
        found = diagnose_values(got, right, [each.case for each in listed], mistakes)
        first = wrong[0]
        input = described(function, listed[first].arguments)
        test.lose(input, shown(right[first]), shown(got[first]), found, "the result does not hold")


def value_of(test: GPT2Test, function: str, arguments: Arguments, shape: tuple[int, ...]) -> Floats:
    """What the student's function returns, as an array of this shape; the test is lost if it is none."""
    input = described(function, arguments)
    returned = test.call(input, FILE, function, *arguments.values())
    value = _array(returned, shape)
    expected = f"a tensor of shape {shape}" if shape else "one number"
    if value is None:
        mistakes = (NOTHING,) if returned.is_nothing else ()
        test.lose(input, expected, returned.description(), mistakes, "the result is of another kind or shape")
    if not np.isfinite(value).all():
        test.lose(input, expected, shown(value), (NOT_A_NUMBER,), "the result is not finite")
    return value


def _array(returned: Returned, shape: tuple[int, ...]) -> Floats | None:
    if not shape:
        value = returned.number()
        return None if value is None or isinstance(returned.value, str) else np.asarray(value, dtype=np.float64)
    array = returned.value
    squeezed = tuple(size for size in shape if size > 1)
    if not isinstance(array, np.ndarray) or tuple(size for size in array.shape if size > 1) != squeezed:
        return None
    return np.asarray(array, dtype=np.float64).reshape(shape)


def described(function: str, arguments: Arguments) -> str:
    """A call, for a person."""
    values = ", ".join(f"{name} = {shown(value)}" for name, value in arguments.items())
    return f"`{function}`" + (f" with {values}" if values else "")


def shown(value: Any) -> str:
    """A number or an array, for a person."""
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.size <= SHOWN:
        return f"[{', '.join(numbers(row, SHOWN) for row in value)}]"
    if isinstance(value, np.ndarray) and value.ndim:
        return numbers(value, SHOWN) + (f" of shape {value.shape}" if value.ndim > 1 else "")
    return f"{float(value):.6g}"


def repeated(
    make: Callable[[np.random.Generator], Instance], rng: np.random.Generator, times: int = 3
) -> Sequence[Instance]:
    """So many instances."""
    return [make(rng) for _ in range(times)]
