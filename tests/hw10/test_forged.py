"""Whatever a student's process sends back, a test passes or takes points: it never fails itself.

Code in that process can replace the harness, so nothing that comes from it may be taken for granted. The reference
answers are called here, and what comes back is replaced, whole or item by item, by values of every kind.
"""

import itertools
import unittest
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.files import ROOT
from src.grading import results
from src.grading.debug import ThisProcess
from src.grading.intake import Submission
from src.grading.part_test import Grading
from src.grading.sandbox.messages import Foreign, Returned
from src.hw10.checks.base import HW10Test
from src.hw10.parts import HOMEWORK

SOLUTION = ROOT / "staff" / "hw10" / "solution"
ARRAY = np.arange(6.0, dtype=np.float32).reshape(2, 3)
ITEMS = (
    None, True, 3, -2.5, float("nan"), float("inf"), "a text", 10**300, Foreign("Lie"), ARRAY, ARRAY[0, 0], ARRAY[:0],
    np.array([True, False]), np.array([3, 4]), np.full((2, 3), np.nan), np.array(1e300), np.zeros((1,) * 9),
)  # fmt: skip
CLASSES = [cls for cls in results.test_classes(HOMEWORK) if cls.part != results.SUBMIT]


def whole() -> list[Returned]:
    """Values of every kind, and tuples of every length."""
    plain = [Returned("plain", type(v).__name__, v, False, False, ()) for v in ITEMS if not isinstance(v, np.ndarray)]
    arrays = [v for v in ITEMS if isinstance(v, np.ndarray)]
    tensors = [Returned("tensor", str(v.dtype), v, False, False, ()) for v in arrays]
    tuples = [tuple(ITEMS[(start + i) % len(ITEMS)] for i in range(n)) for n in range(10) for start in (2, 9)]
    return [
        *plain, *tensors, Returned("numpy", "float32", ARRAY, False, False, ()),
        Returned("other", "Lie", Foreign("Lie"), False, False, ()),
        *(Returned("several", "tuple", Foreign("tuple"), False, False, (), items) for items in tuples),
    ]  # fmt: skip


def alone(returned: Returned, number: int) -> Returned:
    """One of the items in the place of all of them, as if the harness had returned a value as it is."""
    arrays = [item for item in returned.items if isinstance(item, np.ndarray)]
    return replace(returned, kind="tensor", value=arrays[number % len(arrays)], items=()) if arrays else returned


def with_a_forged_item(returned: Returned, number: int) -> Returned:
    """`returned` with one item replaced by one of ITEMS, or an array by one of another shape or with another value."""
    if not returned.items:
        value = returned.value
        return replace(returned, value=value * np.float32(1.5)) if isinstance(value, np.ndarray) else returned
    place, kind = number % len(returned.items), number // len(returned.items)
    items, old = list(returned.items), returned.items[place]
    changed = () if not isinstance(old, np.ndarray) else (old[..., :-1] if old.ndim else old, old * np.nan, old != 0)
    choice = (*ITEMS, *changed)
    items[place] = choice[kind % len(choice)]
    return replace(returned, items=tuple(items))


class Forger:
    """Runs one test again and again, with other values in the place of what comes back; each call is made once."""

    def __init__(self, cls: type[HW10Test], method: str):
        self._cls = cls
        self._method = method
        self._made: dict[tuple[int, str], Returned] = {}
        self._runner = ThisProcess(HOMEWORK, "bundled", SOLUTION, seed=1)

    def failures(self, change) -> list[str]:
        """What the test says of itself where `change` makes something else of what comes back."""
        original, made, count = self._cls.call, self._made, itertools.count()

        def call(test, input, *arguments, **options):
            key = next(count), input
            if key not in made:
                made[key] = original(test, input, *arguments, **options)
            return change(made[key])

        forged = type(self._cls.__name__, (self._cls,), {"call": call})
        grading = Grading(HOMEWORK, Submission(SOLUTION, Path("submit"), ()), self._runner, seed=3)
        recorder = results.Recorder(lambda results: None)
        (test,) = [
            each for each in results.suite([forged], grading, (forged.part,)) if each._testMethodName == self._method
        ]
        test.run(recorder)
        return [each.details for each in recorder.finish([]).tests if results.GRADER_FAILED in each.output]


@pytest.mark.parametrize(
    ("cls", "method"),
    [
        pytest.param(cls, name, id=f"{cls.__name__}.{name}")
        for cls in CLASSES
        for name in unittest.defaultTestLoader.getTestCaseNames(cls)
    ],
)
def test_a_forged_value_costs_points_not_the_grading(cls, method):
    forger = Forger(cls, method)
    assert forger.failures(lambda returned: returned) == []
    for forged in whole():
        assert forger.failures(lambda returned, forged=forged: forged) == [], forged
    for number in range(5):
        assert forger.failures(lambda returned, number=number: alone(returned, number)) == [], number
    for number in range(60):
        assert forger.failures(lambda returned, number=number: with_a_forged_item(returned, number)) == [], number
