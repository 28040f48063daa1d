"""What a reader finds in submit/: plain values, for the grader to compare with what the code returns, and to draw."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from src.errors import printable
from src.files import ROOT
from src.grading.homework import Artifact
from src.grading.record import RECORD, read_record
from src.grading.safe_pickle import read_float_array, read_plain
from src.grading.submission import artifact_problems
from src.hw1.messages import SubmitContent
from src.hw1.parts import CLASSIFICATION, HOMEWORK, LIKELIHOODS

LINES = 12  # of problems that are shown


def submit_content(root: Path, model: str) -> SubmitContent:
    """The problems of `root`/submit, the values in its files, and which of them `model` made if there is no problem.

    A file with a problem is not read once more: it may be made to take long.
    """
    found = artifact_problems(HOMEWORK, root, ROOT, "questions")
    problems = (printable(str(problem)) for problem in found[:LINES])
    unread = {problem.file for problem in found}

    def content(artifact: Artifact, read: Callable[[Path], Any]) -> Any:
        name = f"submit/{artifact.name}"
        return [] if f"submit/{RECORD}" in unread or name in unread or not (root / name).exists() else read(root / name)

    likelihoods = tuple(np.array(content(artifact, read_float_array)) for artifact in LIKELIHOODS)
    decisions = np.array(content(CLASSIFICATION, read_plain), np.bool_)
    record = None if found else read_record(root / "submit")
    entries = record.parts.values() if record else ()
    files = {name for entry in entries if entry.made_with.get("model") == model for name in entry.files}
    made_here = tuple(artifact.name for artifact in (*LIKELIHOODS, CLASSIFICATION) if artifact.name in files)
    return SubmitContent(tuple(problems), likelihoods, decisions, made_here)
