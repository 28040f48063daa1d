"""The pages of a class: statistics of what counts, names or pseudonyms, and a page for each submission."""

import base64
import hashlib
import json
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from src.grading.report import results_json
from src.grading.results import Results
from staff.grade_class.metadata import Student
from staff.grade_class.report import class_page, mistake_lines, names_of, write_pages
from staff.grade_class.report import test_lines as lines_of_tests
from staff.grade_class.submissions import Handed
from tests.grading.test_pages import BONUS, HIDDEN, HOMEWORK, HOSTILE, RIGHT, WRONG, Tags, text_of

NOT_THE_SAME = "the zip of submission_3 by Cyd Charisse is empty"


def row(number, name, tests=(RIGHT, WRONG, HIDDEN, BONUS), status="graded", error="", **options):
    student = Student(name, f"sid-{number}", f"{number}@example.org")
    when = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
    handed = Handed(f"submission_{number}", (student,), when, Path("x"), "", **options)
    results = Results(tuple(tests), 10, "a note")
    record = {
        "results": json.loads(results_json(results)), "tests": json.loads(json.dumps([asdict(test) for test in tests])),
        "charts": [], "notes": ["a note"], "seed": 1, "seconds": number + 0.5, "status": status, "error": error,
        "blocks": {},
    }  # fmt: skip
    return handed, record if status == "graded" else record | {"results": {}, "tests": []}


@pytest.fixture
def rows():
    passed = [
        replace(test, score=test.max_score, details="", reason="", got="", mistakes=()) for test in (WRONG, HIDDEN)
    ]
    return [
        row(1, "Ada Lovelace", (RIGHT, *passed, BONUS)),
        row(2, "Bob Hope"),
        row(3, "Cyd Charisse", status="refused", error=NOT_THE_SAME),
        row(4, "Dee Dee", status="failed", error="three workers died"),
        row(5, "Bob Hope", is_active=False),
        (Handed("submission_6", (), None, None, "there is no such folder"), None),
    ]


def pages(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.html")}


def test_each_submission_has_a_page_that_the_class_links_to(rows, tmp_path):
    assert write_pages(tmp_path, HOMEWORK, rows) == tmp_path / "index.html"
    links = {each["href"] for each in Tags((tmp_path / "index.html").read_text()).named("a")}
    students = {f"students/submission_{number}.html" for number in range(1, 7)}
    assert set(pages(tmp_path)) == students | {"index.html"}
    assert {link for link in links if not link.startswith("#")} == students


def test_a_students_page_says_the_same_as_their_own_page(rows, tmp_path):
    write_pages(tmp_path, HOMEWORK, rows)
    text = text_of(pages(tmp_path)["students/submission_2.html"])
    assert "2 of 6 points" in text
    assert "Handed in on 2026-11-20 at 23:59 UTC." in text
    assert "Hint: one more Input f of 1 Expected 2 Got 3" in text
    assert "hidden numbers" not in text
    assert "78" not in text


def test_who_is_not_graded_reads_why_and_not_that_it_is_zero(rows, tmp_path):
    write_pages(tmp_path, HOMEWORK, rows)
    refused, failed, missing = (text_of(pages(tmp_path)[f"students/submission_{n}.html"]) for n in (3, 4, 6))
    assert NOT_THE_SAME in refused
    assert "not your fault" in failed
    assert "three workers" not in failed
    assert "there is no such folder" in missing
    assert "0 of" not in refused + failed + missing


def test_statistics_are_of_the_submissions_that_count(rows):
    text = text_of(class_page(HOMEWORK, rows))
    assert "9 is the median of 6 points and 5 bonus points" in text  # of 11 and 7
    assert "Submissions 6 Graded 3 Refused 2 Failed 1" in text
    lines = {line.number: line for line in lines_of_tests([rows[0][1], rows[1][1]])}
    assert (lines["1.1.2"].mean, lines["1.1.2"].rate, lines["1.1.1"].rate) == (1.5, 50, 100)


def test_a_mistake_counts_once_for_each_submission(rows):
    (line,) = mistake_lines([rows[0][1], rows[1][1], rows[4][1]])
    assert (line.name, line.count, line.tests, line.hint) == ("off by one", 2, ("1.1.2", "1.1.3"), "one more")


def test_a_regrade_lists_what_has_changed(rows):
    text = text_of(class_page(HOMEWORK, rows, before={"submission_1": 11.0, "submission_2": 9.5}))
    assert "1 of 6 submissions have another total" in text
    assert "Bob Hope 9.5 7 −2.5" in text
    same = text_of(class_page(HOMEWORK, rows, before={"submission_1": 11.0}))
    assert "Every total is the same as before." in same
    assert "Before and after" not in text_of(class_page(HOMEWORK, rows))


def test_anonymous_pages_name_nobody(rows, tmp_path):
    index = write_pages(tmp_path, HOMEWORK, rows, anonymous=True)
    everything = "".join(name + page for name, page in pages(tmp_path).items())
    for secret in ("Ada", "Bob", "Cyd", "Dee", "sid-", "example.org", "submission_", "2026"):
        assert secret not in everything, secret
    students = {path.name for path in tmp_path.glob("students/*")}
    assert len(students) == len(rows)
    assert "is empty" in index.read_text()


def test_pseudonyms_are_the_same_in_every_class_of_theirs(rows):
    names = names_of(rows, anonymous=True)
    assert names_of(rows[1:3], anonymous=True) == {key: names[key] for key in ("submission_2", "submission_3")}
    assert len(set(names.values())) == len(rows)


def test_the_policy_allows_one_script_and_one_style(rows):
    page = class_page(HOMEWORK, rows)
    (policy,) = [meta["content"] for meta in Tags(page).named("meta") if "http-equiv" in meta]
    for tag in ("script", "style"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", page, re.S)[1]
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" in policy
    assert "://" not in page
    assert not [
        name for _, attributes in Tags(page).all for name in attributes if name.startswith("on") or name == "style"
    ]


def test_hostile_names_and_errors_stay_text(rows, tmp_path):
    handed, record = row(7, HOSTILE, status="failed", error=HOSTILE)
    mistaken = row(8, HOSTILE, (replace(WRONG, hint=HOSTILE, mistakes=(HOSTILE,), name=HOSTILE),))
    write_pages(tmp_path, HOMEWORK, [*rows, (handed, record), mistaken])
    for page in pages(tmp_path).values():
        assert len(Tags(page).named("script")) <= 1
        assert not Tags(page).named("img")
        assert not re.search("[\u202e\x1b\x00]", page)


def test_a_class_of_which_nothing_is_graded_has_a_page(rows):
    assert "Nothing is graded yet" in text_of(class_page(HOMEWORK, rows[2:4]))
    assert "Nothing is graded yet" in text_of(class_page(HOMEWORK, []))
