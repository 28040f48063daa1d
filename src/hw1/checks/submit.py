"""The test of submit/: it has no points, but tells a student whether the upload is complete."""

import math
import os
from pathlib import Path

from gradescope_utils.autograder_utils.decorators import number, weight

from src.errors import printable
from src.files import ROOT
from src.grading.record import Record, read_record
from src.grading.results import SUBMIT
from src.grading.safe_pickle import read_float_array, read_plain
from src.grading.submission import artifact_problems
from src.hw1.checks.base import GPT2Test
from src.hw1.dataset import DATASETS, read_pieces, read_snippets
from src.hw1.parts import CLASSIFICATION, LIKELIHOODS

TEXTS, SNIPPETS = 3, 20  # so many of each file are computed again
LINES = 12  # of problems that are shown


class SubmitTest(GPT2Test):
    """submit/ holds what the code in questions/ made."""

    part = SUBMIT

    @number("7.1")
    @weight(0)
    def test_artifacts(self) -> None:
        """submit/ is complete and made by the code that was handed in (no points)"""
        check_artifacts(self)


def check_artifacts(test: GPT2Test) -> None:
    """`submit/` is complete, readable, and made by the code that was handed in."""
    root = test.grading.submission.questions.parent
    problems = list(map(str, artifact_problems(test.grading.homework, root, ROOT, "questions")))
    record = None if problems else read_record(root / "submit")
    if record is not None:
        problems = _differing_values(test, root / "submit", record)
    if problems:
        shown = [printable(problem.replace(f"{root}{os.sep}", "")) for problem in problems[:LINES]]
        expected = "every file to be there, and to be made by the code in questions/"
        test.lose("submit/, as make_submission.sh packs it", expected, "\n     ".join(shown))


def _differing_values(test: GPT2Test, submit: Path, record: Record) -> list[str]:
    """Where `submit` differs from what the student's functions return now, in the parts made with the model here."""
    checks = {LIKELIHOODS[0].name: _differing_likelihoods, CLASSIFICATION.name: _differing_decisions}
    here = [entry for entry in record.parts.values() if entry.made_with.get("model") == test.grading.sandbox.model_name]
    files = [name for entry in here for name in entry.files]
    return [problem for name, check in checks.items() if name in files for problem in check(test, submit)]


def _differing_likelihoods(test: GPT2Test, submit: Path) -> list[str]:
    """Where the first log-likelihoods in `submit` are not what the student's function returns now."""
    problems = []
    for dataset, artifact in zip(DATASETS, LIKELIHOODS, strict=True):
        stated = read_float_array(submit / artifact.name)
        for i, ids in enumerate(test.encode(read_pieces(ROOT / "data" / dataset.file)[:TEXTS])):
            input = f"`log_likelihood` of text {i} of data/{dataset.file}"
            returned = test.call(input, "likelihood.py", "log_likelihood", test.gpt2.reference, ids[None])
            value = returned.number()
            if value is None or not math.isclose(value, stated[i], rel_tol=1e-3, abs_tol=0.05):
                now = returned.description()
                problems.append(f"submit/{artifact.name}: says {stated[i]:.2f} for text {i}, your code returns {now}")
    return problems


def _differing_decisions(test: GPT2Test, submit: Path) -> list[str]:
    """Where the first decisions in `submit` are not what the student's function returns now."""
    problems, stated = [], read_plain(submit / CLASSIFICATION.name)
    for i, ids in enumerate(test.encode(read_snippets(ROOT / "data" / "snippets.pkl")[:SNIPPETS])):
        input = f"`classification` of snippet {i}"
        returned = test.call(input, "classifier.py", "classification", test.gpt2.reference, ids[None])
        if returned.kind != "plain" or returned.value is not stated[i]:
            now = returned.description()
            problems.append(f"submit/{CLASSIFICATION.name}: says {stated[i]} for snippet {i}, your code returns {now}")
    return problems
