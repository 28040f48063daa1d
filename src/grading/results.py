"""Run the tests of a homework, and record what came of them. The renderers of the record are in `report.py`."""

import importlib
import inspect
import math
import pkgutil
import sys
import textwrap
import time
import unittest
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from src.errors import HomeworkError, PointsLost
from src.files import ROOT
from src.grading.chart import AnyChart
from src.grading.homework import Homework
from src.grading.part_test import ErrorInfo, Grading, PartTest, ReasonsResult

SECONDS_STEP = 10  # of the time that is reported: an exact time could tell what student code has seen
SUBMIT = "submit"  # the `part` of a test about submit/, which belongs to no part of the homework
UNFINISHED = "The grading did not finish; what is listed here was graded before it stopped."
WRONG_VALUE = "the returned value is wrong for this test's input"
NO_VALUE = "your code returned no value for this test's input"
GRADER_FAILED = "the grader itself failed here, which is not your fault; please tell the staff"


@dataclass(frozen=True)
class TestResult:
    """What came of one test.

    `output` is all that students may read of a hidden test. Of a visible one, they may read everything but `seconds`.
    """

    __test__ = False  # not a test of pytest's

    part: str
    number: str
    name: str
    score: float
    max_score: float
    visibility: str | None  # Gradescope's word for when students see it; None: always
    output: str  # for the student
    details: str  # for the staff, and for the student where the test is visible
    is_hidden: bool
    input: str = ""  # from here to `mistakes`: see `PointsLost`; empty where nothing is wrong
    expected: str = ""
    got: str = ""
    hint: str = ""
    reason: str = ""
    mistakes: tuple[str, ...] = ()
    printed: str = ""  # the first lines that the student's code printed, where no error quotes them
    chart: AnyChart | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether it earned all of its points, and nothing is wrong."""
        return self.score == self.max_score and not self.details


@dataclass(frozen=True)
class Results:
    """What came of a grading, so far or in the end."""

    tests: tuple[TestResult, ...]
    seconds: int  # until the last visible test was done, rounded up to `SECONDS_STEP`
    output: str  # about the whole submission

    @property
    def has_all_points(self) -> bool:
        """Whether no test of a part lost anything; one without points loses by failing."""
        return all(test.passed for test in self.tests if test.part != SUBMIT or test.max_score)


class Recorder(ReasonsResult):
    """Records each test as soon as it is done, and calls `save` with the results so far.

    Student code may see a hidden test's input, and stop the grading by it. So what is saved before the end does not
    depend on hidden tests: their results appear all at once, in `finish`.
    """

    def __init__(self, save: Callable[[Results], None]):
        super().__init__()
        self._tests: list[TestResult] = []
        self._hidden: list[TestResult] = []
        self._given: set[tuple[str, str]] = set()  # part and text of what visible tests said
        self._save = save
        self._began = time.monotonic()
        self._test_began = self._began
        self._seconds = 0
        save(self.so_far(UNFINISHED))

    def so_far(self, output: str) -> Results:
        """The results of the visible tests; `output` is about the whole submission."""
        return Results(tuple(self._tests), self._seconds, output)

    def finish(self, notes: Sequence[str]) -> Results:
        """The final results."""
        _show_progress("")
        return Results((*self._tests, *self._hidden), self._seconds, "\n".join(notes))

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        _show_progress(f"{_attribute(test, 'number')} {test.shortDescription()}")
        self._test_began = time.monotonic()

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._record(test, getattr(test, "partly_lost", None))

    def addFailure(self, test: unittest.TestCase, err: ErrorInfo) -> None:
        super().addFailure(test, err)
        self._record(test, err[1])

    def addError(self, test: unittest.TestCase, err: ErrorInfo) -> None:
        super().addError(test, err)
        self._record(test, err[1])

    def _record(self, test: unittest.TestCase, error: BaseException | None) -> None:
        assert isinstance(test, PartTest)
        points = _attribute(test, "weight") or 0
        is_partial = error is not None and error is test.partly_lost
        score = test.score if test.score is not None and (error is None or is_partial) else 0.0 if error else points
        hidden = _attribute(test, "hide_errors")
        printed = test.printed()
        listing = "" if error is None or hidden else _listing(printed)
        result = TestResult(
            part=test.part, number=_attribute(test, "number"), name=test.shortDescription() or str(test),
            score=score, max_score=points, visibility=_attribute(test, "visibility"),
            output=self._hidden_text(test.part, error, hidden) if hidden else _visible_text(error) + listing,
            details=describe(error) + listing,
            is_hidden=test.is_hidden, printed=printed, seconds=time.monotonic() - self._test_began,
            **_lost_fields(error) if isinstance(error, PointsLost) else {"chart": test.chart},
        )  # fmt: skip
        if hidden:
            self._hidden.append(result)
            return
        if isinstance(error, PointsLost):
            self._given.add((test.part, error.hidden_text()))
        self._tests.append(result)
        self._seconds = math.ceil((time.monotonic() - self._began) / SECONDS_STEP) * SECONDS_STEP
        self._save(self.so_far(UNFINISHED))

    def _hidden_text(self, part: str, error: BaseException | None, hidden: str) -> str:
        """What students read of a hidden test's `error`; it begins with `hidden`.

        Student code that knows a hidden input can choose its wrong value by it, and with that the hint. So reason and
        hint appear only as a visible test of the part has given them already; else it is one of two fixed texts.
        """
        if not isinstance(error, PointsLost):
            return _visible_text(error)
        text = error.hidden_text()
        if (part, text) not in self._given:
            text = WRONG_VALUE if error.returned else NO_VALUE
        return f"{hidden}\n{text}"


def _visible_text(error: BaseException | None) -> str:
    """What students read of a visible test's `error`."""
    if error is None:
        return ""
    return error.visible_text() if isinstance(error, PointsLost) else GRADER_FAILED


def _lost_fields(lost: PointsLost) -> dict[str, Any]:
    names = ("input", "expected", "got", "hint", "reason", "mistakes", "chart")
    return {name: getattr(lost, name) for name in names}


def describe(error: BaseException | None) -> str:
    """What the staff, and at the terminal the student, read of a test's `error`."""
    if error is None or isinstance(error, PointsLost):
        return _visible_text(error)
    return f"{type(error).__name__}: {error}"


def _listing(printed: str) -> str:
    """What the student's code printed, to be appended to what is said of a test."""
    return f"\nyour code printed:\n{textwrap.indent(printed, '  ')}" if printed else ""


def _attribute(test: unittest.TestCase, name: str) -> Any:
    """What gradescope-utils' decorator `name` says at this test."""
    return getattr(getattr(test, test._testMethodName), f"__{name}__", None)


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def test_classes(homework: Homework) -> list[type[PartTest]]:
    """The visible tests of a homework and, where staff/ is present, the hidden ones.

    Raises:
        HomeworkError: a test belongs to no part of it, or what it imports is missing.
    """
    checks = importlib.import_module(f"{homework.package}.checks")
    names = [f"{checks.__name__}.{module.name}" for module in pkgutil.iter_modules(checks.__path__)]
    if has_hidden_tests(homework):
        names.append(f"staff.{homework.name}.hidden_tests")
    classes = [cls for name in names for cls in _tests_in(_imported(name))]
    for cls in classes:
        if getattr(cls, "part", None) not in (*homework.all_numbers, SUBMIT):
            place = f"{cls.__module__}.{cls.__name__}"
            raise HomeworkError(
                f"{place}: part = {getattr(cls, 'part', None)!r} is not declared in {homework.package}.parts"
            )
    return classes


def has_hidden_tests(homework: Homework) -> bool:
    """Whether the hidden tests are here: not in what students get."""
    return (ROOT / "staff" / homework.name / "hidden_tests.py").exists()


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise HomeworkError(f"{name}: cannot be imported ({error})") from None


def _tests_in(module: ModuleType) -> list[type[PartTest]]:
    """The test classes that `module` itself defines."""
    classes = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, PartTest)]
    names = unittest.defaultTestLoader.getTestCaseNames
    return [cls for cls in classes if cls.__module__ == module.__name__ and names(cls)]


def suite(classes: Sequence[type[PartTest]], grading: Grading, parts: Collection[str] = ()) -> unittest.TestSuite:
    """All tests of these classes but those of optional parts, or those of some parts, by number.

    Hidden ones come last: no visible one can tell of them. The grading gets to know all of them.
    """
    names = unittest.defaultTestLoader.getTestCaseNames
    tests = [cls(name, grading) for cls in classes for name in names(cls)]
    tests.sort(key=lambda test: (_attribute(test, "hide_errors") is not None, _attribute(test, "number")))
    grading.tests = tests
    wanted = parts or (*grading.homework.numbers, SUBMIT)
    return unittest.TestSuite(test for test in tests if test.part in wanted)


def parts_of_tests(homework: Homework) -> dict[str, str]:
    """The part of each test, by the test's number."""
    names = unittest.defaultTestLoader.getTestCaseNames
    return {getattr(cls, name).__number__: cls.part for cls in test_classes(homework) for name in names(cls)}


@dataclass(frozen=True)
class Points:
    """What the tests of one part are worth."""

    visible: float
    hidden: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.visible + self.hidden


def points_of(homework: Homework) -> dict[str, Points]:
    """The points of each part, by number, as the decorators at its tests say."""
    sums = {number: [0.0, 0.0] for number in homework.all_numbers}
    for cls in test_classes(homework):
        for name in unittest.defaultTestLoader.getTestCaseNames(cls):
            method = getattr(cls, name)
            if cls.part in sums:
                sums[cls.part][hasattr(method, "__hide_errors__")] += float(getattr(method, "__weight__", 0))
    return {number: Points(*both) for number, both in sums.items()}
