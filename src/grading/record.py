"""run.json: the record in submit/ of how its files were made. `make_submission.sh` and the grader read it."""

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from src.errors import RecordError
from src.files import shown, write_file
from src.grading.homework import Homework, Part, Settings

RECORD = "run.json"


@dataclass(frozen=True)
class PartRecord:
    """How the files of one part were made."""

    questions: str  # the folder of the code, relative to the project where it lies inside
    code: Mapping[str, str]  # the student's file → its `code_hash`
    files: Mapping[str, str]  # artifact → sha256


@dataclass(frozen=True)
class Record:
    """How the files of submit/ were made."""

    made_with: Settings
    parts: Mapping[str, PartRecord] = field(default_factory=dict)  # by the part's number


def read_record(out: Path) -> Record | None:
    """The record in the folder `out`; None where there is none.

    Raises:
        RecordError: run.json is damaged.
    """
    path = out / RECORD
    if not path.exists():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        made_with, parts = raw["made_with"], {number: PartRecord(**entry) for number, entry in raw["parts"].items()}
        is_valid = isinstance(made_with, dict) and all(map(_is_valid, parts.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise RecordError(f"{path}: is damaged; delete it and run the program again")
    return Record(made_with, parts)


def _is_valid(entry: PartRecord) -> bool:
    hashes: list[Any] = [entry.code, entry.files]
    return isinstance(entry.questions, str) and all(isinstance(each, dict) for each in hashes)


def begin_record(out: Path, made_with: Settings) -> None:
    """Start a record in `out`, or continue it: of parts that were all made with the settings `made_with`.

    Parts that were made with other settings are dropped from it.

    Raises:
        OutputError: `out` cannot be written to.
    """
    try:
        record = read_record(out)
    except RecordError:
        record = None
    parts = record.parts if record and record.made_with == made_with else {}
    _write(out, Record(made_with, parts))


def record_part(out: Path, number: str, entry: PartRecord | None) -> None:
    """Write into the record in `out` how a part was made, or, with None, that it was not.

    Raises:
        RecordError: there is no record, or it is damaged.
        OutputError: `out` cannot be written to.
    """
    record = read_record(out)
    if record is None:
        raise RecordError(f"{out / RECORD}: was deleted during the run; run again")
    parts = {other: value for other, value in record.parts.items() if other != number}
    if entry is not None:
        parts[number] = entry
    _write(out, replace(record, parts=dict(sorted(parts.items()))))


def _write(out: Path, record: Record) -> None:
    write_file(out / RECORD, (json.dumps(asdict(record), indent=2) + "\n").encode())


def part_record(homework: Homework, part: Part, questions: Path, files: Mapping[str, bytes]) -> PartRecord:
    """The record of a part whose code in the folder `questions` made `files` (name → content)."""
    folder = questions.resolve()
    return PartRecord(
        questions=shown(folder),
        code={name: code_hash((folder / name).read_bytes()) for name in homework.files_of(part)},
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )


def code_hash(source: bytes) -> str:
    """A hash of Python source that comments, blank lines and formatting do not change.

    Raises:
        SyntaxError: the source is not Python.
    """
    return hashlib.sha256(ast.dump(ast.parse(source)).encode()).hexdigest()
