"""The base of the tests that have points: how they call a student's functions, and how they say what was lost."""

import math
import time
import unittest
from typing import Any, ClassVar

import numpy as np

from src.grading import diagnosis
from src.grading.call import Lost, Returned, Worker
from src.grading.diagnosis import Mistakes
from src.grading.sandbox import Sandbox
from src.intake import Submission

IMPATIENCE = 4.0  # an answer that has to be stopped in every test it meets would cost a course minutes of waiting
OUT_OF_TIME = "not run: the grading took too long before; which of your functions takes so long?"


class PointsLost(AssertionError):
    """Why a test was lost: what was tried, what was expected, what came, and a hint.

    Of a hidden test only `reason` and `hint` are shown: they never depend on the numbers in it.
    """

    def __init__(self, tried: str, expected: str, came: str, hint: str = "", reason: str = ""):
        super().__init__(came)
        self.tried = tried
        self.expected = expected
        self.came = came
        self.hint = hint
        self.reason = reason

    def shown(self) -> str:
        """All of it, for a visible test."""
        lines = {"tried": self.tried, "expected": self.expected, "came": self.came, "hint": self.hint}
        return "\n".join(f"{name}: {text}" for name, text in lines.items() if text)

    def hidden(self) -> str:
        """What may be shown of it where the test is hidden."""
        return "\n".join(text for text in (self.reason, self.hint and f"hint: {self.hint}") if text)


class Part(unittest.TestCase):
    """Tests of one part of the homework. Each test has a process of its own for the student's code."""

    part: ClassVar[str]  # its number in the homework
    sandbox: ClassVar[Sandbox]
    submission: ClassVar[Submission]
    seconds: ClassVar[float] = 20.0  # for all calls to one process together
    impatience: ClassVar[float] = 1.0  # divides `seconds`; grows once some code had to be stopped
    end_of_all: ClassVar[float] = math.inf  # when the whole grading has to be over, by `time.monotonic()`

    def setUp(self) -> None:
        self.lost_some: PointsLost | None = None  # why a test earned only a part of its points
        self._worker: Worker | None = None
        self.addCleanup(self.start_afresh)

    def start_afresh(self) -> None:
        """End the process of the student's code; the next call gets a new one."""
        if self._worker is not None:
            self.sandbox.release(self._worker)
            self._worker = None

    def call(self, tried: str, file: str, function: str, *arguments: Any, **options: Any) -> Returned:
        """What the student's function returns; see `Worker.call`. `tried` says for a person what the call is.

        Raises:
            PointsLost: it returned nothing.
        """
        if time.monotonic() > self.end_of_all:
            raise PointsLost(tried, "", OUT_OF_TIME, reason=OUT_OF_TIME)
        if self._worker is None:
            self._worker = self.sandbox.start()
            self._allowed = self.seconds / Part.impatience
            self._deadline = min(time.monotonic() + self._allowed, self.end_of_all)
        try:
            seconds = max(0.1, self._deadline - time.monotonic())
            return self._worker.call(file, function, *arguments, seconds=seconds, **options)
        except Lost as lost:
            self.start_afresh()
            if not lost.in_time:
                Part.impatience = IMPATIENCE
            if lost.part is not None:
                reason = f"{lost.part}: {lost.reason}"
                raise PointsLost(tried, "", f"{reason}: {lost.shown}", reason=reason) from None
            came = f"{lost.reason}\n{lost.shown}".rstrip()
            expected = f"that {function} returns a value, within {self._allowed:.0f} s"
            raise PointsLost(tried, expected, came, reason=lost.reason) from None

    def lose(self, tried: str, expected: str, came: str, mistakes: Mistakes = (), reason: str = "") -> None:
        """Fail this test; `mistakes` are those that explain what came."""
        raise PointsLost(tried, expected, came, diagnosis.hint(mistakes), reason)


def numbers(values: np.ndarray, at_most: int = 6) -> str:
    """The first few of `values`, for a person."""
    flat = np.asarray(values).reshape(-1)
    return "[" + ", ".join(f"{v:.4g}" for v in flat[:at_most]) + (", …]" if flat.size > at_most else "]")
