"""How long a grading of homework 1 can take, whatever the code does: added up over all tests, on a clock that is made up."""

import time

import numpy as np
import pytest

from src.errors import CallFailed
from src.grading import results
from src.grading.intake import Submission
from src.grading.part_test import OUT_OF_TIME, Grading
from src.grading.results import Recorder, suite
from src.grading.sandbox.messages import Returned
from src.grading.time_budget import PART_SHARE, TOTAL, TimeBudget, slowness
from src.hw1.messages import Encode, Encoded, LogitsAnswer
from src.hw1.parts import HOMEWORK
from src.model.config import BUNDLED

SHORT = 0.2  # seconds that right code takes for a call


@pytest.fixture
def clock(monkeypatch):
    """The seconds that have passed; they pass only when student code runs."""
    passed = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    return passed


class FakeSandbox:
    """Its workers run nothing: `behave(file, seconds)` is how long a call takes, None if it never ends."""

    model_name, ended = BUNDLED, False

    def __init__(self, clock, behave):
        self.clock, self.behave = clock, behave

    def start(self, watch):
        return self

    def release(self, worker):
        pass

    def run(self, file, function, *arguments, seconds, **options):
        takes = self.behave(file, seconds)
        self.clock[0] += seconds if takes is None else min(seconds, takes)
        if takes is None:
            raise CallFailed("your code took too long and was stopped", timed_out=True)
        return Returned("plain", "float", 0.5, False, False, ())

    def printed(self):
        return ""

    def ask(self, question, expected):
        if isinstance(question, Encode):
            return Encoded(tuple(np.arange(60) for _ in question.texts))
        return LogitsAnswer(np.zeros((*question.ids.shape, 50), np.float32))


def graded(clock, tmp_path, behave, **budget):
    """(seconds, the details of each test by number) of a grading."""
    submission = Submission(tmp_path / "questions", tmp_path / "submit", ())
    grading = Grading(HOMEWORK, submission, FakeSandbox(clock, behave), 0, TimeBudget(**budget))
    recorder, began = Recorder(lambda results: None), clock[0]
    suite(results.test_classes(HOMEWORK), grading).run(recorder)
    return clock[0] - began, {test.number: test.details for test in recorder.finish([]).tests}


BEHAVIOURS = {
    "loops": lambda file, seconds: None,
    "sleeps just under each limit": lambda file, seconds: 0.95 * seconds,
    "sleeps or loops": lambda file, seconds: None if file == "sample.py" else 0.95 * seconds,
    "loops or sleeps": lambda file, seconds: 0.95 * seconds if file == "sample.py" else None,
    "sleeps four seconds": lambda file, seconds: 4.0,
}


@pytest.mark.parametrize("behave", BEHAVIOURS.values(), ids=BEHAVIOURS)
def test_no_code_makes_a_grading_long(behave, clock, tmp_path):
    seconds, _ = graded(clock, tmp_path, behave, limit=TOTAL)
    assert 30 < seconds < TOTAL + 1


def test_code_that_loops_everywhere_is_stopped_soon(clock, tmp_path):
    seconds, _ = graded(clock, tmp_path, BEHAVIOURS["loops"])
    assert seconds < 60  # a class waits no longer for it


@pytest.mark.parametrize("slow", ["sample.py", "likelihood.py", "classifier.py"])
@pytest.mark.parametrize("share", [0.95, None])
def test_a_slow_file_leaves_the_others_their_time(slow, share, clock, tmp_path):
    """Each of three files may be slow, in two parts at most: the tests of the others are all run."""

    def behave(file, seconds):
        return SHORT if file != slow else share and share * seconds

    _, details = graded(clock, tmp_path, behave, limit=TOTAL)
    own = {
        number for part in HOMEWORK.parts if part.file == slow for number in details if number.startswith(part.number)
    }
    stopped = {number for number, text in details.items() if OUT_OF_TIME in text or "took too long" in text}
    assert stopped - own - {"7.1"} <= set()


def test_only_code_that_took_too_long_is_told_the_limit(clock, tmp_path):
    _, details = graded(clock, tmp_path, BEHAVIOURS["loops"])
    assert "\nexpected: `log_likelihood` to return a value within " in details["6.4.1"]


def test_a_part_takes_no_more_than_its_share(clock, tmp_path):
    seconds, _ = graded(
        clock, tmp_path, lambda file, seconds: 0.95 * seconds if file == "likelihood.py" else SHORT, limit=TOTAL
    )
    assert seconds < PART_SHARE * TOTAL + 30 * SHORT


def test_a_slow_machine_gets_more_time(clock):
    assert slowness(2.0) == 1
    assert slowness(8.0) == 2
    assert slowness(1000.0) == 4
    assert TimeBudget(1000, slowness(8.0)).allowed("a part", 20) == 40
