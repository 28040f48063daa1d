"""Every exception of this project.

CourseworkError
├── UserError            the user can fix it; commands print its one line, never a traceback
│   ├── ConfigError          config.yml, or a model that does not exist
│   ├── VocabularyError      encoder.json or vocab.bpe
│   ├── CheckpointError      the weights, or a file that cannot be downloaded
│   ├── DataError            a file of data/
│   ├── PickleError          a pickle that is damaged or holds more than plain data
│   ├── OutputError          a file that cannot be written
│   ├── RecordError          run.json
│   ├── StudentCodeError     questions/ lacks a file or a function, or a function returned the wrong kind of value
│   ├── SubmissionError      make_submission found a file that cannot be graded
│   ├── IntakeError          a submission that is refused
│   ├── HomeworkError        the declaration of a homework, its tests and its answers do not fit together
│   ├── PlaygroundError      a request that the playground refuses
│   └── SandboxError         the sandbox does not work on this machine
└── GradingError         raised and caught within the grader
    ├── ProtocolError        a malformed message
    ├── CallFailed           a call of student code returned no value
    └── PointsLost           a test that did not earn all of its points

The staff's commands add a few of their own to this tree.
"""

import sys
from collections.abc import Callable
from typing import Any


class CourseworkError(Exception):
    """The root of the tree above."""


class UserError(CourseworkError):
    """Something that the user can fix: one line that names the file, the value and the remedy."""


class ConfigError(UserError):
    """A config.yml that cannot be used, or a model that does not exist."""


class VocabularyError(UserError):
    """A vocabulary file that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or made for another model."""


class DataError(UserError):
    """A data file that is missing or malformed."""


class PickleError(UserError):
    """A pickle that is missing, damaged, or holds anything but plain data."""


class OutputError(UserError):
    """A file that cannot be written."""


class RecordError(UserError):
    """A run.json that is damaged."""


class StudentCodeError(UserError):
    """A questions folder that lacks something, or a function that returned the wrong kind of value."""


class SubmissionError(UserError):
    """Why a submission is not packed: a line for each file that cannot be graded."""


class IntakeError(UserError):
    """A submission that is refused; the message says why and what to do."""

    def __init__(self, message: str):
        super().__init__(printable(message))  # it quotes file names, which may hold any character


class HomeworkError(UserError):
    """A homework whose declaration, tests, answers and hints do not fit together; names the missing piece."""


class PlaygroundError(UserError):
    """A request that the playground refuses: a text that the model cannot read, or a setting out of range."""


class SandboxError(UserError):
    """The sandbox does not work on this machine, or the grader's own process in it died: not the student's fault."""


class GradingError(CourseworkError):
    """Raised and caught within the grader; never shown as it is."""


class ProtocolError(GradingError):
    """A malformed message."""


class CallFailed(GradingError):
    """A call of a student's function that returned no value.

    Attributes:
        reason: why, in words that never depend on the arguments; safe to show for a hidden test
        details: the student's own traceback or output, or the place of the block; for visible tests only
        part: the number of the part whose block is not written yet, where that is the reason
        timed_out: whether the call had to be stopped
        needs_terminal: whether it waited for somebody at a terminal
        error: the error that it raised, "TypeError: …"
        line: the student's line that raised it
    """

    def __init__(
        self,
        reason: str,
        details: str = "",
        part: str | None = None,
        timed_out: bool = False,
        needs_terminal: bool = False,
        error: str = "",
        line: str = "",
    ):
        super().__init__(reason)
        self.reason = reason
        self.details = details
        self.part = part
        self.timed_out = timed_out
        self.needs_terminal = needs_terminal
        self.error = error
        self.line = line


class PointsLost(GradingError, AssertionError):
    """Why a test did not earn all of its points. An AssertionError, which unittest counts as a failure.

    Attributes:
        input: what the function was called with
        expected: what it should have returned
        got: what it returned
        hint: what may be wrong with the code
        reason: what is wrong with the value, in words that never depend on the arguments
        returned: whether it returned anything at all
        mistakes: the names of the known mistakes that explain it
        chart: expected values and those that came, to be drawn: a `Chart` (see `src/grading/chart.py`) or None
    """

    def __init__(
        self,
        input: str,
        expected: str,
        got: str,
        hint: str = "",
        reason: str = "",
        returned: bool = True,
        mistakes: tuple[str, ...] = (),
        chart: Any = None,
    ):
        super().__init__(got)
        self.input = input
        self.expected = expected
        self.got = got
        self.hint = hint
        self.reason = reason
        self.returned = returned
        self.mistakes = mistakes
        self.chart = chart

    def visible_text(self) -> str:
        """The message of a visible test: everything."""
        lines = {"input": self.input, "expected": self.expected, "got": self.got, "hint": self.hint}
        return "\n".join(f"{name}: {text}" for name, text in lines.items() if text)

    def hidden_text(self) -> str:
        """The message of a hidden test: reason and hint, which say nothing about its numbers."""
        return "\n".join(text for text in (self.reason, self.hint and f"hint: {self.hint}") if text)


def printable(text: str) -> str:
    """The first 5000 characters of `text`; control characters, which could steer a terminal, become "?"."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text[:5000])


def run_command(main: Callable[[], int | str]) -> None:
    """Run `main` and exit with what it returns; a `UserError` and Ctrl-C are one line each, never a traceback."""
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as interrupt:  # those of this project say why
        print(f"\n{str(interrupt) or 'interrupted; what was finished before is complete'}", file=sys.stderr)
        sys.exit(130)
