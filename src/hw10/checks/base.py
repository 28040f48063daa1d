"""What the tests of this homework have in common."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.grading.part_test import Mistakes, PartTest
from src.grading.sandbox.messages import Argument, Returned
from src.hw10.hints.exceptions import diagnose_exception
from src.hw10.messages import Through

Floats = NDArray[np.float64]


class HW10Test(PartTest):
    """A test of homework 10."""

    def explain(self, error: str, line: str) -> Mistakes:
        return diagnose_exception(error, line)

    def measure(self, input: str, file: str, function: str, through: str, *arguments: Argument) -> Returned:
        """What the harness `through` (see `src.hw10.harness`) measures of the student's function.

        Raises:
            PointsLost: the function raised an error, or took too long.
        """
        return self.call(input, file, function, *arguments, through=Through(through))


def arrays(returned: Returned, *shapes: tuple[int, ...]) -> list[Floats] | None:
    """What was returned as float64 arrays of these shapes; None where it is anything else."""
    items: tuple[Any, ...] = returned.items if returned.kind == "several" else (returned.value,)
    if len(items) != len(shapes):
        return None
    found = [_array(item, shape) for item, shape in zip(items, shapes, strict=True)]
    return None if any(each is None for each in found) else [each for each in found if each is not None]


def integers(returned: Returned, count: int) -> list[int] | None:
    """What was returned as so many whole numbers; None where it is anything else."""
    values = arrays(returned, *[()] * count)
    if values is None or not all(np.isfinite(value) and value == np.rint(value) for value in values):
        return None
    return [int(value) for value in values]


def _array(value: Any, shape: tuple[int, ...]) -> Floats | None:
    if type(value) in (int, float) and shape == ():
        return np.asarray(value, dtype=np.float64)
    if isinstance(value, np.ndarray) and value.shape == shape and value.dtype.kind in "fiu":
        return np.asarray(value, dtype=np.float64)
    return None
