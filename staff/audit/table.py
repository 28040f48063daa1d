"""What came of an audit: the matrix, the totals, and the table in staff/README.md."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from src.artifacts import write_file
from src.errors import UserError
from staff.audit.case import FULL

TITLES = {
    "right": "right answers, full points",
    "wrong": "wrong answers, their points and their hint",
    "hostile": "hostile submissions, their honest points",
    "house": "faults of the house",
    "fuzz": "readers, fuzzed",
}
_MARKED = re.compile(r"(<!-- audit -->\n).*?(<!-- /audit -->)", re.DOTALL)


@dataclass
class Row:
    """One line of the matrix: what came of all gradings of a case."""

    kind: str
    name: str
    about: str
    outcomes: list[dict] = field(default_factory=list)  # rights, seed, seconds, points, hints, complaints
    note: str = ""

    def right(self, rights: str) -> str:
        """How many of the gradings with these rights came out as declared."""
        mine = [outcome for outcome in self.outcomes if outcome["rights"] == rights]
        return f"{sum(not o['complaints'] for o in mine)}/{len(mine)}" if mine else "–"

    def complaints(self) -> list[str]:
        """What went otherwise than declared."""
        return [
            f"{self.kind}/{self.name} ({o['rights']}, seed {o['seed']}): {complaint}"
            for o in self.outcomes
            for complaint in o["complaints"]
        ]


def matrix(rows: Sequence[Row]) -> str:
    """A line for each case: how many gradings were as declared, the points of each part, the hints, the seconds."""
    lines = [f"{'case':<52}{'root':>6}{'user':>6}  {'':<28}{'s':>5}  hint, note"]
    for row in sorted(rows, key=lambda row: (list(TITLES).index(row.kind), row.name)):
        first = row.outcomes[0] if row.outcomes else {}
        earned = first.get("points", {})
        points = " ".join(f"{earned[part]:>5g}" if part in earned else " " * 5 for part in FULL)
        seconds = max((outcome["seconds"] for outcome in row.outcomes), default=0)
        said = "; ".join(filter(None, (", ".join(first.get("hints", ())), row.note)))
        mark = "  !" if row.complaints() else ""
        lines.append(
            f"{f'{row.kind}/{row.name}':<52}{row.right('root'):>6}{row.right('user'):>6}  {points:<28}"
            f"{seconds:>5.0f}  {said}{mark}".rstrip()
        )
    return "\n".join(lines)


def _counts(rows: Sequence[Row]) -> tuple[int, int, int]:
    """Cases, gradings, and gradings that came out as declared."""
    outcomes = [outcome for row in rows for outcome in row.outcomes]
    return len(rows), len(outcomes), sum(not outcome["complaints"] for outcome in outcomes)


def total(rows: Sequence[Row]) -> str:
    """The line of totals."""
    cases, gradings, right = _counts(rows)
    return f"{cases} cases, {gradings} gradings: {right} as declared, {gradings - right} not"


def as_json(rows: Sequence[Row], complaints: Sequence[str]) -> str:
    """All of it for a machine."""
    return json.dumps({"complaints": complaints, "cases": [asdict(row) for row in rows]}, indent=1) + "\n"


def rewrite(readme: Path, rows: Sequence[Row]) -> None:
    """Write the totals between the marks in `readme`.

    Raises:
        UserError: the marks are gone.
    """
    lines = ["| what | cases | gradings | as declared |", "| --- | ---: | ---: | ---: |"]
    for kind, title in TITLES.items():
        counts = _counts([row for row in rows if row.kind == kind])
        lines.append(f"| {title} | " + " | ".join(map(str, counts)) + " |")
    lines.append("| **all** | " + " | ".join(f"**{count}**" for count in _counts(rows)) + " |")
    text = readme.read_text(encoding="utf-8")
    if not _MARKED.search(text):
        raise UserError(
            f"{readme}: the marks <!-- audit --> and <!-- /audit -->, between which the table goes, are gone"
        )
    new = _MARKED.sub(lambda match: match[1] + "\n".join(lines) + "\n" + match[2], text)
    if new != text:
        write_file(readme, new.encode())
