"""The figures that experiments leave in submit/: CSV files with a header, which a spreadsheet reads."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from src.grading.artifacts import artifact
from src.grading.homework import Artifact

Row = Mapping[str, str | int | float]


def table_file(name: str) -> Artifact:
    """A CSV file with a header and at least one row."""

    def problem(path: Path) -> str | None:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        return None if len(rows) > 1 and all(len(row) == len(rows[0]) for row in rows) else "is not a table"

    return artifact(name, problem)


def table(rows: Sequence[Row]) -> bytes:
    """`rows`, which have the same keys, as a CSV file; a float has four significant digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue().encode("utf-8")
