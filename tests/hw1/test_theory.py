"""The optional theory: the key's answers hold on any random numbers, and each wrong one gets the hint that names it."""

import re
import subprocess
import sys

import pytest

from src.errors import PointsLost
from src.files import ROOT
from src.grading.intake import Submission
from src.grading.part_test import Grading, PartTest
from src.grading.results import suite
from src.grading.results import test_classes as load_tests
from src.grading.sandbox.client import call_failed
from src.grading.sandbox.messages import Call, Returned
from src.grading.sandbox.worker import WorkerPlugin, run_call
from src.hw1.parts import HOMEWORK, THEORY
from staff.audit.case import load_all
from staff.audit.subject import load_subject
from staff.make_stubs import filled
from tests.answers import SOLUTION, graded

NUMBERS = tuple(part.number for part in THEORY)
CASES = [case for case in load_all(load_subject()) if set(case.blocks) & set(NUMBERS)]
WRONG = {case.name: case for case in CASES if case.kind == "wrong"}
RIGHT = {case.name: case for case in CASES if case.kind == "right"}


class Here:
    """Calls the answers of a folder in this process: no model, no sandbox."""

    model_name = ""
    ended = False

    def __init__(self, folder):
        self.folder = folder
        self.fresh = True

    def start(self, *, watch=False):
        return self

    def release(self, worker):
        pass

    def printed(self):
        return ""

    def run(self, file, function, *arguments, **_):
        call = Call(file, function, arguments, 0, self.fresh, False, None)
        self.fresh = False
        message = run_call(call, WorkerPlugin(), self.folder, None)
        if isinstance(message, Returned):
            return message
        raise call_failed(HOMEWORK, message)


def lost(folder, numbers=NUMBERS, seed=0) -> dict[str, PointsLost]:
    """Test → why it failed."""
    grading = Grading(HOMEWORK, Submission(folder, folder, ()), Here(folder), seed)
    failed = {}
    for test in suite(load_tests(HOMEWORK), grading, numbers):
        assert isinstance(test, PartTest)
        try:
            getattr(test, test._testMethodName)()
        except PointsLost as error:
            failed[test.part] = error
    return failed


def written(folder, blocks: dict[str, str]):
    """A folder with theory.py, in which some blocks are others."""
    folder.mkdir()
    text = (SOLUTION / "theory.py").read_text(encoding="utf-8")
    answers = filled(text, lambda part, right: blocks.get(part, "{right}").replace("{right}", right))
    (folder / "theory.py").write_text(answers, encoding="utf-8")
    return folder


@pytest.mark.parametrize("seed", range(10))
def test_the_key_holds_for_any_seed(seed):
    assert lost(SOLUTION, seed=seed) == {}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_result_gets_the_hint_that_names_it(tmp_path, name):
    case = WRONG[name]
    for seed in range(2):
        failed = lost(written(tmp_path / str(seed), case.blocks), tuple(case.blocks), seed)
        assert {part: list(error.mistakes) for part, error in failed.items()} == dict.fromkeys(case.blocks, case.hint)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_result_in_another_style_holds(tmp_path, name):
    assert lost(written(tmp_path / "questions", RIGHT[name].blocks), tuple(RIGHT[name].blocks)) == {}


def test_every_problem_has_wrong_answers_with_hints():
    assert {part for case in WRONG.values() for part in case.blocks} == set(NUMBERS)
    assert all(case.hint for case in WRONG.values())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("None", "nothing is returned"),
        ("(likelihood,)", "a tuple of 1"),
        ("float('nan')", "NaN or infinity"),
        ("'1.0'", "1.0 (str)"),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path, value, says):
    folder = written(tmp_path / "questions", {"5a": f"likelihood = 0\nreturn {value}"})
    assert says in lost(folder, ("5a",))["5a"].visible_text()


def test_the_input_is_shown_with_the_names_of_the_arguments(tmp_path):
    error = lost(written(tmp_path / "questions", {"3.3": "return 0"}), ("3.3",))["3.3"]
    assert re.fullmatch(r"`parameters_of_network` with k = \[[23], [23], [23], [23]\], m = 2", error.input)
    assert error.got == "0"


def test_the_random_numbers_differ_between_gradings(tmp_path):
    folder = written(tmp_path / "questions", {"2b": "return 0 * pi"})
    assert len({lost(folder, ("2b",), seed)["2b"].input for seed in range(3)}) == 3


def test_a_counterexample_with_gaussian_marginals_is_accepted(tmp_path):
    """x_2 is ±x_1 with noise: each of both is Gaussian alone, but not both together."""
    blocks = {"4a": "mu = torch.where(x_1.abs() > 1.5, x_1, -x_1)\nsigma = torch.ones_like(x_1)"}
    assert lost(written(tmp_path / "questions", blocks), ("4a",)) == {}


def test_the_button_of_an_editor_says_what_checks_the_file():
    process = subprocess.run([sys.executable, ROOT / "questions" / "theory.py"], capture_output=True, text=True)
    assert process.stderr == "grader.py checks this file; try: python grader.py theory\n"


def test_the_grader_selects_theory_by_name(tmp_path):
    results = graded(SOLUTION, tmp_path / "results.json", "theory")
    assert [test["number"] for test in results["tests"]] == [f"{number}.1" for number in NUMBERS]
    assert all(test["max_score"] == 0 and test["status"] == "passed" for test in results["tests"])
    assert results["exit"] == 0


def test_a_wrong_result_costs_nothing_but_the_exit_code(tmp_path):
    folder = written(tmp_path / "questions", {"7a": "return 0.0"})
    (folder / "sample.py").write_text("", encoding="utf-8")
    results = graded(folder, tmp_path / "results.json", "7a")
    assert (results["score"], results["exit"]) == (0, 1)
    assert re.search(r"^7a +none +0 of 1$", results["stdout"], re.M)


def test_unwritten_results_are_one_line(tmp_path):
    folder = written(
        tmp_path / "questions", {number: f"raise NotImplementedError('{number}')" for number in ("1a", "3.3")}
    )
    (folder / "sample.py").write_text("", encoding="utf-8")
    lines = graded(folder, tmp_path / "results.json", "1", "3")["stdout"].splitlines()
    assert lines[0] == "not written yet in theory.py: 1a, 3.3"
    assert lines[2].startswith("part")


def test_the_page_names_each_result_and_how_to_check_it(tmp_path):
    folder, page = written(tmp_path / "questions", {"3.3": "return k.prod()"}), tmp_path / "results.html"
    (folder / "sample.py").write_text("", encoding="utf-8")
    graded(folder, tmp_path / "results.json", "3", "--html", str(page))
    text = page.read_text(encoding="utf-8")
    assert "3.3 Parameters of a Bayesian network" in text
    assert "python grader.py 3.3" in text
