"""What a reader finds in submit/: plain values, for the grader to compare with what the student's functions return."""

from pathlib import Path

import numpy as np

from src.errors import printable
from src.files import ROOT
from src.grading.record import read_record
from src.grading.safe_pickle import read_float_array, read_plain
from src.grading.submission import artifact_problems
from src.hw1.messages import SubmitContent
from src.hw1.parts import CLASSIFICATION, HOMEWORK, LIKELIHOODS

LINES = 12  # of problems that are shown


def submit_content(root: Path, model: str) -> SubmitContent:
    """The problems of `root`/submit; where there is none, the values in the files that `model` made."""
    found = artifact_problems(HOMEWORK, root, ROOT, "questions")
    record = None if found else read_record(root / "submit")
    if record is None:
        problems = (printable(str(problem).replace(f"{root}/", "")) for problem in found[:LINES])
        return SubmitContent(tuple(problems), (), np.zeros(0, np.bool_))
    files = {name for entry in record.parts.values() if entry.made_with.get("model") == model for name in entry.files}
    likelihoods = tuple(read_float_array(root / "submit" / a.name) for a in LIKELIHOODS if a.name in files)
    decisions = read_plain(root / "submit" / CLASSIFICATION.name) if CLASSIFICATION.name in files else []
    return SubmitContent((), likelihoods, np.array(decisions, np.bool_))
