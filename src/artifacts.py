"""What `submit/` holds: the files' names, how they are written and read, and the record of how they were made."""

import ast
import hashlib
import json
import os
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from src.config import ROOT
from src.errors import UserError

DATASETS = ("random", "shakespeare", "neurips")
SAMPLES = "samples.txt"
CLASSIFICATION = "classification.pkl"
SAMPLES_TEMPERATURE = "samples_temperature0-95.txt"
SAMPLES_HORIZON2 = "samples_temperature0-95_horizon2.txt"
OVERVIEW = "histograms.png"
RECORD = "run.json"

# Part → the files that it leaves in submit/.
FILES = {
    "6.3": (SAMPLES,),
    "6.4": (*(f"{name}_raw.pkl" for name in DATASETS), *(f"{name}.png" for name in DATASETS), OVERVIEW),
    "6.5": (CLASSIFICATION,),
    "6.6": (SAMPLES_TEMPERATURE,),
    "6.7": (SAMPLES_HORIZON2,),
}
BONUS = "6.7"

# Part → the student's files that it runs.
SOURCES = {
    "6.3": ("sample.py",),
    "6.4": ("likelihood.py",),
    "6.5": ("classifier.py", "likelihood.py"),
    "6.6": ("sample.py",),
    "6.7": ("sample.py",),
}
MAX_SOURCE = 100_000  # bytes of one of the student's files
QUESTION_FILES = ("sample.py", "likelihood.py", "classifier.py")


class ArtifactError(UserError):
    """Something in `submit/` that cannot be written or read; the message names the file."""


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` by way of a file beside it, so that there is never half a file under that name.

    Raises:
        ArtifactError: the place is not writable, or the disk is full.
    """
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(content)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror}); free the place or choose another") from None


def text_of_samples(samples: Iterable[str]) -> bytes:
    """The content of a samples file: the texts one below the other, each under a numbered rule."""
    return "".join(f"{_rule(i)}\n{text}\n\n" for i, text in enumerate(samples, start=1)).encode("utf-8")


def count_samples(text: str) -> int:
    """How many samples the samples file `text` holds."""
    lines = set(text.splitlines())
    count = 0
    while _rule(count + 1) in lines:
        count += 1
    return count


def _rule(number: int) -> str:
    return f"{'=' * 30} sample {number} {'=' * 30}"


def pickled(value: Any) -> bytes:
    """`value` as a pickle that every Python since 3.4 reads."""
    return pickle.dumps(value, protocol=4)


def is_png(content: bytes) -> bool:
    """Whether `content` begins and ends as a PNG does."""
    return content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")


def code_hash(source: bytes) -> str:
    """A hash of Python source that comments, blank lines and formatting don't change.

    Raises:
        SyntaxError: the source isn't Python.
    """
    return hashlib.sha256(ast.dump(ast.parse(source)).encode()).hexdigest()


def read_record(out: Path) -> dict[str, Any]:
    """The record of how the files in `out` were made: see `begin_record` and `note_part`. Empty where there is none.

    Raises:
        ArtifactError: run.json is damaged.
    """
    path = out / RECORD
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        well_formed = isinstance(record["made_with"], dict) and all(
            isinstance(entry["questions"], str) and isinstance(entry["code"], dict) and isinstance(entry["files"], dict)
            for entry in record["parts"].values()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        well_formed = False
    if not well_formed:
        raise ArtifactError(f"{path}: is damaged; delete it and run main.py again")
    return record


def begin_record(out: Path, made_with: Mapping[str, Any]) -> None:
    """Start or go on with the record in `out`, of parts that are all made with the same settings `made_with`.

    Parts that were made with other settings (model, checkpoint, config, seed, device, versions) are dropped from it.

    Raises:
        ArtifactError: `out` cannot be written to.
    """
    try:
        record = read_record(out)
    except ArtifactError:
        record = {}
    parts = record["parts"] if record.get("made_with") == made_with else {}
    _write_record(out, {"made_with": made_with, "parts": parts})


def note_part(out: Path, part: str, entry: Mapping[str, Any] | None) -> None:
    """Note in the record in `out` how `part` was made (a `record_entry`), or, with None, that it was not."""
    record = read_record(out)
    record["parts"].pop(part, None)
    if entry is not None:
        record["parts"][part] = dict(entry)
    _write_record(out, {**record, "parts": dict(sorted(record["parts"].items()))})


def _write_record(out: Path, record: Mapping[str, Any]) -> None:
    write_file(out / RECORD, (json.dumps(record, indent=2) + "\n").encode())


def record_entry(part: str, questions: Path, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What the record says of a part: whose code made it, and what the `files` hold."""
    folder = questions.resolve()
    return {
        "questions": (folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder).as_posix(),
        "code": {name: code_hash((folder / name).read_bytes()) for name in SOURCES[part]},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
