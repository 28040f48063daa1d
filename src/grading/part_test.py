"""The base class of the tests that have points: how they call student code, and how they say what is wrong.

The points of a test stand at it, once, in gradescope-utils' decorator `@weight`. All tests of one submission share one
`Grading`.
"""

import hashlib
import time
import unittest
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Protocol

import numpy as np

from src.errors import CallFailed, PointsLost
from src.grading.chart import AnyChart
from src.grading.homework import Homework
from src.grading.intake import Submission
from src.grading.sandbox.client import Answerer
from src.grading.sandbox.messages import Argument, Reference, Returned
from src.grading.sandbox.protocol import M, Message
from src.grading.time_budget import TimeBudget

ErrorInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
OUT_OF_TIME = "not run: the grading took too long; which of your functions takes so long?"


@dataclass(frozen=True)
class Mistake:
    """A known misunderstanding, and how to recognise it.

    Each variant is a function of a case, which is what a test knows: the model's answers, the arguments, the right
    value. It returns the value to which the mistake leads, for the diagnosis to compare with what the student got; or
    True where the mistake explains the case. A variant may also be one step of a longer computation: a function of a
    case and of what the step before has led to.
    """

    name: str
    hint: str  # teaches without giving the line away
    variants: tuple[Callable[..., Any], ...] = field(default=(), repr=False)

    def with_variants(self, *variants: Callable[..., Any]) -> "Mistake":
        """The same mistake, in another question."""
        return Mistake(self.name, self.hint, variants)


Mistakes = Sequence[Mistake]  # which together explain a value; empty where nothing known does


def hint_of(mistakes: Mistakes) -> str:
    """What to tell a student who made these mistakes; empty if there are none."""
    return "; and ".join(mistake.hint for mistake in mistakes)


def names_of(mistakes: Mistakes) -> tuple[str, ...]:
    """The mistakes' names."""
    return tuple(mistake.name for mistake in mistakes)


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose. Whoever knows it does not learn `seed`, nor the seeds for other purposes."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:6])


class Worker(Protocol):
    """Where the student's functions are called."""

    @property
    def ended(self) -> bool:
        """Whether it has died."""

    def run(
        self, file: str, function: str, *arguments: Argument, seconds: float, answerer: Answerer | None = None,
        stand_in: Reference | None = None, watch: bool = False, through: Reference | None = None,
    ) -> Returned:  # fmt: skip
        """See `WorkerClient.run`."""

    def printed(self) -> str:
        """The first lines that the student's code printed."""


class Runner(Protocol):
    """What runs the student's code: a `Sandbox`, or this process; see `debug.py`."""

    model_name: str

    def start(self, *, watch: bool = False) -> Worker:
        """A fresh worker, whose calls may `watch` the model if this one says so."""

    def release(self, worker: Any) -> None:
        """Take back a worker that is not needed any more."""

    def ask(self, question: Message, expected: type[M]) -> M:
        """What this project's own code answers about the model."""

    def prepare(self, question: Message) -> None:
        """Compute once what workers will be asked for each submission, where several are graded."""


@dataclass
class Grading:
    """One grading: a submission, the sandbox for its code, the seed of its tests, and the time that is left."""

    homework: Homework
    submission: Submission
    sandbox: Runner
    seed: int  # of all models and inputs that tests make up
    time: TimeBudget = field(default_factory=TimeBudget)
    tests: Sequence["PartTest"] = ()  # all of the homework's, graded or not
    reasons: dict[str, str] = field(default_factory=dict)  # number of a test that has run → why it lost points, or ""


class PartTest(unittest.TestCase):
    """Tests of one part of a homework. Each test has a process of its own for the student's code."""

    __test__ = False  # for grader.py, not for pytest

    part: ClassVar[str]  # its number
    seconds: ClassVar[float | None] = None  # for all calls to one worker; None: what the homework's limits say
    not_finite: ClassVar[Mistakes] = ()  # explain a derived result that is NaN or infinity

    def __init__(self, method: str, grading: Grading):
        super().__init__(method)
        self.grading = grading
        self.score: float | None = None  # of a test that earns a share of its points; None: all or nothing
        self.partly_lost: PointsLost | None = None  # why it earned only a share
        self.chart: AnyChart | None = None  # of what it looked at, where nothing is wrong
        self._worker: Worker | None = None
        self._watches = False  # whether that worker was started for calls that watch the model
        self._printed = ""  # by the last worker
        self._allowed = self._began = 0.0

    @cached_property
    def rng(self) -> np.random.Generator:
        """What this test draws its models and inputs from: others in every grading, the same with the same seed."""
        return np.random.default_rng(derived_seed(self.grading.seed, self.number))

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test. Student code may return any number, so NumPy does not warn of overflow and the like here."""
        with np.errstate(all="ignore"):
            return super().run(result)

    def setUp(self) -> None:
        self.addCleanup(self.start_afresh)

    def start_afresh(self, stopped: bool = False) -> None:
        """End the process of the student's code, which had to be `stopped` or not; the next call gets a new one."""
        if self._worker is not None:
            self.grading.time.use(self.part, time.monotonic() - self._began, stopped)
            worker, self._worker = self._worker, None
            told = worker.ended  # a process that has died: the error says what it printed
            self.grading.sandbox.release(worker)
            self._printed = "" if told else worker.printed()

    def printed(self) -> str:
        """The first lines that the student's code printed, where no error has said so."""
        self.start_afresh()
        return self._printed

    def call(
        self,
        input: str,
        file: str,
        function: str,
        *arguments: Argument,
        answerer: Answerer | None = None,
        stand_in: Reference | None = None,
        watch: bool = False,
        through: Reference | None = None,
    ) -> Returned:
        """What the student's function returns; see `WorkerClient.run`. `input` describes the call to a person.

        Raises:
            PointsLost: it returned nothing.
        """
        if watch and not self._watches:
            self.start_afresh()
        worker = self._worker or self._start_worker(input, watch)
        seconds = max(0.1, self._began + self._allowed - time.monotonic())
        try:
            return worker.run(
                file, function, *arguments, seconds=seconds, answerer=answerer, stand_in=stand_in, watch=watch,
                through=through,
            )  # fmt: skip
        except CallFailed as failed:
            self.start_afresh(stopped=failed.timed_out)
            raise self._call_failed(input, function, failed) from None

    def _start_worker(self, input: str, watch: bool) -> "Worker":
        seconds = self.grading.homework.limits.seconds if self.seconds is None else self.seconds
        self._allowed = self.grading.time.allowed(self.part, seconds)
        if not self._allowed:
            raise PointsLost(input, "", OUT_OF_TIME, reason=OUT_OF_TIME, returned=False)
        self._worker, self._watches = self.grading.sandbox.start(watch=watch), watch
        self._began = time.monotonic()
        return self._worker

    def _call_failed(self, input: str, function: str, failed: CallFailed) -> PointsLost:
        if failed.part is not None:
            return PointsLost(input, "", failed.details, reason=failed.reason, returned=False)
        if failed.needs_terminal:
            reason = f"{failed.reason}; run: python grader.py --debug {self.part}"
            return PointsLost("", "", reason, reason=reason, returned=False)
        expected = f"`{function}` to return a value" + (f" within {self._allowed:.0f} s" if failed.timed_out else "")
        got = f"{failed.reason}\n{failed.details}".rstrip()
        mistakes = self.explain(failed.error, failed.line)
        return PointsLost(
            input, expected, got, hint_of(mistakes), failed.reason, returned=False, mistakes=names_of(mistakes)
        )

    def explain(self, error: str, line: str) -> Mistakes:
        """The known mistakes behind an `error`, "TypeError: …", of a student's `line`; a homework knows some."""
        return ()

    def reasons_of(self, part: str) -> set[str]:
        """Why the tests of `part` lose points in this grading; those that have not run are run now, for no points."""
        for test in self.grading.tests:
            if test.part == part and test.number not in self.grading.reasons:
                test.run(ReasonsResult())
        return {self.grading.reasons.get(test.number, "") for test in self.grading.tests if test.part == part} - {""}

    def lose(
        self,
        input: str,
        expected: str,
        got: str,
        mistakes: Mistakes = (),
        reason: str = "",
        chart: AnyChart | None = None,
    ) -> NoReturn:
        """Fail this test; `mistakes` explain what the student got, and `chart` shows it.

        Raises:
            PointsLost: always.
        """
        hint, names = hint_of(mistakes), names_of(mistakes)
        raise PointsLost(input, expected, got, hint, reason, mistakes=names, chart=chart)

    def earn(self, share: float) -> None:
        """Earn this share, 0 to 1, of the test's points, if nothing fails after that."""
        self.score = round(self.points * share, 2)

    @property
    def is_hidden(self) -> bool:
        """Whether students do not have this test."""
        return hasattr(getattr(self, self._testMethodName), "__hide_errors__")

    @property
    def number(self) -> str:
        """The number of the test: what its `@number` says."""
        return str(getattr(getattr(self, self._testMethodName), "__number__", ""))

    @property
    def points(self) -> float:
        """The points that this test is worth: what its `@weight` says."""
        return float(getattr(getattr(self, self._testMethodName), "__weight__", 0))


class ReasonsResult(unittest.TestResult):
    """Notes in the grading why each test lost points."""

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        if isinstance(test, PartTest):
            test.grading.reasons.setdefault(test.number, "")

    def addFailure(self, test: unittest.TestCase, err: ErrorInfo) -> None:
        super().addFailure(test, err)
        if isinstance(test, PartTest) and isinstance(err[1], PointsLost):
            test.grading.reasons[test.number] = err[1].reason


def numbers(values: Iterable[Any], at_most: int = 6) -> str:
    """The first few of `values`, for a person."""
    flat = np.asarray(values).reshape(-1)
    return "[" + ", ".join(f"{v:.4g}" for v in flat[:at_most]) + (", …]" if flat.size > at_most else "]")
