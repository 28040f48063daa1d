"""`grader.py` on homework 1: all points for the reference answers, none for the stubs. More answers are in the audit."""

import re
import shutil
import subprocess
import sys

import pytest

from src.files import ROOT
from src.hw1.parts import HOMEWORK
from src.model.config import BUNDLED
from tests.answers import FULL, SOLUTION, graded, points, varied


def test_the_reference_answers_get_all_points(tmp_path):
    results = graded(SOLUTION, tmp_path / "results.json")
    assert points(results) == FULL | {"7.1": 0}, results
    bonus = sum(FULL[part.number] for part in HOMEWORK.parts if part.bonus)
    regular = sum(FULL.values()) - bonus
    assert re.search(rf"^total +{regular:g} / {regular:g}$", results["stdout"], re.M)
    assert re.search(rf"^bonus +{bonus:g} / {bonus:g} +on top of the total$", results["stdout"], re.M)
    assert results["exit"] == 0


def test_the_stubs_get_none_and_each_block_is_named(tmp_path):
    results = graded(ROOT / "questions", tmp_path / "results.json")
    assert set(points(results).values()) == {0}
    assert results["exit"] == 1
    bonus = sum(FULL[part.number] for part in HOMEWORK.parts if part.bonus)
    assert re.search(rf"^bonus +0 / {bonus:g} +on top of the total$", results["stdout"], re.M)
    for part in FULL:
        first = next(test for test in results["tests"] if test["number"] == f"{part}.1")
        assert f"{part}: the block is not written yet: questions/" in first["output"]


def test_a_stubs_line_that_was_left_in_a_block_is_named(tmp_path):
    change = ("return token", 'raise NotImplementedError("6.4")\n        return token')
    results = graded(varied(tmp_path / "mine", "likelihood.py", change), tmp_path / "results.json", "6.4")
    problem = 'your block still has the line raise NotImplementedError("6.4"); delete it'
    visible, _, hidden, _ = (test["output"] for test in results["tests"])
    assert f"\ngot: questions/likelihood.py, line 26: {problem}" in visible
    assert hidden.splitlines()[-1] == f"6.4: {problem}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["6.9"], "there is no part 6.9; known are 6.3, 6.4, 6.5, 6.6, 6.7"),
        (["--submission", "nowhere.zip"], "nowhere.zip: there is no such file or folder"),
        (["--model", "gpt3"], "--model gpt3: there is no such model"),
        (["--json", "/proc/x/results.json"], "cannot be written"),
        (["--html", "/proc/x/results.html"], "/proc/x/results.html: cannot be written"),
        (["--seed", "-1"], "--seed -1: must not be negative"),
    ],
)
def test_arguments_that_cannot_work_are_one_line(arguments, says):
    command = [sys.executable, ROOT / "grader.py", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode != 0
    assert says in process.stderr
    assert "Traceback" not in process.stderr


def test_a_missing_model_is_an_error_and_not_a_silent_zero(tmp_path):
    for name in ("src", "grader.py", "data", "config.yml", "questions", "requirements.txt"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    folder = tmp_path / "checkpoints" / BUNDLED
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "checkpoints" / BUNDLED / "config.yml", folder)
    found = graded(SOLUTION, tmp_path / "results.json", root=tmp_path)
    assert found["exit"] != 0
    assert "is missing" in found["stderr"]
    assert "could not be graded" in found["output"]


def test_hidden_tests_run_last_and_show_a_hint_but_no_number(tmp_path):
    folder = varied(tmp_path / "questions", "likelihood.py", (".sum().item()", ".mean().item()"))
    results = graded(folder, tmp_path / "results.json", "6.4")
    assert [test["number"] for test in results["tests"]] == ["6.4.1", "6.4.2", "6.4.3", "6.4.4"]
    visible, hidden = results["tests"][0]["output"], results["tests"][2]["output"]
    assert "this is the mean" in visible
    assert "this is the mean" in hidden
    assert "expected: -" in visible
    assert not any(character.isdigit() for character in hidden)
    assert "expected: -" in results["stdout"].split("6.4.3")[1]  # at the terminal, for staff, everything is shown


def test_the_page_shows_visible_numbers_and_no_hidden_ones(tmp_path):
    folder, page = (
        varied(tmp_path / "questions", "likelihood.py", (".sum().item()", ".mean().item()")),
        tmp_path / "r.html",
    )
    results = graded(folder, tmp_path / "results.json", "6.4", "--html", str(page))
    assert results["stdout"].splitlines()[-1] == f"wrote {page}: open it in a browser"
    text = page.read_text(encoding="utf-8")
    visible, hidden = results["stdout"].split("6.4.3")
    assert re.search("1 <span[^>]*>of 8 points", text)
    assert "this is the mean" in text
    for shown, place in ((True, visible), (False, hidden)):
        values = re.findall(r"-\d+\.\d+", place)
        assert values
        assert {value in text for value in values} == {shown}
    assert "<script" not in text
    assert len(text.encode()) < 100_000


def test_a_page_says_why_nothing_was_graded(tmp_path):
    (tmp_path / "empty").mkdir()
    results = graded(tmp_path / "empty", tmp_path / "results.json", "--html", str(tmp_path / "r.html"))
    assert results["exit"] != 0
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Not graded" in text
    assert "could not be graded" in text


def test_every_run_has_a_seed_of_its_own_and_names_it(tmp_path):
    seeds = [
        re.search(r"--seed (\d+) repeats", graded(SOLUTION, tmp_path / "r.json", "6.6", seed=seed)["output"])[1]
        for seed in (None, None, 7)
    ]
    assert len(set(seeds)) == 3
    assert seeds[2] == "7"


def test_a_missing_file_costs_its_own_part_alone(tmp_path):
    folder = varied(tmp_path / "questions", "likelihood.py")
    (folder / "likelihood.py").unlink()
    results = graded(folder, tmp_path / "results.json")
    assert points(results) == FULL | {"6.4": 0, "7.1": 0}
    assert "note: questions/likelihood.py is missing" in results["output"]


def test_ignoring_the_temperature_costs_points_where_it_matters(tmp_path):
    old = "logits = temperature_scale(logits, model, new_past, config, temperature, temperature_horizon)"
    folder = varied(tmp_path / "questions", "sample.py", (old, "pass"))
    results = graded(folder, tmp_path / "results.json", "6.3", "6.6", "6.7")
    assert points(results) == {"6.3": 8, "6.6": 3.5, "6.7": 2.5}


@pytest.mark.parametrize(("number", "shown", "not_shown"), [("6.7", "bonus", "total"), ("6.3", "total", "bonus")])
def test_one_part_has_one_line_of_points(tmp_path, number, shown, not_shown):
    lines = graded(ROOT / "questions", tmp_path / "results.json", number)["stdout"].splitlines()
    assert [line.split()[0] for line in lines if line.startswith((shown, not_shown))] == [shown]


def test_parts_may_be_separated_by_commas(tmp_path):
    results = graded(ROOT / "questions", tmp_path / "results.json", "6.3,6.7")
    assert set(points(results)) == {"6.3", "6.7"}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("sample.py", "return logits / temperature", "return logits * 1e38"),
        ("likelihood.py", "return token_log_probs.sum().item()", "return 1e308"),
    ],
)
def test_huge_values_make_no_warning_of_numpys(tmp_path, file, old, new):
    results = graded(varied(tmp_path / "mine", file, (old, new)), tmp_path / "results.json", "6.4", "6.6")
    assert "Warning" not in results["stdout"] + results["stderr"]
