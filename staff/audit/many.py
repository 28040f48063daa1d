"""Grade many submissions, one after the other, in processes that have loaded everything already: see `staff/warm.py`.

Each such process runs the same tests as grader.py, with a sandbox of its own for every submission. What attacks the
whole path of a grading, from the command line on, is graded by grader.py itself; see `grading.py`.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.errors import CallFailed, UserError
from src.grading.homework import Homework
from src.grading.part_test import Grading, derived_seed
from src.grading.report import results_json, terminal_lines
from src.grading.results import ErrorInfo, Recorder, suite, test_classes
from src.grading.sandbox.forking import ForkServer
from src.grading.sandbox.reader import unpack_confined
from src.grading.sandbox.sandbox import Sandbox
from staff import warm
from staff.audit.grading import GraderRun, as_user
from staff.audit.subject import Subject


class Graders(warm.Graders):
    """Such processes for the audit."""

    def __init__(self, subject: Subject, folder: Path):
        """`folder` is for their temporary files; every user must be able to reach it."""
        super().__init__(__name__, subject.homework.name, folder)
        self._subject = subject

    def grade(
        self, submission: Path, *, seed: int, parts: Sequence[str], user: int | None = None, seconds: float = 120,
        first_loss: bool = False,
    ) -> GraderRun:  # fmt: skip
        """Grade `submission` with the next process that is free.

        Args:
            parts: which to grade; none means all
            user: the ordinary user who grades; None for whoever runs this
            seconds: after which the grading is given up
            first_loss: stop at the first test that loses points
        """
        order = {"submission": str(submission), "seed": seed, "parts": parts, "first_loss": first_loss}
        began = time.monotonic()
        try:
            reply = self.ask(order, seconds, tuple(as_user(user)), user)
        except warm.GraderDied as error:
            return GraderRun(self._subject, {}, "", str(error), None, time.monotonic() - began)
        return GraderRun(self._subject, **reply, seconds=time.monotonic() - began)


# --- in that process ---


class _Recorder(Recorder):
    """Also keeps which tests lost points because a call did not return."""

    def __init__(self, first_loss: bool):
        super().__init__(lambda results: None)
        self.failfast = first_loss
        self.raised: list[str] = []

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        if test.partly_lost is not None:
            self._lost(test, test.partly_lost)

    def addFailure(self, test: Any, err: ErrorInfo) -> None:
        super().addFailure(test, err)
        self._lost(test, err[1])

    def _lost(self, test: Any, error: BaseException | None) -> None:
        if _is_of_a_call(error):
            self.raised.append(getattr(test, test._testMethodName).__number__)
        if self.failfast:
            self.stop()


def _is_of_a_call(lost: BaseException | None) -> bool:
    """Whether it was raised because a call did not return."""
    while lost is not None:
        if isinstance(lost, CallFailed):
            return True
        lost = lost.__context__
    return False


def graded(
    homework: Homework, server: ForkServer, submission: str, seed: int, parts: Sequence[str], first_loss: bool
) -> dict[str, Any]:
    """Grade one submission: the fields of a `GraderRun`."""
    recorder = _Recorder(first_loss)
    model_name, error = homework.find_model("bundled"), ""
    before = set(Path(tempfile.gettempdir()).iterdir())
    with tempfile.TemporaryDirectory(prefix="submission-") as folder:
        try:
            with Sandbox(homework, None, model_name, derived_seed(seed, "student code"), server) as sandbox:
                unpacked = unpack_confined(sandbox, Path(submission), Path(folder))
                sandbox.take(unpacked.questions)
                suite(test_classes(homework), Grading(homework, unpacked, sandbox, seed), parts).run(recorder)
                notes = [*unpacked.notes, *(f"note: {weakness}" for weakness in sandbox.weaknesses())]
        except UserError as refused:
            error = f"error: {refused}"
            notes = [f"This submission could not be graded. {refused}"]
    results = recorder.finish(notes)
    left = sorted(path.name for path in set(Path(tempfile.gettempdir()).iterdir()) - before)
    return {
        "results": json.loads(results_json(results)),
        "stdout": "\n".join(terminal_lines(homework, results)),
        "raised": recorder.raised,
        "stderr": error,
        "exit_code": 0 if results.has_all_points and not error else 1,
        "left": [f"{name} was left" for name in left],
    }
