"""The test of submit/: it has no points, but tells a student whether the upload is complete."""

import math

from gradescope_utils.autograder_utils.decorators import number, weight

from src.errors import IntakeError, printable
from src.files import ROOT
from src.grading.chart import Histogram, Series
from src.grading.results import SUBMIT
from src.grading.sandbox.reader import read_confined
from src.grading.sandbox.sandbox import Sandbox
from src.hw1.checks.base import GPT2Test
from src.hw1.dataset import DATASETS, read_pieces, read_snippets
from src.hw1.messages import ReadSubmit, SubmitContent
from src.hw1.parts import CLASSIFICATION, LIKELIHOODS
from src.hw1.reading import LINES

TEXTS, SNIPPETS = 3, 20  # so many of each file are computed again


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
    grading, chart = test.grading, None
    assert isinstance(grading.sandbox, Sandbox)  # --debug runs only the tests of a part
    try:
        question = ReadSubmit(grading.sandbox.model_name)
        content = read_confined(grading.sandbox, grading.submission, question, SubmitContent)
        chart = _histogram(content)
        problems = content.problems or (*_differing_likelihoods(test, content), *_differing_decisions(test, content))
    except IntakeError as error:
        problems = (str(error),)
    if problems:
        shown = "\n     ".join(map(printable, problems[:LINES]))
        expected = "every file to be there, and to be made by the code in questions/"
        test.lose("submit/, as make_submission.sh packs it", expected, shown, chart=chart)
    test.chart = chart


def _histogram(content: SubmitContent) -> Histogram | None:
    """The log-likelihoods in submit/, as histograms.png shows them."""
    pairs = zip(DATASETS, content.likelihoods, strict=False)
    series = [Series(dataset.label, tuple(values.tolist())) for dataset, values in pairs if values.size]
    return Histogram("The log-likelihoods in your submit/", "nats", tuple(series)) if series else None


def _differing_likelihoods(test: GPT2Test, content: SubmitContent) -> list[str]:
    """Where the first log-likelihoods in submit/ are not what the student's function returns now."""
    problems = []
    for dataset, artifact, stated in zip(DATASETS, LIKELIHOODS, content.likelihoods, strict=False):
        if artifact.name not in content.made_here:
            continue
        for i, ids in enumerate(test.encode(read_pieces(ROOT / "data" / dataset.file)[:TEXTS])):
            input = f"`log_likelihood` of text {i} of data/{dataset.file}"
            returned = test.call(input, "likelihood.py", "log_likelihood", test.gpt2.reference, ids[None])
            value = returned.number()
            if value is None or not math.isclose(value, stated[i], rel_tol=1e-3, abs_tol=0.05):
                now = returned.description()
                problems.append(f"submit/{artifact.name}: says {stated[i]:.2f} for text {i}, your code returns {now}")
    return problems


def _differing_decisions(test: GPT2Test, content: SubmitContent) -> list[str]:
    """Where the first decisions in submit/ are not what the student's function returns now."""
    problems = []
    stated = content.decisions[:SNIPPETS].tolist() if CLASSIFICATION.name in content.made_here else []
    for i, ids in enumerate(test.encode(read_snippets(ROOT / "data" / "snippets.pkl")[: len(stated)])):
        input = f"`classification` of snippet {i}"
        returned = test.call(input, "classifier.py", "classification", test.gpt2.reference, ids[None])
        if returned.kind != "plain" or returned.value is not stated[i]:
            now = returned.description()
            problems.append(f"submit/{CLASSIFICATION.name}: says {stated[i]} for snippet {i}, your code returns {now}")
    return problems
