"""Small changes of the reference answers: which there are, and what the audit makes of them."""

import ast
import sys

import pytest

from src.errors import UserError
from staff.audit import mutants, table
from staff.audit.case import load_all
from staff.audit.grading import grade_case
from staff.audit.many import Graders
from staff.audit.mutants import Checked, Mutation, Verdict, load_checked, score
from staff.audit.mutation import Mutant, mutants_of
from staff.audit.subject import load_subject
from staff.audit.table import Outcome, Row

SUBJECT = load_subject()
ALL = {(m.part, m.change): m for path in sorted(SUBJECT.solution.glob("*.py")) for m in mutants_of(path)}

ANSWER = """
def function(x: Tensor, y: Tensor, n: int) -> Tensor:
    # TODO 1.1: x
    ### START CODE HERE ###
    z = x[:, 1:] - y
    return z.sum(dim=-1) / n
    ### END CODE HERE ###
"""


# --- the changes ---


@pytest.mark.parametrize(
    "change",
    [
        "z = x[:, 1:] + y",
        "z = y[:, 1:] - y",
        "z = x[:, :-1] - y",
        "z = x[:, 2:] - y",
        "z = x[:, :] - y",
        "z = x[:, 1:]",
        "return z.mean(dim=-1) / n",
        "return z.sum(dim=0) / n",
        "return z.sum() / n",
        "return z / n",
        "return z.sum(dim=-1) * n",
        "return z.sum(dim=-1) / (1 / n)",
        "return -(z.sum(dim=-1) / n)",
        "(dropped) z = x[:, 1:] - y",
        "(order) return z.sum(dim=-1) / n; z = x[:, 1:] - y",
    ],
)
def test_small_changes_are_generated(change, tmp_path):
    path = tmp_path / "answer.py"
    path.write_text(ANSWER, encoding="utf-8")
    assert change in {mutant.change for mutant in mutants_of(path)}


def test_no_change_is_generated_twice_and_none_changes_nothing():
    for path in (SUBJECT.solution / name for name in SUBJECT.homework.question_files):
        sources = [ast.dump(ast.parse(mutant.source)) for mutant in mutants_of(path)]
        assert len(set(sources)) == len(sources) > 0
        assert ast.dump(ast.parse(path.read_text(encoding="utf-8"))) not in sources


def test_there_are_enough_changes_of_every_part():
    counts = {part: sum(key[0] == part for key in ALL) for part in SUBJECT.homework.numbers}
    assert min(counts.values()) >= 15
    assert len(ALL) >= 300


# --- what was checked about them ---


def test_only_changes_that_exist_are_listed():
    checked = load_checked(SUBJECT)
    assert {*checked.equivalent, *checked.hints} <= ALL.keys()
    assert not checked.equivalent & checked.hints.keys()


def test_an_unknown_hint_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "mutants.yml"
    path.write_text("equivalent: {}\nhints: {6.4: {no such hint: [x]}}", encoding="utf-8")
    monkeypatch.setattr(type(SUBJECT), "mutants", path)
    with pytest.raises(UserError, match="no such hint"):
        load_checked(SUBJECT)


# --- the score ---

NAMES = ("right", "wrong", "fails")
MUTANTS = {name: Mutant("6.4", "likelihood.py", name, "") for name in NAMES}
VERDICTS = {
    "right": Verdict(MUTANTS["right"]),
    "wrong": Verdict(MUTANTS["wrong"], lost=True, by_value=True, hints=frozenset({"mean"})),
    "fails": Verdict(MUTANTS["fails"], lost=True),
}
CHECKED = Checked(frozenset({("6.4", "right")}), {("6.4", "wrong"): frozenset({frozenset({"mean"})})})


def test_a_score_as_checked_has_no_problem():
    section = score(VERDICTS.values(), CHECKED)
    assert section.problems == ()
    assert "3 small changes" in section.text
    assert "2 of 2 lose points (100.0%)" in section.text
    assert "1 of 1 of those that fail by a value get a hint" in section.text


@pytest.mark.parametrize(
    ("verdict", "problem"),
    [
        (Verdict(MUTANTS["wrong"]), "wrong: keeps all points"),
        (Verdict(MUTANTS["right"], lost=True), "right: loses points, but is equivalent"),
        (Verdict(MUTANTS["wrong"], lost=True, by_value=True, hints=frozenset({"sign"})), "gets the hint sign"),
        (Verdict(MUTANTS["wrong"], lost=True, by_value=True), "0 of 1 of those that fail by a value"),
        (Verdict(MUTANTS["fails"], problem="out of memory"), "could not be graded: out of memory"),
    ],
)
def test_a_score_other_than_checked_is_a_problem(verdict, problem):
    verdicts = VERDICTS | {verdict.mutant.change: verdict}
    assert problem in "\n".join(score(verdicts.values(), CHECKED).problems)


def test_a_listed_change_that_does_not_exist_is_a_problem():
    others = [verdict for name, verdict in VERDICTS.items() if name != "right"]
    assert "right is no mutant" in "\n".join(score(others, CHECKED).problems)


def test_the_rate_of_hints_counts_wrong_values_only():
    hinted, without = (Outcome("root", 0, 1.0, [], hints=hints, by_value=True) for hints in (["mean"], []))
    raised = Outcome("root", 0, 1.0, [], by_value=False)
    rows = [Row("wrong", "a", "", [hinted]), Row("wrong", "b", "", [raised]), Row("right", "c", "", [hinted])]
    assert table.hint_rate(rows).problems == ()
    rows.append(Row("wrong", "d", "", [without]))
    assert "only 1 of 2 get a hint" in table.hint_rate(rows).problems


# --- grading them ---


@pytest.fixture(scope="module")
def graders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graders")
    with Graders(SUBJECT, folder) as graders:
        yield graders


linux = pytest.mark.skipif(sys.platform != "linux", reason="processes can fork on Linux only")


@linux
@pytest.mark.parametrize(
    ("change", "lost", "by_value", "hints"),
    [
        ("return token_log_probs.mean().item()", True, True, {"mean"}),
        ("return token_log_probs.item()", True, False, {"several elements as a number"}),
        ("log_probs = torch.log_softmax(logits[:, :], dim=-1)", False, False, set()),
    ],
)
def test_a_change_is_graded(change, lost, by_value, hints, graders, open_folder):
    verdict = mutants.grade(SUBJECT, ALL["6.4", change], open_folder, graders)
    assert (verdict.problem, verdict.lost, verdict.by_value, verdict.hints) == ("", lost, by_value, hints)


@linux
def test_all_changes_are_graded_once(graders, open_folder):
    mutation = Mutation(SUBJECT, only="6.6")
    tasks = mutation.tasks(graders, open_folder)
    assert len(tasks) == sum(key[0] == "6.6" for key in ALL)
    tasks[0]()
    assert len(mutation.verdicts) == 1


@linux
@pytest.mark.parametrize("name", ["mean", "sharpened"])
def test_many_are_graded_as_by_the_command(name, graders, open_folder):
    """The same results, but for the notes, and how long it took."""
    (case,) = (case for case in load_all(SUBJECT) if (case.kind, case.name) == ("wrong", name))
    by_command = grade_case(case, open_folder / "grading", 0, None, 0, *case.parts())
    case.write(open_folder / "submission.zip", {})
    run = graders.grade(open_folder / "submission.zip", seed=0, parts=case.parts())
    assert run.results["tests"] == by_command.results["tests"]
    assert run.exit_code == by_command.exit_code == 1
    assert run.left == by_command.left == []
