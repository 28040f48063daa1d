"""The student's functions in the playground: unwritten, broken, slow, and edited meanwhile."""

import shutil
import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from src.files import ROOT
from src.hw1.parts import HOMEWORK
from src.playground.mind import Mind, load
from src.playground.numbers import Setting
from src.playground.problem import Problem
from src.playground.yours import Likelihood, Yours
from tests.answers import SOLUTION, varied

SETTING = Setting(0.8, 40)
RETURN = "return token_log_probs.sum().item()"


@pytest.fixture(scope="module")
def mind() -> Mind:
    return load("bundled")


@pytest.fixture
def ids(mind):
    return mind.ids_of("O, my lord")


def likelihood(mind, ids, yours: Yours) -> Likelihood | Problem:
    return yours.log_likelihood(mind, ids, mind.read(ids).total)


def test_a_block_that_is_not_written_says_so(mind, ids):
    stubs = Yours(ROOT / "questions")
    number = {part.function: part.number for part in HOMEWORK.parts}
    problem = likelihood(mind, ids, stubs)
    assert (problem.kind, problem.text) == ("unwritten", f"{number['log_likelihood']} is not written yet")
    assert "likelihood.py:" in problem.details
    for horizon, text in ((1, "6.6 is not written yet"), (2, "6.7 is not written yet")):
        assert stubs.scaled(mind, ids, SETTING, horizon).text == text
    assert stubs.draw(mind, ids, Setting(1.0, 40), 1, 0).text == "6.3 is not written yet"


def test_a_block_that_is_begun_says_which_line_to_delete(mind, ids, tmp_path):
    folder = varied(tmp_path / "q", "likelihood.py", (RETURN, f'raise NotImplementedError("6.4")\n        {RETURN}'))
    assert "delete it" in likelihood(mind, ids, Yours(folder)).text


def test_an_error_gives_the_students_traceback(mind, ids, tmp_path):
    folder = varied(tmp_path / "q", "likelihood.py", (RETURN, "return nothing"))
    problem = likelihood(mind, ids, Yours(folder))
    assert problem.kind == "error"
    assert "NameError: name 'nothing' is not defined" in problem.text
    assert "return nothing" in problem.details
    assert "src/playground" not in problem.details


def test_an_error_of_syntax_is_told(mind, ids, tmp_path):
    folder = varied(tmp_path / "q", "likelihood.py", (RETURN, "return ("))
    assert "SyntaxError" in likelihood(mind, ids, Yours(folder)).text


@pytest.mark.parametrize(
    ("value", "says"),
    [("return token_log_probs.sum()", "must return a finite Python float"), ("pass", "returned nothing (None)")],
)
def test_a_value_of_another_kind_is_told(mind, ids, tmp_path, value, says):
    problem = likelihood(mind, ids, Yours(varied(tmp_path / "q", "likelihood.py", (RETURN, value))))
    assert problem.kind == "wrong"
    assert says in problem.text


def test_a_wrong_value_differs(mind, ids, tmp_path):
    folder = varied(tmp_path / "q", "likelihood.py", (RETURN, "return token_log_probs.mean().item()"))
    value = likelihood(mind, ids, Yours(folder))
    assert not value.is_same
    assert value.difference == pytest.approx(value.value - mind.read(ids).total)


def test_a_wrong_scale_differs(mind, ids, tmp_path):
    folder = varied(tmp_path / "q", "sample.py", ("return logits / temperature", "return logits * temperature"))
    scaled = Yours(folder).scaled(mind, ids, SETTING, 1)
    assert not scaled.is_same
    assert scaled.difference > 0.01


@pytest.mark.parametrize("returned", ["logits.log()", "logits[:, :5]", "logits.tolist()"])
def test_what_is_no_distribution_is_told(mind, ids, tmp_path, returned):
    folder = varied(tmp_path / "q", "sample.py", ("return logits / temperature", f"return {returned}"))
    assert Yours(folder).scaled(mind, ids, SETTING, 1).kind == "wrong"


def test_code_that_never_ends_is_stopped(mind, ids, tmp_path):
    folder = varied(tmp_path / "q", "likelihood.py", (RETURN, "while True: pass"))
    problem = likelihood(mind, ids, Yours(folder, seconds=0.5))
    assert problem.text.startswith("your code was stopped after 0.5 seconds, at ")
    assert "while True: pass" in problem.details


def test_code_that_ends_in_time_is_not_stopped_later(mind, ids, monkeypatch):
    timers = []
    monkeypatch.setattr(threading, "Timer", lambda _, stop: timers.append(Mock(function=stop)) or timers[-1])
    assert likelihood(mind, ids, Yours(SOLUTION)).is_same
    (timer,) = timers
    timer.cancel.assert_called_once()
    timer.function()  # as if it had run out at the last moment
    for _ in range(1000):
        pass


def test_code_that_changes_what_it_gets_harms_nobody(mind, ids, tmp_path):
    change = "logits.zero_(); return logits"
    folder = varied(tmp_path / "q", "sample.py", ("return logits / temperature", change))
    before = mind.next(ids, SETTING)
    Yours(folder).scaled(mind, ids, SETTING, 1)
    assert mind.next(ids, SETTING) == before


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "StopIteration", "BaseException"])
def test_whatever_is_raised_is_an_error_of_the_code(mind, ids, tmp_path, name):
    folder = varied(tmp_path / "q", "likelihood.py", (RETURN, f"raise {name}(3)"))
    assert f"your code raised {name}" in likelihood(mind, ids, Yours(folder)).text


def test_a_file_that_is_saved_is_read_again(mind, ids, tmp_path):
    folder: Path = tmp_path / "q"
    shutil.copytree(ROOT / "questions", folder, ignore=shutil.ignore_patterns("__pycache__"))
    yours = Yours(folder)
    before = yours.stamp()
    assert likelihood(mind, ids, yours).kind == "unwritten"
    shutil.copy(SOLUTION / "likelihood.py", folder)
    assert yours.stamp() != before
    assert likelihood(mind, ids, yours).is_same


def test_a_missing_file_is_named(mind, ids, tmp_path):
    (tmp_path / "q").mkdir()
    assert "likelihood.py: is missing" in likelihood(mind, ids, Yours(tmp_path / "q")).text
