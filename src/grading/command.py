"""The command line of grader.py, for any homework."""

import argparse
import math
import secrets
import tempfile
import time
from pathlib import Path

from src.errors import UserError
from src.files import ROOT
from src.grading.homework import Homework
from src.grading.intake import unpack
from src.grading.part_test import Grading, derived_seed
from src.grading.report import terminal_lines, write_results
from src.grading.results import Recorder, has_hidden_tests, suite, test_classes
from src.grading.sandbox.sandbox import Sandbox

SEED_BITS = 40  # so many that student code cannot try all seeds


def grade(homework: Homework, description: str | None) -> int:
    """Grade a submission as the command line says; 0 if it earned all points, else 1.

    Raises:
        UserError: it could not be graded.
    """
    args = _parse_arguments(homework, description)
    recorder = Recorder(lambda results: write_results(args.json, results) if args.json else None)
    seed = secrets.randbits(SEED_BITS) if args.seed is None else args.seed
    deadline = time.monotonic() + args.time_limit if args.time_limit else math.inf
    with tempfile.TemporaryDirectory(prefix="submission-") as folder:
        try:
            model_name = homework.find_model(args.model)
            submission = unpack(homework, args.submission or ROOT, Path(folder))
            of_code = derived_seed(seed, "student code")
            with Sandbox(homework, submission.questions, model_name, of_code) as sandbox:
                classes = [cls for cls in test_classes(homework) if not args.parts or cls.part in args.parts]
                suite(classes, Grading(homework, submission, sandbox, seed, deadline)).run(recorder)
                notes = [*submission.notes, *(f"note: {weakness}" for weakness in sandbox.weaknesses())]
        except UserError as error:
            recorder.finish([f"This submission could not be graded. {error}"])
            raise
    if not has_hidden_tests(homework):
        notes.append("note: on Gradescope, hidden tests of the same kind are worth as many points again")
    notes.append(f"note: the test models and all random numbers follow from a seed; --seed {seed} repeats this run")
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
        "--seed", type=int, help="what test models and random numbers are made from (default: another in every run)"
    )
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="stop the whole grading after so long")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(homework.numbers):
        parser.error(f"there is no part {min(unknown)}; known are {known}")
    if args.seed is not None and args.seed < 0:
        parser.error(f"--seed {args.seed}: must not be negative")
    return args
