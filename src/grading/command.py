"""The command line of grader.py, for any homework."""

import argparse
import contextlib
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from src.errors import HomeworkError, UserError
from src.files import write_file
from src.grading.homework import Homework
from src.grading.part_test import Grading, derived_seed
from src.grading.report import terminal_lines
from src.grading.results import UNFINISHED, Recorder, Results, has_hidden_tests, suite, test_classes
from src.grading.results_file import ResultsFile
from src.grading.sandbox.reader import unpack_confined
from src.grading.sandbox.sandbox import Sandbox
from src.grading.time_budget import TOTAL, TimeBudget

SEED_BITS = 40  # so many that student code cannot try all seeds


def grade(homework: Homework, description: str | None) -> int:
    """Grade a submission as the command line says; 0 if it earned all points, else 1.

    Raises:
        UserError: it could not be graded.
    """
    args = _parse_arguments(homework, description)
    if args.debug:
        return _debug(homework, args)
    if args.html:
        _write_page(homework, args.html, Results((), 0, UNFINISHED))  # shows now whether it can be written
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(ResultsFile(args.json)) if args.json else None
        recorder = Recorder(file.save if file else lambda results: None)
        try:
            if file:
                file.reserve()
            notes = _run_tests(homework, args, recorder)
        except UserError as error:
            failed = recorder.so_far(f"This submission could not be graded. {error}")
            if file:
                file.finish(failed)
            if args.html:
                _write_page(homework, args.html, failed)
            raise
        results = recorder.finish(notes)
        if file:
            file.finish(results)
    print("\n".join([*terminal_lines(homework, results), *notes]))
    if args.html:
        _write_page(homework, args.html, results)
        print(f"wrote {args.html}: open it in a browser")
    if results.has_all_points and not args.parts and not args.submission:
        print(_next_step(results))
    return 0 if results.has_all_points else 1


def _next_step(results: Results) -> str:
    """What to do when all points are earned."""
    incomplete = [f"what {test.number} says above, then " for test in results.tests if not test.passed]
    return f"next: {''.join(incomplete)}bash make_submission.sh"


def _write_page(homework: Homework, path: Path, results: Results) -> None:
    """Write what came of a grading as a web page.

    Raises:
        OutputError: it cannot be written.
    """
    from src.grading.pages.student import student_page  # loads Jinja2, which only pages need

    write_file(path, student_page(homework, results).encode())


def _run_tests(homework: Homework, args: argparse.Namespace, recorder: Recorder) -> list[str]:
    """Run the tests that `args` asks for; returns notes for the student, a line each."""
    seed = _seed(args)
    began = time.monotonic()
    with Interruption() as interruption, tempfile.TemporaryDirectory(prefix="submission-") as folder:
        model_name = homework.find_model(args.model)
        with Sandbox(homework, None, model_name, derived_seed(seed, "student code")) as sandbox:
            submission = unpack_confined(sandbox, args.submission or homework.home, Path(folder))
            sandbox.take(submission.questions)
            limit = args.time_limit or TOTAL * sandbox.slowness
            budget = TimeBudget(began + limit - time.monotonic(), sandbox.slowness)
            grading = Grading(homework, submission, sandbox, seed, budget)
            with interruption.allowed():
                suite(test_classes(homework), grading, args.parts).run(recorder)
            notes = [*submission.notes, *(f"note: {weakness}" for weakness in sandbox.weaknesses())]
    if not has_hidden_tests(homework) and (set(args.parts or homework.numbers) & set(homework.numbers)):
        notes.append("note: on Gradescope, hidden tests of the same kind are worth as many points again")
    notes.append(f"note: the test models and all random numbers follow from a seed; --seed {seed} repeats this run")
    return notes


class Interruption:
    """Lets SIGTERM and SIGHUP end a grading as Ctrl-C does, but not while folders and processes are made or removed."""

    def __init__(self) -> None:
        self._requested = self._allowed = False
        self._signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        self._before: list[Any] = []

    def __enter__(self) -> "Interruption":
        self._before = [signal.signal(number, self._request) for number in self._signals]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(self._signals, self._before, strict=True):
            signal.signal(number, handler)

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Within this block a signal interrupts at once, also one that came before it; a second one does nothing.

        Raises:
            KeyboardInterrupt: a signal came.
        """
        self._allowed = True
        try:
            self._interrupt()
            yield
        finally:
            self._allowed = False

    def _request(self, *_: object) -> None:
        self._requested = True
        self._interrupt()

    def _interrupt(self) -> None:
        if self._requested and self._allowed:
            self._allowed = False
            raise KeyboardInterrupt


def _debug(homework: Homework, args: argparse.Namespace) -> int:
    os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported; a bar would write over the debugger's prompt
    from src.grading.debug import debug  # imports PyTorch, which the grader's own process otherwise never does

    seed = _seed(args)
    return debug(homework, args.submission or homework.home, args.parts, homework.find_model(args.model), seed)


def _seed(args: argparse.Namespace) -> int:
    return secrets.randbits(SEED_BITS) if args.seed is None else args.seed


def _parse_arguments(homework: Homework, description: str | None) -> argparse.Namespace:
    known, files = ", ".join(homework.numbers), ", ".join(homework.all_files)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {known}, or a file: {files} (default: all that have points)"
    )
    parser.add_argument(
        "--debug", action="store_true",
        help="run the visible tests in this process, where breakpoints work; for your own code alone, and no points",
    )  # fmt: skip
    parser.add_argument("--submission", type=Path, metavar="ZIP_OR_DIR", help="what to grade, instead of questions/")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, as Gradescope wants them")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write them there as a page for a browser, with charts"
    )
    parser.add_argument("--model", default="bundled", metavar="NAME", help="the model to test with (%(default)s)")
    parser.add_argument(
        "--seed", type=int, help="what test models and random numbers are made from (default: another in every run)"
    )
    parser.add_argument(
        "--time-limit", type=float, metavar="SECONDS",
        help=f"stop the whole grading after so long (default: {TOTAL:.0f} on two idle cores, more on a slower machine)",
    )  # fmt: skip
    args = parser.parse_args()
    try:
        args.parts = {
            number for names in args.parts for name in names.split(",") for number in homework.numbers_of(name)
        }
    except HomeworkError as error:
        parser.error(f"{error}, and {files}")
    if args.debug and (args.json or args.html or args.time_limit):
        parser.error("--debug gives no points and has no time limit; leave --json, --html and --time-limit out")
    if args.seed is not None and args.seed < 0:
        parser.error(f"--seed {args.seed}: must not be negative")
    return args
