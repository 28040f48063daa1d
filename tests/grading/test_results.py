"""What the tests' outcomes become: one record, rendered as results.json and as a table."""

import errno
import json
import tempfile
from dataclasses import replace

import pytest
from gradescope_utils.autograder_utils.decorators import hide_errors, number, visibility, weight

from src.errors import PointsLost
from src.grading.chart import Chart
from src.grading.homework import Artifact, Homework, Part
from src.grading.part_test import Grading, Mistake, PartTest
from src.grading.report import results_json, terminal_lines
from src.grading.results import GRADER_FAILED, NO_VALUE, SECONDS_STEP, UNFINISHED, WRONG_VALUE, Recorder, Results, suite
from src.grading.results_file import ROOM, ResultsFile

PART = Part("1.1", "Toy", "toy.py", "toy", lambda run: {}, (Artifact("toy.txt", lambda path: None),))
HOMEWORK = Homework(
    "toy", "toy.2023", "main.py", (PART, replace(PART, number="1.2", artifacts=(), bonus=True)), lambda model: (),
    str, lambda settings, root: None, str, lambda settings: "python main.py",
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
    suite([Bonus, Toy], Grading(HOMEWORK, None, None, seed=0)).run(recorder)
    return recorder


def test_each_visible_test_is_saved_as_soon_as_it_is_done(recorder, saved):
    assert [len(each.tests) for each in saved] == [0, 1, 2, 3, 4, 5]
    assert {each.output for each in saved} == {UNFINISHED}


def test_hidden_tests_appear_at_the_end_alone(recorder, saved):
    assert not [test for each in saved for test in each.tests if "hidden" in test.name]
    assert [test.number for test in recorder.finish(["a note"]).tests if "hidden" in test.name] == ["1.1.4"]
    assert recorder.finish(["a note"]).output == "a note"


def test_the_time_is_that_of_visible_tests_in_steps(recorder):
    assert recorder.finish([]).seconds == SECONDS_STEP


def test_tests_run_by_number_and_hidden_ones_last(recorder):
    numbers = [test.number for test in recorder.finish([]).tests]
    assert numbers == ["1.1.0", "1.1.1", "1.1.2", "1.1.3", "1.2.1", "1.1.4"]


def test_scores_are_all_nothing_or_the_share_that_was_earned(recorder):
    scores = {test.number: (test.score, test.max_score) for test in recorder.finish([]).tests}
    assert scores == {
        "1.1.0": (0, 1), "1.1.1": (2, 2), "1.1.2": (0, 3), "1.1.3": (0.5, 2), "1.1.4": (0, 1), "1.2.1": (5, 5),
    }  # fmt: skip


def test_a_broken_test_is_not_the_students_fault(recorder):
    broken = recorder.finish([]).tests[0]
    assert broken.output == GRADER_FAILED
    assert broken.details == "KeyError: 'oops'"


def test_a_hidden_test_shows_no_hint_of_its_own(recorder):
    hidden = recorder.finish([]).tests[-1]
    assert hidden.output == f"This test is hidden.\n{WRONG_VALUE}"
    assert "hint: one more" in hidden.details
    assert "expected: 78" in hidden.details


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        (PointsLost("f(7)", "8", "9", "one more", "the value is wrong"), "the value is wrong\nhint: one more"),
        (PointsLost("f(7)", "8", "9", "one more", "another reason"), WRONG_VALUE),
        (PointsLost("f(7)", "8", "9", "another hint", "the value is wrong"), WRONG_VALUE),
        (PointsLost("f(7)", "8", "", "", "it crashed", returned=False), NO_VALUE),
    ],
)
def test_a_hidden_test_repeats_what_a_visible_one_said(lost, text):
    class Both(PartTest):
        part = "1.1"

        @number("1.1.1")
        @weight(1)
        def test_visible(self):
            """Fails"""
            self.lose("f(1)", "2", "3", (Mistake("name", "one more"),), "the value is wrong")

        @number("1.1.2")
        @weight(1)
        @hide_errors("This test is hidden.")
        def test_hidden(self):
            """Fails, hidden"""
            raise lost

    recorder = Recorder(lambda results: None)
    suite([Both], Grading(HOMEWORK, None, None, seed=0)).run(recorder)
    assert recorder.finish([]).tests[-1].output == f"This test is hidden.\n{text}"


def test_a_lost_test_keeps_its_fields_mistakes_and_chart():
    chart = Chart("f", "", ("x",), (2.0,), (3.0,))

    class Charts(PartTest):
        part = "1.1"

        @number("1.1.1")
        @weight(1)
        def test_lost(self):
            """Fails"""
            self.chart = Chart("of an earlier step", "", (), (), ())
            self.lose("f(1)", "2", "3", (Mistake("off by one", "one more"),), "the value is wrong", chart)

        @number("1.1.2")
        @weight(1)
        def test_right(self):
            """Passes"""
            self.chart = chart

    recorder = Recorder(lambda results: None)
    suite([Charts], Grading(HOMEWORK, None, None, seed=0)).run(recorder)
    lost, right = recorder.finish([]).tests
    fields = (lost.input, lost.expected, lost.got, lost.hint, lost.reason, lost.mistakes)
    assert fields == ("f(1)", "2", "3", "one more", "the value is wrong", ("off by one",))
    assert lost.chart == right.chart == chart
    assert (right.input, right.mistakes, right.is_hidden) == ("", (), False)


# --- the file ---


def results_of(output: str) -> Results:
    return Results((), 10, output)


def test_the_final_results_need_no_more_room(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    with ResultsFile(path) as file:
        file.reserve()
        file.save(results_of("so far"))

        def full(*args, **options):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(tempfile, "mkstemp", full)
        file.save(results_of("lost"))
        assert json.loads(path.read_text())["output"] == "so far"
        assert [each.stat().st_size for each in tmp_path.glob(".*")] == [ROOM]
        file.finish(results_of("done"))
    assert json.loads(path.read_text())["output"] == "done"
    assert [each.name for each in tmp_path.iterdir()] == ["results.json"]


def test_results_of_an_earlier_grading_are_removed(tmp_path):
    (tmp_path / "results.json").write_text("old")
    with ResultsFile(tmp_path / "results.json"):
        assert list(tmp_path.iterdir()) == []


def test_results_do_not_follow_a_link(tmp_path):
    (tmp_path / "other").write_text("untouched")
    (tmp_path / "results.json").symlink_to(tmp_path / "other")
    with ResultsFile(tmp_path / "results.json") as file:
        file.finish(results_of("done"))
    assert (tmp_path / "other").read_text() == "untouched"


# --- the renderers ---


def test_results_json_is_as_gradescope_documents_it(recorder):
    content = json.loads(results_json(recorder.finish(["done"])))
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
    lines = list(terminal_lines(HOMEWORK, recorder.finish([])))
    assert [line.split()[:4] for line in lines[-2:]] == [["total", "2.5", "/", "9"], ["bonus", "5", "/", "5"]]
    assert "1.1.3 Earns a quarter: 0.5 of 2" in lines
    assert "    hint: look again\n" in "\n".join(lines) + "\n"
