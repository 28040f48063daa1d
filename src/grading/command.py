"""The command line of grader.py, for any homework."""

import argparse
import math
import tempfile
import time
from pathlib import Path

from src.errors import UserError
from src.files import ROOT
from src.grading.homework import Homework
from src.grading.intake import unpack
from src.grading.part_test import Grading
from src.grading.report import terminal_lines, write_results
from src.grading.results import Recorder, has_hidden_tests, suite, test_classes
from src.grading.sandbox.sandbox import Sandbox


def grade(homework: Homework, description: str | None) -> int:
    """Grade a submission as the command line says; 0 if it earned all points, else 1.

    Raises:
        UserError: it could not be graded.
    """
    args = _parse_arguments(homework, description)
    recorder = Recorder(lambda results: write_results(args.json, results) if args.json else None)
    deadline = time.monotonic() + args.time_limit if args.time_limit else math.inf
    with tempfile.TemporaryDirectory(prefix="submission-") as folder:
        try:
            model_name = homework.find_model(args.model)
            submission = unpack(homework, args.submission or ROOT, Path(folder))
            with Sandbox(homework, submission.questions, model_name, args.seed) as sandbox:
                classes = [cls for cls in test_classes(homework) if not args.parts or cls.part in args.parts]
                suite(classes, Grading(homework, submission, sandbox, deadline)).run(recorder)
                notes = [*submission.notes, *(f"note: {weakness}" for weakness in sandbox.weaknesses())]
        except UserError as error:
            recorder.finish([f"This submission could not be graded. {error}"])
            raise
    if not has_hidden_tests(homework):
        notes.append("note: on Gradescope, hidden tests of the same kind are worth as many points again")
    results = recorder.finish(notes)
    print("\n".join([*terminal_lines(homework, results), *notes]))
    return 0 if results.has_all_points else 1


def _parse_arguments(homework: Homework, description: str | None) -> argparse.Namespace:
    known = ", ".join(homework.numbers)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {known} (default: all)")
    parser.add_argument("--submission", type=Path, metavar="ZIP_OR_DIR", help="what to grade, instead of questions/")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, as Gradescope wants them")
    parser.add_argument("--model", default="bundled", metavar="NAME", help="the model to test with (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="what your functions' random numbers start from (%(default)s)"
    )
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="stop the whole grading after so long")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(homework.numbers):
        parser.error(f"there is no part {min(unknown)}; known are {known}")
    if args.seed < 0:
        parser.error(f"--seed {args.seed}: must not be negative")
    return args
