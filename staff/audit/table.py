"""The results of an audit: the matrix, the totals, and the table in staff/README.md."""

import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from staff import marked

TITLES = {
    "right": "right answers, full points",
    "wrong": "wrong answers, their points and their hint",
    "hostile": "hostile submissions, the points that they deserve",
    "fault": "faults on the grader's side",
    "power": "wrong draws, simulated, that must lose points",
    "fuzz": "readers of untrusted input, fuzzed",
}
LEAST_HINTS = 0.9  # of what fails by a value, so many get a hint


@dataclass(frozen=True)
class Outcome:
    """The result of one grading, or of one check."""

    rights: str  # "root" or "user": who graded
    seed: int
    seconds: float
    problems: list[str]  # how it differs from what was declared
    points: dict[str, float] = field(default_factory=dict)  # by part
    hints: list[str] = field(default_factory=list)
    by_value: bool = False  # some test got a wrong value, not an exception


@dataclass
class Row:
    """One line of the matrix: a case, or a check, and the results of its gradings."""

    kind: str
    name: str
    about: str
    outcomes: list[Outcome] = field(default_factory=list)
    note: str = ""

    def as_declared(self, rights: str) -> str:
        """How many of the gradings with these rights were as declared."""
        mine = [outcome for outcome in self.outcomes if outcome.rights == rights]
        return f"{sum(not outcome.problems for outcome in mine)}/{len(mine)}" if mine else "–"

    def problems(self) -> list[str]:
        """What was not as declared."""
        return [
            f"{self.kind}/{self.name} ({outcome.rights}, seed {outcome.seed}): {problem}"
            for outcome in self.outcomes
            for problem in outcome.problems
        ]


@dataclass(frozen=True)
class Section:
    """What the audit has found out besides the cases: a paragraph under a title."""

    title: str
    text: str  # goes into staff/README.md, too
    details: str = ""  # printed only
    problems: tuple[str, ...] = ()


def matrix(rows: Sequence[Row], parts: Iterable[str]) -> str:
    """A line for each case: how many gradings were as declared, the points of each part, the seconds, the hints."""
    columns = list(parts)
    width = 6 * len(columns)
    lines = [f"{'case':<52}{'root':>6}{'user':>6}  {''.join(f'{part:>6}' for part in columns)}{'s':>6}  hint, note"]
    for row in sorted(rows, key=lambda row: (list(TITLES).index(row.kind), row.name)):
        first = row.outcomes[0] if row.outcomes else Outcome("", 0, 0, [])
        points = "".join(f"{first.points[part]:>6g}" if part in first.points else " " * 6 for part in columns)
        seconds = max((outcome.seconds for outcome in row.outcomes), default=0)
        notes = "; ".join(filter(None, (", ".join(first.hints), row.note)))
        mark = "  !" if row.problems() else ""
        lines.append(
            f"{f'{row.kind}/{row.name}':<52}{row.as_declared('root'):>6}{row.as_declared('user'):>6}"
            f"  {points:<{width}}{seconds:>6.0f}  {notes}{mark}".rstrip()
        )
    return "\n".join(lines)


def _counts(rows: Sequence[Row]) -> tuple[int, int, int]:
    """Cases, gradings, and gradings that were as declared."""
    outcomes = [outcome for row in rows for outcome in row.outcomes]
    return len(rows), len(outcomes), sum(not outcome.problems for outcome in outcomes)


def total(rows: Sequence[Row]) -> str:
    """The line of totals."""
    cases, gradings, right = _counts(rows)
    return f"{cases} cases, {gradings} gradings: {right} as declared, {gradings - right} not"


def hint_rate(rows: Sequence[Row]) -> Section:
    """How many of the wrong answers that fail by a value get a hint; that it is the right one, each case declares."""
    by_value = [row for row in rows if row.kind == "wrong" and any(outcome.by_value for outcome in row.outcomes)]
    without = [row.name for row in by_value if not all(outcome.hints for outcome in row.outcomes)]
    hinted = len(by_value) - len(without)
    return Section(
        "Hints",
        f"of {len(by_value)} wrong answers that fail by a value, {hinted} get a hint "
        f"({hinted / max(1, len(by_value)):.0%}).",
        details=f"without: {', '.join(sorted(without)) or 'none'}",
        problems=() if hinted >= LEAST_HINTS * len(by_value) else (f"only {hinted} of {len(by_value)} get a hint",),
    )


def as_json(rows: Sequence[Row], problems: Sequence[str]) -> str:
    """All of it for a machine."""
    return json.dumps({"problems": problems, "cases": [asdict(row) for row in rows]}, indent=1) + "\n"


def rewrite(readme: Path, rows: Sequence[Row], sections: Sequence[Section] = ()) -> None:
    """Write the totals, and the text of each section, between the marks in `readme`.

    Raises:
        UserError: the marks are gone.
    """
    lines = ["| what | cases | gradings | as declared |", "| --- | ---: | ---: | ---: |"]
    for kind, title in TITLES.items():
        counts = _counts([row for row in rows if row.kind == kind])
        lines.append(f"| {title} | " + " | ".join(map(str, counts)) + " |")
    lines.append("| **all** | " + " | ".join(f"**{count}**" for count in _counts(rows)) + " |")
    for section in sections:
        lines += ["", *textwrap.wrap(f"**{section.title}**: {section.text}", 120)]
    marked.rewrite(readme, "audit", lines)
