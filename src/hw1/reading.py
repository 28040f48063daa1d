"""What a reader finds in submit/: plain values, for the grader to compare with what the code returns, and to draw."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from src.errors import printable
from src.files import ROOT
from src.grading.homework import Artifact
from src.grading.record import read_record
from src.grading.safe_pickle import read_float_array, read_plain
from src.grading.submission import artifact_problems
from src.hw1.messages import SubmitContent
from src.hw1.parts import CLASSIFICATION, HOMEWORK, LIKELIHOODS

LINES = 12  # of problems that are shown


def submit_content(root: Path, model: str) -> SubmitContent:
    """The problems of `root`/submit, the values in its files, and which of them `model` made if there is no problem."""
    found = artifact_problems(HOMEWORK, root, ROOT, "questions")
    problems = (printable(str(problem).replace(f"{root}/", "")) for problem in found[:LINES])
    likelihoods = (_read(root, artifact, read_float_array) for artifact in LIKELIHOODS)
    decisions = _read(root, CLASSIFICATION, read_plain)
    record = None if found else read_record(root / "submit")
    entries = record.parts.values() if record else ()
    files = {name for entry in entries if entry.made_with.get("model") == model for name in entry.files}
    made_here = tuple(artifact.name for artifact in (*LIKELIHOODS, CLASSIFICATION) if artifact.name in files)
    return SubmitContent(tuple(problems), tuple(map(np.array, likelihoods)), np.array(decisions, np.bool_), made_here)


def _read(root: Path, artifact: Artifact, read: Callable[[Path], Any]) -> Any:
    """What `read` returns for an artifact in submit/; [] where something is wrong with it."""
    path = root / "submit" / artifact.name
    return read(path) if path.is_file() and artifact.problem(path) is None else []
