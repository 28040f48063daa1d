"""The fast part of the audit: some submissions of each kind, and whether the audit itself can fail."""

import dataclasses
import json
import os
import random
import re
import shutil
import socket
import sys

import pytest

from src.errors import HomeworkError, UserError
from src.files import ROOT
from staff.audit import channels, faults, fuzz, table
from staff.audit.case import KINDS, CaseError, load, load_all
from staff.audit.grading import GraderRun, grade_case, problems
from staff.audit.run import ordinary_user
from staff.audit.subject import load_subject
from staff.audit.table import Outcome, Row

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox's protections are Linux's")
SUBJECT = load_subject()
CASES = {f"{case.kind}/{case.name}": case for case in load_all(SUBJECT)}
FAST = [name for name, case in CASES.items() if case.fast]


@pytest.fixture(scope="module")
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# --- the cases ---


def test_there_are_enough_cases():
    counts = {kind: sum(case.kind == kind for case in CASES.values()) for kind in KINDS}
    assert counts["right"] >= 15
    assert counts["wrong"] >= 60
    assert counts["hostile"] >= 40


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_case_fits_the_reference_answers(case):
    assert {f"questions/{name}" for name in SUBJECT.homework.question_files} <= case.texts().keys()


def test_files_that_cases_attack_exist():
    """An attack on a file that does not exist fails, whatever the sandbox does."""
    pattern = re.compile(r"\{root\}/(?!\.git)([\w./-]+\w)")
    for name, case in CASES.items():
        for path in pattern.findall("".join([*case.blocks.values(), *case.files.values(), case.build])):
            assert (ROOT / path).exists(), f"{name} attacks {path}"


@pytest.mark.parametrize("name", FAST)
def test_a_case_is_graded_as_declared(name, open_folder, port):
    parts = CASES[name].parts()
    run = grade_case(CASES[name], open_folder / "grading", 0, None, port, *parts)
    assert problems(CASES[name], run, parts) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv to become another user with")
@pytest.mark.parametrize("name", [next(name for name in FAST if name.startswith(kind)) for kind in KINDS])
def test_a_case_is_graded_as_declared_by_an_ordinary_user(name, open_folder, port):
    parts = CASES[name].parts()
    run = grade_case(CASES[name], open_folder / "grading", 0, ordinary_user(0), port, *parts)
    assert problems(CASES[name], run, parts) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("about: x\npoints: {6.9: 0}", "names the part 6.9"),
        ("about: x\npoints: {6.4: 7}", "loses 12% of 6.4"),
        ("about: x\npoints: {6.4: 0}\nhint: no such hint", "there is no hint 'no such hint'"),
        ("points: {6.4: 0}", "no `about`"),
        ("about: x\npoints: {6.4: 0, 6.3: 0}", "exactly one part"),
        ("about: [", "is not YAML"),
    ],
)
def test_a_contradictory_case_is_refused(text, message, tmp_path):
    path = tmp_path / "wrong" / "case.yml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CaseError, match=message):
        load(path, SUBJECT)


@pytest.mark.parametrize(
    "change",
    [{"blocks": {"6.9": "pass"}}, {"replace": {"sample.py": [["no such line", ""]]}}, {"replace": {"x.py": []}}],
)
def test_a_change_of_nothing_is_refused(change):
    with pytest.raises(CaseError):
        dataclasses.replace(CASES["right/reference"], **change).texts()


def test_an_unknown_homework_is_refused():
    with pytest.raises(HomeworkError, match="hw1"):
        load_subject("hw99")


# --- what the audit sees ---


def graded(**changes) -> GraderRun:
    """A grading of the case wrong/mean as it should be, with some changes."""
    wrong, right = {"max_score": 3.0, "status": "failed"}, {"max_score": 1.0, "status": "passed"}
    tests = [
        wrong | {"number": "6.4.1", "score": 0, "output": f"got: -3\nhint: {SUBJECT.hints['mean']}"},
        right | {"number": "6.4.2", "score": 1.0},
    ]
    printed = f"6.4.1 Is the sum: 0 of 3\n    got: -3\n    hint: {SUBJECT.hints['mean']}\n"
    run = GraderRun(SUBJECT, {"score": 1.0, "tests": tests}, printed, "", 1, 1.0)
    return dataclasses.replace(run, **changes)


def seen(run: GraderRun, **declared) -> str:
    return "\n".join(problems(dataclasses.replace(CASES["wrong/mean"], **declared), run, ("6.4",)))


def test_a_grading_as_declared_has_no_problem():
    assert seen(graded()) == ""


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ({"points": {"6.4": [4, 4]}}, "6.4 got 1 points, not 4"),
        ({"points": {"6.4": [2, 4]}}, "6.4 got 1 points, not 2 to 4"),
        ({"hint": ["sign"]}, "gave the hints ['mean'], not ['sign']"),
        ({"hint": []}, "gave the hints ['mean'], not none"),
        ({"says": "no such words"}, "nothing says 'no such words'"),
    ],
)
def test_the_audit_sees_another_result(declared, problem):
    assert problem in seen(graded(), **declared)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"exit_code": 0}, "exit code 0"),
        ({"exit_code": None}, "did not end within"),
        ({"stderr": "Traceback\nKeyError: 1"}, "a traceback: KeyError: 1"),
        ({"left": ["process 7 was left"]}, "process 7 was left"),
        ({"results": {"output": "TAKEN"}}, "it reached what it must not reach"),
        ({"results": {"output": "the grader itself failed here, which is not your fault; please tell the staff"}},
         "the grader itself failed"),
    ],
)  # fmt: skip
def test_the_audit_sees_misbehaviour(change, problem):
    assert problem in seen(graded(**change))


def test_the_audit_sees_a_leaked_answer():
    line = "token_log_probs = log_probs.gather(-1, text[:, 1:, None])"
    assert line in (SUBJECT.solution / "likelihood.py").read_text(encoding="utf-8")
    assert "can be read" in seen(graded(results={"output": f"{line}  # (1, T - 1, 1)"}))


# --- its table ---

ROWS = [
    Row("wrong", "mean", "", [Outcome("root", 0, 2.4, [], {"6.4": 1.0}, ["mean"])]),
    Row("right", "loops", "", [Outcome("user", 1, 9.6, ["6.4 got 1 points, not 8"], {"6.4": 1.0})]),
]


def test_the_matrix_marks_what_is_not_as_declared():
    loops, mean = table.matrix(ROWS, SUBJECT.points).splitlines()[1:]
    assert loops.split() == ["right/loops", "–", "0/1", "1", "10", "!"]
    assert mean.split() == ["wrong/mean", "1/1", "–", "1", "2", "mean"]


def test_the_json_holds_every_grading():
    content = json.loads(table.as_json(ROWS, ["a problem"]))
    assert content["problems"] == ["a problem"]
    assert [case["outcomes"][0]["points"] for case in content["cases"]] == [{"6.4": 1.0}, {"6.4": 1.0}]


def test_the_table_goes_between_its_marks(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- audit -->\nold\n<!-- /audit -->\nafter\n", encoding="utf-8")
    table.rewrite(readme, ROWS)
    text = readme.read_text(encoding="utf-8")
    assert re.fullmatch(r"before\n<!-- audit -->\n(\|.*\|\n)+<!-- /audit -->\nafter\n", text)
    assert "| **all** | **2** | **2** | **1** |" in text


def test_a_readme_without_marks_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("no marks", encoding="utf-8")
    with pytest.raises(UserError, match="marks"):
        table.rewrite(tmp_path / "README.md", ROWS)


# --- faults on the grader's side, and fuzzing ---


@pytest.mark.parametrize("name", ["full-disk", "other-library", "broken-test", "empty-files"])
def test_a_fault_of_the_grader_is_reported(name, open_folder):
    try:
        assert faults.FAULTS[name](SUBJECT, open_folder) == []
    except channels.FaultImpossible as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("target", fuzz.READERS)
def test_kept_inputs_break_no_reader(target):
    assert fuzz.replay(target, SUBJECT) == []


@pytest.mark.parametrize("target", fuzz.READERS)
def test_new_inputs_break_no_reader(target):
    assert fuzz.fuzz(target, SUBJECT, 0, random.Random(5)) >= fuzz.ROUND


def test_an_input_that_breaks_a_reader_is_kept(monkeypatch, tmp_path):
    def breaks(content, subject, folder):
        raise fuzz.ReaderBroken("always")

    monkeypatch.setattr(fuzz, "INPUTS", tmp_path)
    monkeypatch.setattr(fuzz, "READERS", {"pickle": breaks})
    with pytest.raises(fuzz.ReaderBroken):
        fuzz.fuzz("pickle", SUBJECT, 0)
    assert len(fuzz.replay("pickle", SUBJECT)) == 1
