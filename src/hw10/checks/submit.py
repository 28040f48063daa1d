"""The test of submit/: it has no points, but tells a student whether the upload is complete."""

from gradescope_utils.autograder_utils.decorators import number, weight

from src.errors import IntakeError, printable
from src.grading.results import SUBMIT
from src.grading.sandbox.reader import read_confined
from src.grading.sandbox.sandbox import Sandbox
from src.hw10.checks.base import HW10Test
from src.hw10.messages import AskProblems, SubmitProblems
from src.hw10.reading import LINES


class SubmitTest(HW10Test):
    """submit/ holds what the code in questions/ made."""

    part = SUBMIT

    @number("6.1")
    @weight(0)
    def test_artifacts(self) -> None:
        """submit/ is complete and made by the code that was handed in (no points)"""
        check_artifacts(self)


def check_artifacts(test: HW10Test) -> None:
    """`submit/` is complete, readable, and made by the code that was handed in."""
    grading = test.grading
    assert isinstance(grading.sandbox, Sandbox)  # --debug runs only the tests of a part
    try:
        problems = read_confined(grading.sandbox, grading.submission, AskProblems(), SubmitProblems).lines
    except IntakeError as error:
        problems = (str(error),)
    if problems:
        shown = "\n     ".join(map(printable, problems[: LINES + 1]))
        expected = "every file to be there, and to be made by the code in questions/"
        test.lose("submit/, as make_submission.sh packs it", expected, shown)
