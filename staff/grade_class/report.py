"""The web pages of a class: one for the staff, and one for each submission.

A row is a submission and the record of its grading, or None where it was not graded. Both are as other parts of class
grading have them; nothing is computed again.
"""

import base64
import hashlib
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from src.files import write_file
from src.grading.chart import AnyChart, Chart, Histogram, Series
from src.grading.homework import Homework
from src.grading.pages import student
from src.grading.pages.rendering import rendered
from src.grading.results import Results, TestResult
from staff.grade_class.submissions import Handed

Record = Mapping[str, Any]
Row = tuple[Handed, Record | None]

TEMPLATES = Path(__file__).parent / "templates"
SLOWEST = 10  # submissions that are listed
OURS = "This submission could not be graded. That is not your fault; the staff will grade it again."
_PSEUDONYM = 7  # characters


@dataclass(frozen=True)
class Line:
    """One submission in the page of the class."""

    name: str
    link: str  # to its own page
    id: str
    parts: tuple[float | None, ...]  # points of each part
    total: float | None
    status: str
    error: str
    seconds: float
    is_active: bool


@dataclass(frozen=True)
class TestLine:
    """One test in the page of the class."""

    number: str
    name: str
    max_score: float
    mean: float
    passed: int
    count: int  # submissions that it graded

    @property
    def rate(self) -> float:
        """The share of submissions that pass it, in percent."""
        return 100 * self.passed / self.count


@dataclass(frozen=True)
class MistakeLine:
    """One known mistake in the page of the class."""

    name: str
    count: int  # submissions in which it was found
    tests: tuple[str, ...]  # numbers
    hint: str


@dataclass(frozen=True)
class Change:
    """A submission that another grading gave another total."""

    line: Line
    before: float

    @property
    def difference(self) -> float:
        """How many points more."""
        return (self.line.total or 0.0) - self.before


def write_pages(
    folder: Path, homework: Homework, rows: Sequence[Row], *, before: Mapping[str, float] | None = None,
    anonymous: bool = False,
) -> Path:  # fmt: skip
    """Write the page of the class, and one for each submission below students/; returns the former's path.

    Args:
        before: the total that a submission had before, by id
        anonymous: whether pseudonyms take the place of names and ids, in texts and in the files' names

    Raises:
        OutputError: a page cannot be written.
    """
    names = names_of(rows, anonymous)
    links = {handed.id: folder / _link(names[handed.id], handed, anonymous) for handed, _ in rows}
    for handed, record in rows:
        page = student_page(homework, handed, record, names[handed.id], anonymous)
        write_file(links[handed.id], page.encode())
    for old in set((folder / "students").glob("*.html")) - set(links.values()):
        old.unlink()  # of before, perhaps with a name
    index = folder / "index.html"
    write_file(index, class_page(homework, rows, before=before, anonymous=anonymous).encode())
    return index


def names_of(rows: Sequence[Row], anonymous: bool) -> dict[str, str]:
    """What each submission is called, by its id: its students' names, or a pseudonym.

    A pseudonym is always the same for the same students. It hides a name from whoever reads it, but not from somebody
    who has a list of the class and computes the pseudonym of each.
    """
    if not anonymous:
        return {
            handed.id: ", ".join(each.name for each in handed.students if each.name) or handed.id for handed, _ in rows
        }
    seen: Counter[str] = Counter()
    names = {}
    for handed, _ in sorted(rows, key=lambda row: row[0].id):
        name = _pseudonym(handed)
        seen[name] += 1
        names[handed.id] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return names


def _pseudonym(handed: Handed) -> str:
    people = sorted(each.email or each.sid or each.name for each in handed.students) or [handed.id]
    digest = hashlib.sha256("\n".join(people).encode("utf-8", "backslashreplace")).digest()
    return f"Student {base64.b32encode(digest).decode()[:_PSEUDONYM]}"


def _link(name: str, handed: Handed, anonymous: bool) -> Path:
    """Where a submission's page is, from the page of the class."""
    return Path("students") / f"{name if anonymous else handed.id}.html"


# --- one submission ---


def student_page(homework: Homework, handed: Handed, record: Record | None, name: str, anonymous: bool = False) -> str:
    """The page of one submission, which may be given to its students."""
    results, remarks = results_of(handed, record), []
    if anonymous:
        results = replace(results, output=_without_names(results.output, handed, name))
    elif handed.created_at is not None:
        remarks = [f"Handed in on {handed.created_at:%Y-%m-%d at %H:%M %Z}."]
    return student.student_page(homework, results, name, remarks)


def results_of(handed: Handed, record: Record | None) -> Results:
    """What a record says, as the grader's own results; without tests where it was not graded."""
    if record is None or record["status"] != "graded":
        return Results((), 0, _why(handed, record) if _status(handed, record) == "refused" else OURS)
    shown = {test["number"]: test for test in record["results"]["tests"]}
    tests = tuple(_test(test, shown.get(test["number"], {})) for test in record["tests"])
    return Results(tests, 0, "\n".join(record["notes"]))


def _test(test: Mapping[str, Any], shown: Mapping[str, Any]) -> TestResult:
    """The result of one test; `shown` is what results.json says of it."""
    known = {field.name: test[field.name] for field in fields(TestResult) if field.name in test}
    known |= {"chart": chart_of(test.get("chart")), "mistakes": tuple(test.get("mistakes", ()))}
    known |= {"output": shown.get("output", ""), "visibility": shown.get("visibility")}
    failed = shown.get("status", "passed") != "passed"
    return TestResult(**{"details": known["output"] if failed else "", **known})


def chart_of(content: Mapping[str, Any] | None) -> AnyChart | None:
    """The chart that a record holds."""
    if not content:
        return None
    if "series" in content:
        series = (Series(each["label"], tuple(each["values"])) for each in content["series"])
        return Histogram(content["title"], content["unit"], tuple(series))
    values = (tuple(content[name]) for name in ("labels", "expected", "got"))
    return Chart(content["title"], content["unit"], *values)


def _status(handed: Handed, record: Record | None) -> str:
    return str(record["status"]) if record else "refused" if handed.problem else "not graded"


def _why(handed: Handed, record: Record | None) -> str:
    return str(record["error"]) if record else handed.problem


# --- the class ---


def class_page(
    homework: Homework, rows: Sequence[Row], *, before: Mapping[str, float] | None = None, anonymous: bool = False
) -> str:
    """The page of the class. Where a student handed in several times, only the one that counts is in the statistics."""
    names = names_of(rows, anonymous)
    lines = [_line(homework, handed, record, names[handed.id], anonymous) for handed, record in rows]
    records = [record for handed, record in rows if record and handed.is_active and record["status"] == "graded"]
    totals = [record["results"]["score"] for record in records]
    max_score, max_bonus = _most(homework, records)
    return rendered(
        "class.html", (TEMPLATES,), script=(TEMPLATES / "class.js").read_text(encoding="utf-8"),
        style=(TEMPLATES / "class.css").read_text(encoding="utf-8"), homework=homework, lines=lines,
        anonymous=anonymous, statuses=Counter(line.status for line in lines), totals=totals,
        median=statistics.median(totals) if totals else 0.0, mean=statistics.fmean(totals) if totals else 0.0,
        max_score=max_score, max_bonus=max_bonus,
        distribution=Histogram("Total points", "", (Series("submissions", tuple(totals)),)),
        tests=test_lines(records), mistakes=mistake_lines(records),
        slowest=sorted((line for line in lines if line.seconds), key=lambda line: -line.seconds)[:SLOWEST],
        failures=sorted((line for line in lines if line.error), key=lambda line: line.status),
        changes=None if before is None else changes(lines, before),
    )  # fmt: skip


def _most(homework: Homework, records: Sequence[Record]) -> tuple[float, float]:
    """The points of all tests, and of those of bonus parts."""
    bonus_parts = [part.number for part in homework.parts if part.bonus]
    worth = {test["number"]: (test["part"], test["max_score"]) for record in records for test in record["tests"]}
    bonus = sum(points for part, points in worth.values() if part in bonus_parts)
    return sum(points for _, points in worth.values()) - bonus, bonus


def _line(homework: Homework, handed: Handed, record: Record | None, name: str, anonymous: bool) -> Line:
    line = Line(
        name, quote(_link(name, handed, anonymous).as_posix()), handed.id, tuple(None for _ in homework.numbers), None,
        _status(handed, record), "", float(record.get("seconds") or 0.0) if record else 0.0, handed.is_active,
    )  # fmt: skip
    if record is None or record["status"] != "graded":
        error = _why(handed, record) or "it was not graded"
        return replace(line, error=_without_names(error, handed, name) if anonymous else error)
    parts: dict[str, float] = {}
    for test in record["tests"]:
        parts[test["part"]] = parts.get(test["part"], 0.0) + test["score"]
    return replace(line, parts=tuple(map(parts.get, homework.numbers)), total=record["results"]["score"])


def _without_names(text: str, handed: Handed, name: str) -> str:
    """`text` with the pseudonym `name` for whatever says whose submission it is."""
    words = [handed.id, *(word for each in handed.students for word in (each.name, each.sid, each.email))]
    for word in sorted((word for word in words if len(word) >= 3), key=len, reverse=True):
        text = text.replace(word, name)
    return text


def test_lines(records: Sequence[Record]) -> list[TestLine]:
    """How the class did in each test, by number."""
    tests: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        for test in record["tests"]:
            tests.setdefault(test["number"], []).append(test)
    return [
        TestLine(
            number, of_number[0]["name"], of_number[0]["max_score"],
            statistics.fmean(test["score"] for test in of_number), sum(map(_passed, of_number)), len(of_number),
        )
        for number, of_number in sorted(tests.items())
    ]  # fmt: skip


def _passed(test: Mapping[str, Any]) -> bool:
    return bool(test["score"] == test["max_score"] and not (test["reason"] or test["got"]))


def mistake_lines(records: Sequence[Record]) -> list[MistakeLine]:
    """The known mistakes by the number of submissions in which they were found, the most frequent first."""
    counts: Counter[str] = Counter()
    tests: dict[str, set[str]] = {}
    hints: dict[str, str] = {}
    for record in records:
        found = [(name, test) for test in record["tests"] for name in test["mistakes"]]
        counts.update({name for name, _ in found})
        for name, test in found:
            tests.setdefault(name, set()).add(test["number"])
            if len(test["mistakes"]) == 1:
                hints.setdefault(name, test["hint"])
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [MistakeLine(name, count, tuple(sorted(tests[name])), hints.get(name, "")) for name, count in ordered]


def changes(lines: Sequence[Line], before: Mapping[str, float]) -> list[Change]:
    """The submissions whose total is another than before, the largest difference first."""
    found = [Change(line, before[line.id]) for line in lines if line.total is not None and line.id in before]
    changed = [change for change in found if change.difference]
    return sorted(changed, key=lambda change: (-abs(change.difference), change.line.name))
