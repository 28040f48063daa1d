"""Grade many submissions, one after the other, in processes that have loaded everything already.

Each such process runs the same tests as grader.py, with a sandbox of its own for every submission, but keeps one fork
server for all of them: PyTorch is imported once, not once for each submission. What attacks the whole path of a
grading, from the command line on, is graded by grader.py itself; see `grading.py`.
"""

import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from src.errors import CallFailed, CourseworkError, UserError
from src.files import ROOT
from src.grading.homework import Homework
from src.grading.part_test import Grading, derived_seed
from src.grading.report import results_json, terminal_lines
from src.grading.results import ErrorInfo, Recorder, suite, test_classes
from src.grading.sandbox.client import START_SECONDS
from src.grading.sandbox.reader import unpack_confined
from src.grading.sandbox.sandbox import ForkServer, Sandbox
from staff.audit.grading import GraderRun, as_user
from staff.audit.subject import Subject
from staff.declaration import load_homework


class GraderDied(CourseworkError):
    """One of these processes ended, or had to be killed; its submission has no results."""


class Graders:
    """Such processes, started when they are needed. Use it as a context manager; threads may share it."""

    def __init__(self, subject: Subject, folder: Path):
        """`folder` is for their temporary files; every user must be able to reach it."""
        self._subject = subject
        self._folder = folder
        self._idle: dict[int | None, queue.SimpleQueue[_Grader]] = {}  # by the user that they run as
        self._all: list[_Grader] = []

    def __enter__(self) -> "Graders":
        return self

    def __exit__(self, *_: object) -> None:
        for grader in self._all:
            grader.close()

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
        with self._free(user) as grader:
            try:
                reply = grader.ask(order, seconds)
            except GraderDied as error:
                return GraderRun(self._subject, {}, "", str(error), None, time.monotonic() - began)
        return GraderRun(self._subject, **reply, seconds=time.monotonic() - began)

    @contextlib.contextmanager
    def _free(self, user: int | None) -> Iterator["_Grader"]:
        idle = self._idle.setdefault(user, queue.SimpleQueue())
        try:
            grader = idle.get_nowait()
        except queue.Empty:
            grader = _Grader(self._subject, self._folder, user)
            self._all.append(grader)
        yield grader
        if grader.process.poll() is None:
            idle.put(grader)


class _Grader:
    """One process."""

    def __init__(self, subject: Subject, folder: Path, user: int | None):
        scratch = Path(tempfile.mkdtemp(prefix="many-", dir=folder))
        scratch.chmod(0o711)
        if user is not None:
            os.chown(scratch, user, user)
        self._log = scratch.with_suffix(".txt")
        self._start_seconds = START_SECONDS
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*as_user(user), sys.executable, "-B", "-m", __name__, subject.homework.name],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
                env=os.environ | {"TMPDIR": str(scratch), "HOME": str(scratch)},
            )  # fmt: skip

    def ask(self, order: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The reply to an order: some fields of a `GraderRun`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], seconds + self._start_seconds)[0]:
                raise GraderDied(f"it did not end within {seconds:g} s")
            self._start_seconds = 0
            return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]
        except (OSError, ValueError, GraderDied) as error:
            self.close()
            said = self._log.read_text(errors="replace").strip() if self._log.exists() else ""
            raise GraderDied(said or str(error)) from None

    def close(self) -> None:
        """End it, and with it its fork server."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()  # which is how it learns that nothing more comes
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


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


def _grade(
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


def main() -> None:
    """Grade the submissions that standard input names, one a line, with the homework that the command line names."""
    homework = load_homework(sys.argv[1])
    with (
        tempfile.TemporaryDirectory(prefix="fork-server-") as folder,
        ForkServer(homework, homework.find_model("bundled"), Path(folder)) as server,
    ):
        for line in sys.stdin:
            print(json.dumps(_grade(homework, server, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
