"""`grader.py --debug`: the visible tests in this process, on one's own code, so that a debugger stops in it.

Nothing is confined, limited or graded. `ThisProcess` takes the place of the sandbox: the tests call the same functions
with the same values and the same random numbers.
"""

import importlib
import textwrap
import unittest
from collections.abc import Collection
from pathlib import Path
from typing import Any

from src.errors import IntakeError, ProtocolError
from src.files import shown
from src.grading.homework import Homework
from src.grading.import_guard import forbid_in_student_code
from src.grading.intake import Submission
from src.grading.part_test import ErrorInfo, Grading, PartTest, derived_seed
from src.grading.results import describe, suite, test_classes
from src.grading.sandbox import worker
from src.grading.sandbox.client import Answerer, call_failed
from src.grading.sandbox.messages import BREAKPOINT, Argument, Call, Reference, Returned
from src.grading.sandbox.protocol import M, Message, receive, send

NOTICE = "debug: your code runs in this process, without the sandbox and without time limits; no points are given"


def debug(homework: Homework, folder: Path, parts: Collection[str], model_name: str, seed: int) -> int:
    """Run the visible tests of `parts` (none means all) on the code in `folder`; 0 if all of them pass, else 1.

    Raises:
        IntakeError: it is no folder.
    """
    if not folder.is_dir():
        raise IntakeError(f"--debug --submission {folder}: name a folder of your own code, which gets all your rights")
    questions = folder / "questions" if (folder / "questions").is_dir() else folder
    print(NOTICE, flush=True)
    forbid_in_student_code(homework.closed_packages)
    if folder != homework.home:
        print(f"debug: the code in {shown(folder)} gets all of your rights; run only your own", flush=True)
    runner = ThisProcess(homework, model_name, questions, derived_seed(seed, "student code"))
    grading = Grading(homework, Submission(questions, folder / "submit", ()), runner, seed)
    tests = [test for test in suite(test_classes(homework), grading) if isinstance(test, PartTest)]
    wanted = [test for test in tests if test.part in (parts or homework.numbers) and not test.is_hidden]
    result = _Announcer()
    unittest.TestSuite(wanted).run(result)
    print(f"debug: {result.passed} of {len(wanted)} tests pass; --seed {seed} repeats this run")
    return 0 if result.passed == len(wanted) else 1


class ThisProcess:
    """Calls student code in this process, and has what tests use of a `Sandbox`."""

    def __init__(self, homework: Homework, model_name: str, questions: Path, seed: int):
        self.homework = homework
        self.model_name = model_name
        self.questions = questions
        self.seed = seed
        self._worker_module = importlib.import_module(f"{homework.package}.worker")
        self._reference = self._worker_module.load(model_name)

    def start(self, watch: bool = False) -> "LocalWorker":
        """A worker with a model of its own: student code may change it, with `watch` or without."""
        return LocalWorker(self, self._worker_module.load(self.model_name))

    def release(self, worker: "LocalWorker") -> None:
        """Nothing is left of it."""

    def ask(self, question: Message, expected: type[M]) -> M:
        """What this project's own code answers about the model."""
        answer = self._reference.answer(question)
        assert isinstance(answer, expected)
        return answer

    def prepare(self, question: Message) -> None:
        """Nothing: one submission is graded here."""


class LocalWorker:
    """Calls student code in this process, and has what tests use of a `WorkerClient`."""

    ended = False

    def __init__(self, runner: ThisProcess, plugin: Any):
        self._runner = runner
        self._plugin = plugin
        self._channel = _Loopback()
        self._calls = 0

    def run(
        self, file: str, function: str, *arguments: Argument, seconds: float, answerer: Answerer | None = None,
        stand_in: Reference | None = None, watch: bool = False, through: Reference | None = None,
    ) -> Returned:  # fmt: skip
        """Call a student's function; see `WorkerClient.run`. It may take more than `seconds`.

        Raises:
            CallFailed: it raised something.
            KeyboardInterrupt: whoever debugs it has quit the debugger.
        """
        is_first = self._calls == 0
        call = Call(
            file, function, arguments, seed=self._runner.seed + self._calls, fresh=is_first, watch=watch,
            stand_in=stand_in, through=through,
        )  # fmt: skip
        self._calls += 1
        self._channel.answerer = answerer
        questions = self._runner.questions
        try:
            return worker.returned(call, self._plugin, questions, self._channel)
        except (Exception, SystemExit) as error:
            if worker.missing_terminal(error) == BREAKPOINT:
                raise KeyboardInterrupt("stopped in the debugger") from None
            raise call_failed(self._runner.homework, worker.raised(error, questions, all_frames=True)) from None

    def printed(self) -> str:
        """Nothing: it is on the terminal already."""
        return ""


class _Buffer:
    """One end of a channel within a process: what is sent goes to `outbox`, what is read comes from `inbox`."""

    def __init__(self, inbox: bytearray, outbox: bytearray):
        self._inbox = inbox
        self._outbox = outbox

    def sendall(self, data: bytes, /) -> None:
        self._outbox += data

    def recv_into(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._inbox))
        buffer[:count] = self._inbox[:count]
        del self._inbox[:count]
        return count

    def settimeout(self, value: float | None, /) -> None:
        """Nothing here waits."""


class _Loopback(_Buffer):
    """A worker's end of a channel whose other end is in the same thread: reading from it has the answerer answer."""

    def __init__(self) -> None:
        super().__init__(bytearray(), bytearray())
        self._far_end = _Buffer(self._outbox, self._inbox)
        self.answerer: Answerer | None = None

    def recv_into(self, buffer: memoryview, /) -> int:
        if not self._inbox:
            if self.answerer is None:
                raise ProtocolError("nobody answers")
            send(self._far_end, self.answerer.answer(receive(self._far_end, self.answerer.question)))
        return super().recv_into(buffer)


class _Announcer(unittest.TestResult):
    """Prints what comes of each test. It keeps the cursor at the beginning of a line, for the debugger."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        assert isinstance(test, PartTest)
        print(f"\n{test.number} {test.shortDescription()}", flush=True)

    def addFailure(self, test: unittest.TestCase, err: ErrorInfo) -> None:
        super().addFailure(test, err)
        self._say(describe(err[1]))

    def addError(self, test: unittest.TestCase, err: ErrorInfo) -> None:
        super().addError(test, err)
        self._say(describe(err[1]))

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        lost = getattr(test, "partly_lost", None)
        self.passed += lost is None
        self._say("passed" if lost is None else describe(lost))

    def _say(self, text: str) -> None:
        print(textwrap.indent(text, "    "), flush=True)
