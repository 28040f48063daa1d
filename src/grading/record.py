"""run.json: the record in submit/ of how its files were made. `make_submission.sh` and the grader read it."""

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from src.errors import RecordError
from src.files import shown, write_file
from src.grading.homework import Homework, Part, Settings

RECORD = "run.json"


@dataclass(frozen=True)
class PartRecord:
    """How the files of one part were made."""

    made_with: Settings
    questions: str  # the folder of the code, relative to the project where it lies inside
    code: Mapping[str, str]  # the student's file → its `code_hash`
    files: Mapping[str, str]  # artifact → sha256


@dataclass(frozen=True)
class Record:
    """How the files of submit/ were made."""

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
        shared = {"made_with": raw["made_with"]} if "made_with" in raw else {}  # so older ones had it
        parts = {number: PartRecord(**(shared | entry)) for number, entry in raw["parts"].items()}
        is_valid = all(map(_is_valid, parts.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise RecordError(f"{path}: is damaged; delete it and run the program again")
    return Record(parts)


def _is_valid(entry: PartRecord) -> bool:
    mappings: list[Any] = [entry.made_with, entry.code, entry.files]
    return isinstance(entry.questions, str) and all(isinstance(each, dict) for each in mappings)


def begin_record(out: Path) -> Record:
    """The record in `out`; a new, empty one where there is none, or a damaged one.

    It is written at once, so that a folder that cannot be written to is known before any work is done.

    Raises:
        OutputError: `out` cannot be written to.
    """
    try:
        record = read_record(out) or Record()
    except RecordError:
        record = Record()
    _write(out, record)
    return record


def record_part(out: Path, number: str, entry: PartRecord) -> None:
    """Write into the record in `out` how a part was made.

    Raises:
        RecordError: there is no record, or it is damaged.
        OutputError: `out` cannot be written to.
    """
    record = read_record(out)
    if record is None:
        raise RecordError(f"{out / RECORD}: was deleted during the run; run again")
    _write(out, Record(dict(sorted({**record.parts, number: entry}.items()))))


def _write(out: Path, record: Record) -> None:
    write_file(out / RECORD, (json.dumps(asdict(record), indent=2) + "\n").encode())


def part_record(
    homework: Homework, part: Part, made_with: Settings, questions: Path, files: Mapping[str, bytes]
) -> PartRecord:
    """The record of a part whose code in the folder `questions` made `files` (name → content)."""
    folder = questions.resolve()
    return PartRecord(
        made_with=made_with,
        questions=shown(folder, homework.home),
        code={name: code_hash((folder / name).read_bytes()) for name in homework.files_of(part)},
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )


def code_hash(source: bytes) -> str:
    """A hash of Python source that comments, blank lines and formatting do not change.

    Raises:
        SyntaxError: the source is not Python.
    """
    return hashlib.sha256(ast.dump(ast.parse(source)).encode()).hexdigest()
