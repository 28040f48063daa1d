"""The fast part of the audit: some submissions of each kind, and whether the audit itself can fail."""

import dataclasses
import os
import socket
import sys

import pytest

from src.grading.sandbox import unused_user
from staff.audit import fuzz, house
from staff.audit.__main__ import FIRST_ORDINARY_USER
from staff.audit.case import KINDS, CaseError, load, load_all
from staff.audit.grading import complaints, grade_case

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox's protections are Linux's")
CASES = {f"{case.kind}/{case.name}": case for case in load_all()}
FAST = [name for name, case in CASES.items() if case.fast]


@pytest.fixture(scope="module")
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_there_are_enough_cases():
    counts = {kind: sum(case.kind == kind for case in CASES.values()) for kind in KINDS}
    assert counts["right"] >= 15
    assert counts["wrong"] >= 60
    assert counts["hostile"] >= 40


@pytest.mark.parametrize("name", FAST)
def test_a_case_comes_out_as_it_declares(name, open_folder, port):
    parts = CASES[name].parts()
    grading = grade_case(CASES[name], open_folder / "grading", 0, None, port, *parts)
    assert complaints(CASES[name], grading, parts) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", [next(name for name in FAST if name.startswith(kind)) for kind in KINDS])
def test_a_case_comes_out_as_it_declares_for_an_ordinary_user(name, open_folder, port):
    user = unused_user(FIRST_ORDINARY_USER)
    parts = CASES[name].parts()
    grading = grade_case(CASES[name], open_folder / "grading", 0, user, port, *parts)
    assert complaints(CASES[name], grading, parts) == []


def test_the_audit_sees_wrong_points_wrong_hints_and_leaks(open_folder, port):
    case = dataclasses.replace(CASES["wrong/mean"], points={"6.4": [4, 4]}, hint=["sign"], says="no such words")
    grading = grade_case(case, open_folder / "grading", 0, None, port, "6.4")
    grading.left.append("something was left")
    grading.results["tests"][0]["output"] += "TAKEN"
    found = "\n".join(complaints(case, grading, ("6.4",)))
    for what in (
        "6.4 got 1 points, not 4",
        "gave the hints ['mean'], not ['sign']",
        "nothing says",
        "was left",
        "got hold",
    ):
        assert what in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("about: x\npoints: {6.9: 0}", "names the part 6.9"),
        ("about: x\npoints: {6.4: 7}", "loses 12% of 6.4"),
        ("about: x\npoints: {6.4: 0}\nhint: no such hint", "there is no hint 'no such hint'"),
        ("points: {6.4: 0}", "no `about`"),
        ("about: x\npoints: {6.4: 0, 6.3: 0}", "exactly one part"),
        ("about: [", "is no YAML"),
    ],
)
def test_a_case_that_cannot_be_is_refused(text, says, tmp_path):
    path = tmp_path / "wrong" / "case.yml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CaseError, match=says):
        load(path)


@pytest.mark.parametrize("name", ["full-disk", "other-library", "broken-test", "empty-files"])
def test_a_fault_of_the_house_is_said(name, open_folder):
    try:
        assert house.FAULTS[name](open_folder) == []
    except house.NotHere as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("target", fuzz.READERS)
def test_inputs_that_once_broke_a_reader_do_not_any_more_and_new_ones_do_not_either(target):
    assert fuzz.replay(target) == []
    assert fuzz.fuzz(target, 2) >= fuzz.ROUND
