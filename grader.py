"""Grade the programming parts: what your functions earn, and what is wrong where they don't.

python grader.py                        grade questions/
python grader.py 6.4                    one part
python grader.py --submission my.zip    grade a zip as Gradescope would, or a folder
"""

# First, since it says what is missing.
import src.installed  # noqa: F401 # isort: skip

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, partial_credit, weight

from src.artifacts import DATASETS, FILES
from src.config import ROOT
from src.dataset import read_pieces
from src.errors import UserError
from src.grading import checks, report
from src.grading.assignment import Part
from src.grading.oracle import TableModel
from src.grading.sandbox import Sandbox
from src.intake import unpack

HIDDEN_TESTS = ROOT / "staff" / "hidden_tests.py"
SENTENCE = "The model assigns a probability to every sentence, and this one should be rather likely."


class Sampling(Part):
    part = "6.3"

    @number("6.3.1")
    @weight(2)
    def test_draws(self):
        """Draws each token from the top k, with the model's probabilities"""
        checks.draws(self, TableModel(12, seed=6301), np.array([[1, 5, 2], [0, 3, 11]]), k=5)

    @number("6.3.2")
    @weight(2)
    def test_feeding(self):
        """Feeds the model the new token alone, with the past that it returned"""
        checks.feeding(
            self, TableModel(10, seed=6302), np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 0, 9, 0]]), length=6, k=5
        )


class Likelihood(Part):
    part = "6.4"

    @number("6.4.1")
    @weight(3)
    def test_table(self):
        """Is the sum of the log-probabilities of all tokens but the first"""
        texts = [np.random.default_rng(6401 + n).integers(0, 12, n) for n in (4, 9, 30)]
        checks.likelihoods(self, TableModel(12, seed=6402), texts)

    @number("6.4.2")
    @weight(1)
    def test_type(self):
        """Is a plain Python float, and the model stays as it was"""
        checks.likelihood_type(self, SENTENCE)


class Classifier(Part):
    part = "6.5"
    seconds = 40.0

    @number("6.5.1")
    @partial_credit(2.5)
    def test_pieces(self, set_score=None):
        """Tells random letters from plays and papers"""
        pieces = {name: read_pieces(ROOT / "data" / f"{name}.pkl")[::12] for name in DATASETS}
        kinds = dict(zip(("random", "plays", "papers"), pieces.values(), strict=True))
        set_score(round(2.5 * checks.decisions(self, kinds), 2))

    @number("6.5.2")
    @weight(1)
    def test_type(self):
        """Returns True or False, and the model stays as it was"""
        checks.decision_type(self, SENTENCE)


class Temperature(Part):
    part = "6.6"

    @number("6.6.1")
    @weight(2.5)
    def test_scaling(self):
        """Scales the next token's distribution, exp(log p / T)"""
        checks.scaling(
            self, TableModel(10, seed=6601), np.array([[1, 2], [8, 3]]), 5, (0.95, 0.5, 2.0), untouched=False
        )

    @number("6.6.2")
    @weight(1)
    def test_no_scaling(self):
        """Changes nothing without a temperature, and never the caller's logits"""
        checks.no_scaling(self, TableModel(10, seed=6602), np.array([[1, 2], [8, 3]]), 5)


class Horizon(Part):
    part = "6.7"

    @number("6.7.1")
    @weight(2.5)
    def test_horizon(self):
        """Scales the joint distribution of two tokens, and sums over the second"""
        checks.looking_ahead(self, TableModel(12, seed=6701), np.array([[2, 7, 1]]), 5, (0.95, 0.6))


class Artifacts(Part):
    part = "submit"

    @number("7.1")
    @weight(0)
    def test_artifacts(self):
        """submit/ is complete and made by the code that was handed in (no points)"""
        checks.artifacts(self)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(FILES)} (default: all)")
    parser.add_argument("--submission", type=Path, metavar="ZIP_OR_DIR", help="what to grade, instead of questions/")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, as Gradescope wants them")
    parser.add_argument("--model", default="gpt2-mini", metavar="NAME", help="the GPT-2 to test with (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="what your functions' random numbers start from (%(default)s)"
    )
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="stop the whole grading after so long")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(FILES):
        parser.error(f"there is no part {min(unknown)}; known are {', '.join(FILES)}")
    if args.seed < 0:
        parser.error(f"--seed {args.seed}: must not be negative")
    return args


def test_classes(parts: list[str]) -> list[type[Part]]:
    """The visible tests and, where they are present, the hidden ones, of these parts (none given: all)."""
    classes = [Sampling, Likelihood, Classifier, Temperature, Horizon, Artifacts]
    if HIDDEN_TESTS.exists():
        classes += importlib.import_module("staff.hidden_tests").PARTS
    return [c for c in classes if not parts or c.part in parts]


def main() -> int:
    args = parse_arguments()
    results = report.Report(args.json, args.time_limit)
    with tempfile.TemporaryDirectory(prefix="submission-") as folder:
        try:
            submission = unpack(args.submission or ROOT, Path(folder))
            with Sandbox(submission.questions, args.model, args.seed) as sandbox:
                Part.sandbox, Part.submission = sandbox, submission
                report.suite(test_classes(args.parts)).run(results)
                notes = [*submission.notes, *(f"note: {weakness}" for weakness in sandbox.weaknesses())]
        except UserError as error:
            results.finish([f"This submission could not be graded. {error}"])
            raise
    if not HIDDEN_TESTS.exists():
        notes.append("note: on Gradescope, hidden tests of the same kind are worth as many points again")
    results.finish(notes)
    print("\n".join([*results.lines(), *notes]))
    return 0 if results.all_points() else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
