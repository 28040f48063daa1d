"""What a reader finds wrong in submit/."""

from pathlib import Path

from src.errors import printable
from src.files import ROOT
from src.grading.submission import artifact_problems
from src.hw10.messages import SubmitProblems
from src.hw10.parts import HOMEWORK

LINES = 12  # of problems that are shown


def submit_problems(root: Path) -> SubmitProblems:
    """The problems of `root`/submit, which the code in `root`/questions must have made."""
    found = artifact_problems(HOMEWORK, root, ROOT, "questions")
    lines = [printable(str(problem)) for problem in found]
    more = (f"… and {len(lines) - LINES} more",) if len(lines) > LINES else ()
    return SubmitProblems((*lines[:LINES], *more))
