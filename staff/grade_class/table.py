"""grades.csv and one results.json a submission, from what the store holds."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from src.grading.homework import Homework
from src.grading.report import results_json
from src.grading.results import Results, TestResult
from staff.grade_class.metadata import Student
from staff.grade_class.store import GRADED, REFUSED
from staff.grade_class.submissions import Handed

NOT_YET = "not graded yet"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with these, a spreadsheet program takes a text for a formula


@dataclass(frozen=True)
class Row:
    """One submission and what came of it."""

    handed: Handed
    status: str  # of `store`, or NOT_YET
    error: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    shown_seconds: int = 0  # rounded, as students may see them
    tests: tuple[dict[str, Any], ...] = ()
    before: tuple[dict[str, Any], ...] = ()  # of parts that were graded otherwise once: the results of then
    blocks: Mapping[str, str] = field(default_factory=dict)  # part → what the student wrote

    @property
    def has_points(self) -> bool:
        """Whether it counts: not if it failed by our fault, or was not graded yet."""
        return self.status in (GRADED, REFUSED)

    @property
    def points_before(self) -> float | None:
        """Its points before the last regrade; None if there was none."""
        parts = {test["part"] for test in self.before}
        tests = [test for test in self.tests if test["part"] not in parts] + list(self.before)
        return round(sum(test["score"] for test in tests), 2) if parts else None

    @property
    def record(self) -> dict[str, Any] | None:
        """What pages show of it; None if it was not graded yet."""
        if self.status == NOT_YET:
            return None
        return {
            "status": self.status, "error": self.error, "notes": self.notes, "seconds": self.seconds,
            "tests": self.tests, "results": json.loads(results_file(self)),
        }  # fmt: skip

    def points(self, part: str | None = None) -> float:
        """Its points, or those of one part."""
        return round(sum(test["score"] for test in self.tests if part in (None, test["part"])), 2)


def grades_csv(homework: Homework, rows: Sequence[Row], due: datetime | None) -> bytes:
    """One line a student, sorted by name; one who is in no row has handed nothing in."""
    header = ["name", "sid", "email", "submission", *homework.numbers, "total", "late", "status", "remark"]
    lines = [
        [student.name, student.sid, student.email, row.handed.id, *_points(homework, row), _late(row.handed, due),
         row.status, row.error]
        for row in rows for student in _students(row.handed)
    ]  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_safe(cell) for cell in line] for line in sorted(lines, key=lambda line: [*line[:4]]))
    return text.getvalue().encode("utf-8-sig")  # with a mark, so that Excel knows the encoding


def _students(handed: Handed) -> list[Student]:
    """Those for whom this submission counts; a line without a name where nobody knows."""
    if not handed.students:
        return [Student("", "", "")]
    return [student for student in handed.students if student not in handed.replaced_for]


def _points(homework: Homework, row: Row) -> list[str]:
    if not row.has_points:
        return [""] * (len(homework.numbers) + 1)
    return [*(f"{row.points(number):g}" for number in homework.numbers), f"{row.points():g}"]


def is_late(handed: Handed, due: datetime) -> bool:
    """Whether it came after `due`; not where nobody knows."""
    return handed.created_at is not None and handed.created_at > due


def _late(handed: Handed, due: datetime | None) -> str:
    """By how much it came after `due`, as "1 day, 2:03:04"; empty if it did not, or nobody knows."""
    if due is None or handed.created_at is None or not is_late(handed, due):
        return ""
    return str(handed.created_at - due).partition(".")[0]


def _safe(cell: str) -> str:
    """A cell that no spreadsheet program takes for a formula, on one line."""
    text = " ".join(cell.split())
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def results_file(row: Row) -> bytes:
    """The results.json that grader.py would write for a submission."""
    tests = tuple(TestResult(**test) for test in row.tests)
    output = row.error and f"This submission could not be graded. {row.error}"
    return results_json(Results(tests, row.shown_seconds, "\n".join([*filter(None, [output]), *row.notes])))


def differences(before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """Which submissions have other points than before, a line each."""
    then = {row.handed.id: row.points() for row in before if row.has_points}
    changed = [row for row in after if row.has_points and then.get(row.handed.id, row.points()) != row.points()]
    return [f"{row.handed.id}: {row.points():g} points, {then[row.handed.id]:g} before" for row in changed]


def summary(rows: Iterable[Row]) -> str:
    """How many submissions have which status, in one line."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
