"""`grader.py`: all points for the reference answers, none for the stubs. More answers are in the audit."""

from staff.audit.case import FULL
from tests.answers import SOLUTION, graded, points


def test_the_reference_answers_get_all_points_and_the_stubs_none(tmp_path):
    right = graded(SOLUTION, tmp_path / "right.json")
    assert points(right) == FULL | {"7.1": 0}, right
    assert "30 / 30 + 5 / 5 extra" in right["stdout"]
    assert right["exit"] == 0
    stubs = graded(SOLUTION.parent.parent / "questions", tmp_path / "stubs.json")
    assert set(points(stubs).values()) == {0}
    assert stubs["exit"] == 1
    for part in FULL:
        first = next(t for t in stubs["tests"] if t["number"] == f"{part}.1")
        assert f"{part}: the block is not written yet: questions/" in first["output"]
