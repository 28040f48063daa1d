"""What each homework's program does: run parts on the student's functions, write their files, say what came of them."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from src.errors import StudentCodeError
from src.files import shown, write_file
from src.grading import record, student_code
from src.grading.homework import Homework, Part, Settings

Explain = Callable[[str, str], str]  # (error, line of the student's code) → a hint, or nothing


class Run(Protocol):
    """What parts run on."""

    remarks: Sequence[str]  # on the files of the part that ran last

    @property
    def questions(self) -> Path:
        """The folder of the student's functions."""

    def files_of(self, part: Part) -> Mapping[str, bytes]:
        """The content of each file that `part` leaves in submit/, by name.

        Raises:
            BaseException: whatever the student's function raises.
        """


@dataclass(frozen=True)
class Outcome:
    """What came of one part: a line of the table at the end."""

    part: str
    seconds: float
    state: str
    files: tuple[str, ...]
    failure: student_code.Failure | None

    @property
    def is_unwritten(self) -> bool:
        """Whether nothing but a block that is not written yet was in the way."""
        return self.failure is not None and self.failure.part is not None and not self.failure.is_begun


def print_replaced(
    homework: Homework, before: record.Record, chosen: Sequence[str], settings: Settings, out: Path
) -> None:
    """Say which results this run replaces that were made with other settings."""
    now = homework.describe(settings)
    there = {number: entry for number, entry in before.parts.items() if number in chosen}
    made_with = {number: homework.describe(entry.made_with) for number, entry in there.items()}
    replaced = [number for number, then in made_with.items() if then != now]
    if replaced:
        then = " or ".join(sorted({made_with[number] for number in replaced}))
        was, them = ("was", "it") if len(replaced) == 1 else ("were", "them")
        print(
            f"note: {', '.join(replaced)} in {shown(out)}/ {was} made with {then}; this run replaces {them}, where it "
            f"succeeds, by what it makes with {now} (--out FOLDER would keep both)"
        )


def run_part(homework: Homework, part: Part, run: Run, settings: Settings, out: Path, explain: Explain) -> Outcome:
    """Run one part, write its files to `out`, and say on stderr what went wrong with it."""
    began = time.perf_counter()
    files: Mapping[str, bytes] = {}
    failure = None
    try:
        files = run.files_of(part)
        state = "done, but see above" if run.remarks else "done"
    except StudentCodeError as error:
        state = "wrong"
        print(f"{part.number}: {error}\n", file=sys.stderr)
    except (Exception, SystemExit) as error:
        if student_code.has_quit_debugger(error):
            sys.exit(f"{part.number}: stopped in the debugger")
        failure = student_code.failure(error, run.questions)
        if failure is None:
            raise
        state = _failure_state(part, failure)
        _print_failure(part, failure, state, explain)
    if files:
        for name, content in files.items():
            write_file(out / name, content)
        record.record_part(out, part.number, record.part_record(homework, part, settings, run.questions, files))
    return Outcome(part.number, time.perf_counter() - began, state, tuple(files), failure)


def _failure_state(part: Part, failure: student_code.Failure) -> str:
    """One or three words for the table."""
    if failure.part is None:
        return "raised an error"
    if failure.part == part.number and failure.is_begun:
        return "wrong"
    state = "not written yet" if failure.part == part.number else f"needs {failure.part} first"
    return f"{state} (bonus)" if part.bonus else state


def _print_failure(part: Part, failure: student_code.Failure, state: str, explain: Explain) -> None:
    if failure.part is None:
        hint = explain(failure.error, failure.line)
        text = failure.text + (f"\nhint: {hint}" if hint else "")
        print(f"{part.number}: your code raised an error:\n{text}\n", file=sys.stderr)
    elif failure.is_begun:
        place = student_code.spelled(failure.place)
        print(f"{part.number}: {place}: {student_code.left_line(failure.part)}\n", file=sys.stderr)
    else:
        print(f"{part.number}: {state}: {failure.place}", file=sys.stderr)


def described_value(value: object) -> str:
    """A value that a student's function returned, in a few words."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
        return f"a tensor of shape {tuple(shape)} and type {dtype}"
    if value is None:
        return "nothing (None)"
    if type(value) is tuple and 0 < len(value) <= 4:
        return f"a tuple of {len(value)} ({'; '.join(described_value(item) for item in value)})"[:300]
    return f"{str(value)[:40]} (of type {type(value).__name__})"


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print what came of each part."""
    print(f"\n{'part':<5} {'seconds':>7}  {'state':<24} written")
    for outcome in outcomes:
        written = ", ".join(outcome.files) or "nothing"
        print(f"{outcome.part:<5} {outcome.seconds:>7.1f}  {outcome.state:<24} {written}")
