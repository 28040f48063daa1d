"""How a result that a student has derived is checked: its function is called on random instances of known value."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.grading.mistakes import NOTHING
from src.grading.part_test import Mistakes, PartTest, numbers
from src.grading.sandbox.messages import Argument, Returned

Floats = NDArray[np.float64]
Arguments = Mapping[str, Argument]  # of a call, by the names that they have in the student's file
SHOWN = 16  # numbers of an argument or a value


@dataclass(frozen=True)
class Instance:
    """One random instance of a problem."""

    arguments: Arguments
    right: Any  # the value, an array or a number
    case: Any  # what the mistakes are computed from


def repeated(
    make: Callable[[np.random.Generator], Instance], rng: np.random.Generator, times: int = 3
) -> Sequence[Instance]:
    """So many instances."""
    return [make(rng) for _ in range(times)]


def check_result(test: PartTest, function: str, instances: Sequence[Instance], mistakes: Mistakes) -> None:
    """The student's `function` returns the right value for each instance."""
    got = [value_of(test, function, each.arguments, np.shape(each.right)) for each in instances]
    right = [np.asarray(each.right, dtype=np.float64) for each in instances]
    for i, each in enumerate(instances):
        if not same_values(got[i], right[i]):
            found = diagnose_values(got, right, [other.case for other in instances], mistakes)
            input = described(function, each.arguments)
            test.lose(input, shown(right[i]), shown(got[i]), found, "the result does not hold")


def value_of(test: PartTest, function: str, arguments: Arguments, shape: tuple[int, ...]) -> Floats:
    """What the student's function returns, as an array of this shape; the test is lost if it is none."""
    input = described(function, arguments)
    file = test.grading.homework.part(test.part).file
    returned = test.call(input, file, function, *arguments.values())
    value = _array(returned, shape)
    expected = f"a tensor of shape {shape}" if shape else "one number"
    if value is None:
        mistakes = (NOTHING,) if returned.is_nothing else ()
        test.lose(input, expected, returned.description(), mistakes, "the result is of another kind or shape")
    if not np.isfinite(value).all():
        test.lose(input, expected, shown(value), test.not_finite, "the result is not finite")
    return value


def _array(returned: Returned, shape: tuple[int, ...]) -> Floats | None:
    """The value in float64 if it has this shape, but for axes of size 1; else None."""
    if not shape:
        value = returned.number()
        return None if value is None or isinstance(returned.value, str) else np.asarray(value, dtype=np.float64)
    array = returned.value
    squeezed = tuple(size for size in shape if size > 1)
    if not isinstance(array, np.ndarray) or tuple(size for size in array.shape if size > 1) != squeezed:
        return None
    return np.asarray(array, dtype=np.float64).reshape(shape)


def same_values(got: Floats, right: Floats) -> bool:
    """Whether two results are equal, but for what float32 arithmetic loses."""
    return bool(np.allclose(got, right, rtol=1e-4, atol=1e-6))


@np.errstate(all="ignore")  # what a mistake leads to does not have to be finite
def diagnose_values(
    got: Sequence[Floats], right: Sequence[Floats], cases: Sequence[Any], mistakes: Mistakes
) -> Mistakes:
    """The first mistake that leads to `got` in all cases, and is a mistake in one of them; empty if none does."""
    for mistake in mistakes:
        for variant in mistake.variants:
            led_to = [np.asarray(variant(case), dtype=np.float64) for case in cases]
            if all(map(same_values, got, led_to)) and not all(map(same_values, led_to, right)):
                return (mistake,)
    return ()


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
