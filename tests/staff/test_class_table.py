"""The store of a class, and the table of its grades."""

import csv
import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from src.hw1.parts import HOMEWORK
from staff.grade_class.__main__ import _due
from staff.grade_class.metadata import Student
from staff.grade_class.store import FAILED, GRADED, REFUSED, Store, StoreError
from staff.grade_class.submissions import Handed
from staff.grade_class.table import Row, differences, grades_csv


def test_the_store_keeps_what_was_put(tmp_path):
    with Store(tmp_path / "store") as store:
        store.put(["a", "b"], {"6.3": "key"}, {"key": (GRADED, [1])})
        assert store.setting("seed", "3") == "3"
    with Store(tmp_path / "store") as store:
        assert store.get("key") == (GRADED, [1])
        assert store.get("other") is None
        assert store.setting("seed", "4") == "3"


def test_the_store_keeps_the_newest_date(tmp_path):
    first, second = datetime(2026, 10, 30, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    with Store(tmp_path / "store") as store:
        assert _due(store, None) is None
        assert [_due(store, given) for given in (first, None, second, None)] == [first, first, second, second]


@pytest.mark.parametrize(
    ("then", "now", "said"), [(3.0, 5.0, ["a: 5 points, 3 before"]), (5.0, 5.0, []), (None, 5.0, [])]
)
def test_a_regrade_says_which_points_are_others(then, now, said):
    handed = Handed("a", (), None, None, "")
    before = Row(handed, GRADED, tests=({"part": "1", "score": then},)) if then is not None else Row(handed, FAILED)
    assert differences([before], [Row(handed, GRADED, tests=({"part": "1", "score": now},))]) == said


def test_the_store_knows_what_counted_before(tmp_path):
    with Store(tmp_path / "store") as store:
        for key in ("first", "second", "third"):
            store.put(["a"], {"6.3": key}, {key: (GRADED, [key])})
        assert store.before("a", "6.3", "third") == ["second"]
        assert store.before("a", "6.3", "second") == ["third"]  # a change was taken back
        assert store.before("b", "6.3", "third") is None


def test_a_store_in_use_is_one_line(tmp_path):
    with Store(tmp_path / "store"), pytest.raises(StoreError, match="store: is used by another run"):
        Store(tmp_path / "store")


def test_a_damaged_store_is_one_line(tmp_path):
    (tmp_path / "store").write_bytes(b"no database, but long enough to look like one" * 50)
    with pytest.raises(StoreError, match=r"store: is damaged.*move it away"):
        Store(tmp_path / "store")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written; make the folder writable"):
        Store(tmp_path / "store")


def test_a_full_disk_is_one_line(tmp_path):
    with Store(tmp_path / "store") as store:
        (pages,) = store._database.execute("PRAGMA page_count").fetchone()
        store._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="the disk is full; make room and run the same command again"):
            store.put(["a"], {}, {"key": (GRADED, "x" * 100_000)})
        assert store.get("key") is None


def test_a_result_is_stored_whole_or_not_at_all(tmp_path):
    with Store(tmp_path / "store") as store:
        with pytest.raises(TypeError):
            store.put(["a"], {"6.3": "key"}, {"key": (GRADED, []), "other": (GRADED, object())})
        assert store.get("key") is None
        store.put(["a"], {"6.3": "key"}, {"key": (GRADED, [])})


# --- the table ---


def row(name: str = "Ada", status: str = GRADED, created: datetime | None = None, **handed) -> Row:
    tests = ({"part": "6.3", "number": "6.3.1", "score": 2.5, "max_score": 4.0},)
    who = (Student(name, "1", "a@b.c"),)
    return Row(
        Handed(**({"id": "s", "students": who, "created_at": created, "path": Path(), "problem": ""} | handed)),
        status,
        tests=tests,
    )


def lines(*rows: Row, due: datetime | None = None) -> list[dict[str, str]]:
    text = grades_csv(HOMEWORK, rows, due).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_a_line_a_student():
    (line,) = lines(row())
    assert line["name"] == "Ada"
    assert (line["6.3"], line["6.4"], line["total"], line["status"]) == ("2.5", "0", "2.5", GRADED)


def test_a_group_has_a_line_each():
    group = (Student("Ada", "1", ""), Student("Bob", "", ""), Student("Cy", "3", ""))
    assert [line["name"] for line in lines(row(students=group))] == ["Ada", "Bob", "Cy"]
    assert [line["name"] for line in lines(row(students=group, replaced_for=group[1:2]))] == ["Ada", "Cy"]


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@x", "\t=x"])
def test_no_cell_is_a_formula(name):
    (line,) = lines(row(name))
    assert line["name"].startswith("'")


def test_late_submissions_are_marked():
    due = datetime(2026, 10, 30, tzinfo=UTC)
    assert lines(row(created=due), due=due)[0]["late"] == ""
    assert lines(row(created=due + timedelta(hours=25)), due=due)[0]["late"] == "1 day, 1:00:00"
    assert lines(row(created=None), due=due)[0]["late"] == ""


def test_what_failed_by_our_fault_has_no_points():
    assert lines(row(status=FAILED))[0]["total"] == ""
    assert lines(row(status=REFUSED))[0]["total"] == "2.5"
