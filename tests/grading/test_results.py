"""What the tests' outcomes become: one record, rendered as results.json and as a table."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from gradescope_utils.autograder_utils.decorators import hide_errors, number, visibility, weight

from src.errors import PointsLost
from src.grading.homework import Artifact, Homework, Part
from src.grading.part_test import PartTest
from src.grading.report import results_json, terminal_lines
from src.grading.results import GRADER_FAILED, UNFINISHED, Recorder, suite

PART = Part("1.1", "Toy", "toy.py", "toy", lambda run: {}, (Artifact("toy.txt", lambda path: None),))
HOMEWORK = Homework(
    "toy", "toy.2023", "main.py", (PART, replace(PART, number="1.2", artifacts=(), bonus=True)), lambda model: (),
    str, lambda settings, root: None, lambda settings: "python main.py",
)  # fmt: skip


class Toy(PartTest):
    part = "1.1"

    @number("1.1.1")
    @weight(2)
    def test_right(self):
        """Passes"""

    @number("1.1.2")
    @weight(3)
    def test_wrong(self):
        """Fails"""
        self.lose("f(1)", "2", "3", reason="the value is wrong")

    @number("1.1.3")
    @weight(2)
    def test_partial(self):
        """Earns a quarter"""
        self.partly_lost = PointsLost("f of 4 values", "4 right", "1 right", "look again")
        self.earn(0.25)

    @number("1.1.4")
    @weight(1)
    @visibility("after_published")
    @hide_errors("This test is hidden.")
    def test_hidden(self):
        """Fails, hidden"""
        raise PointsLost("f(77)", "78", "79", "one more", "the value is wrong")

    @number("1.1.0")
    @weight(1)
    def test_broken(self):
        """Has a mistake itself"""
        raise KeyError("oops")


class Bonus(PartTest):
    part = "1.2"

    @number("1.2.1")
    @weight(5)
    def test_bonus(self):
        """Passes, too"""


@pytest.fixture
def saved():
    return []


@pytest.fixture
def recorder(saved):
    recorder = Recorder(saved.append)
    suite([Bonus, Toy], grading=None).run(recorder)
    return recorder


def test_each_test_is_saved_as_soon_as_it_is_done(recorder, saved):
    assert [len(each.tests) for each in saved] == [0, 1, 2, 3, 4, 5, 6]
    assert {each.output for each in saved} == {UNFINISHED}
    assert recorder.finish(["a note"]).output == "a note"
    assert saved[-1].output == "a note"


def test_tests_run_by_number_and_hidden_ones_last(recorder):
    numbers = [test.number for test in recorder.results("").tests]
    assert numbers == ["1.1.0", "1.1.1", "1.1.2", "1.1.3", "1.2.1", "1.1.4"]


def test_scores_are_all_nothing_or_the_share_that_was_earned(recorder):
    scores = {test.number: (test.score, test.max_score) for test in recorder.results("").tests}
    assert scores == {
        "1.1.0": (0, 1), "1.1.1": (2, 2), "1.1.2": (0, 3), "1.1.3": (0.5, 2), "1.1.4": (0, 1), "1.2.1": (5, 5),
    }  # fmt: skip


def test_a_broken_test_is_not_the_students_fault(recorder):
    broken = recorder.results("").tests[0]
    assert broken.output == GRADER_FAILED
    assert broken.details == "KeyError: 'oops'"


def test_a_hidden_test_shows_reason_and_hint_but_no_number(recorder):
    hidden = recorder.results("").tests[-1]
    assert hidden.output == "This test is hidden.\nthe value is wrong\nhint: one more"
    assert "expected: 78" in hidden.details


def test_random_numbers_follow_from_seed_and_number():
    def drawn(method, seed):
        return Toy(method, SimpleNamespace(seed=seed)).rng.integers(2**60)

    assert drawn("test_right", 1) == drawn("test_right", 1)
    assert len({drawn("test_right", 1), drawn("test_right", 2), drawn("test_wrong", 1)}) == 3


def test_results_json_is_as_gradescope_documents_it(recorder):
    content = json.loads(results_json(recorder.results("done")))
    assert content["score"] == 7.5
    assert content["output"] == "done"
    assert content["tests"][2] == {
        "name": "Fails", "score": 0.0, "max_score": 3, "status": "failed", "number": "1.1.2",
        "output": "input: f(1)\nexpected: 2\ngot: 3",
    }  # fmt: skip
    assert content["tests"][1] == {
        "name": "Passes", "score": 2, "max_score": 2, "status": "passed", "number": "1.1.1",
    }  # fmt: skip
    assert content["tests"][-1]["visibility"] == "after_published"


def test_the_table_counts_the_bonus_apart(recorder):
    lines = list(terminal_lines(HOMEWORK, recorder.results("")))
    assert lines[-1].split() == ["total", "2.5", "/", "9", "+", "5", "/", "5", "extra"]
    assert "1.1.3 Earns a quarter: 0.5 of 2" in lines
    assert "    hint: look again\n" in "\n".join(lines) + "\n"
