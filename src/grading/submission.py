"""What is missing, wrong or stale in a submission: in `questions/` and in `submit/`."""

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from src.errors import RecordError
from src.grading.homework import Homework, Part
from src.grading.record import RECORD, PartRecord, Record, code_hash, read_record
from src.grading.student_code import holds_other_code

_UNREADABLE = (SyntaxError, ValueError, MemoryError, RecursionError)  # what parsing a student's source may raise


@dataclass(frozen=True)
class Problem:
    """What is missing, wrong or stale, and what to do."""

    part: str | None  # its number; None: it concerns all
    file: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.remedy}"


def artifact_problems(homework: Homework, root: Path, configs: Path, questions: str | None = None) -> list[Problem]:
    """What is missing, wrong or stale in `root`/submit, with the command that makes it.

    Args:
        configs: the project whose settings count as today's
        questions: the folder in `root` whose code must have made everything; None: the one that run.json names
    """
    try:
        record = read_record(root / "submit")
    except RecordError as error:
        return [Problem(None, f"submit/{RECORD}", "is damaged", f"{error}".partition("; ")[2])]
    if record is None:
        remedy = f"run: python {homework.program}"
        return [Problem(None, f"submit/{RECORD}", "is missing", remedy)]
    problems: list[Problem] = []
    for number in homework.all_numbers:
        part, entry = homework.part(number), record.parts.get(number)
        if part.artifacts and (entry is not None or not (part.bonus or part.optional)):
            problems += _part_problems(homework, part, record, root, configs, questions)
    return problems


def _part_problems(
    homework: Homework, part: Part, record: Record, root: Path, configs: Path, questions: str | None
) -> Iterator[Problem]:
    entry = record.parts.get(part.number)
    folder = questions or (entry.questions if entry else "questions")
    remedy = _remedy(homework, part, record, folder)
    if entry:
        first = f"submit/{part.artifacts[0].name}"
        if settings := homework.settings_problem(entry.made_with, configs):
            yield Problem(part.number, first, settings, remedy)
        if not _is_current(homework, part, entry, root / folder):
            yield Problem(part.number, first, f"is older than the code in {folder}/", remedy)
    for artifact in part.artifacts:
        path = root / "submit" / artifact.name
        damage = artifact.problem(path) if path.is_file() else "is missing"
        if what := damage or _difference(homework, path, entry):
            yield Problem(part.number, f"submit/{artifact.name}", what, remedy)


def _remedy(homework: Homework, part: Part, record: Record, folder: str) -> str:
    """The command that makes the part again: as it was made or, if it was not, as another one was."""
    others = record.parts.values()
    made_with = next((entry.made_with for entry in (record.parts.get(part.number), *others) if entry), {})
    where = f" --questions {folder}" if folder != "questions" else ""
    return f"run: {homework.rerun(made_with, part)}{where}"


def _difference(homework: Homework, path: Path, entry: PartRecord | None) -> str | None:
    """How the file at `path`, which can be read, differs from what the record says."""
    if entry is None:
        return f"is stale: {homework.program} did not make it"
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry.files.get(path.name):
        return f"is not what {homework.program} wrote"
    return None


def _is_current(homework: Homework, part: Part, entry: PartRecord, folder: Path) -> bool:
    """Whether the code in `folder` is the code that made the part."""
    try:
        return entry.code == {name: code_hash((folder / name).read_bytes()) for name in homework.files_of(part)}
    except (OSError, *_UNREADABLE):
        return False


def source_problem(homework: Homework, path: Path) -> str | None:
    """Why the file `path` of questions/ cannot be graded, in one line; None where it can."""
    name, most = f"{path.parent.name}/{path.name}", homework.limits.source_size
    try:
        if path.stat().st_size > most:
            return f"{name}: is larger than {most} bytes, too large for a file of answers"
        ast.parse(path.read_bytes())
    except FileNotFoundError:
        return f"{name}: is missing; restore it from the starter code"
    except OSError as error:
        return f"{name}: cannot be read ({error.strerror})"
    except _UNREADABLE as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        return f"{name}{line}: is not valid Python ({getattr(error, 'msg', error)}); fix it"
    return None


@dataclass(frozen=True)
class StubLine:
    """The line that the stub of a block has, and the written block should not have."""

    number: int
    is_begun: bool  # whether the block holds other code, too


def unwritten_blocks(source: bytes) -> dict[str, StubLine]:
    """The part of each block in a student's source that still has the line of its stub → this line.

    Raises:
        SyntaxError: the source is not Python.
    """
    lines = source.decode(errors="replace").splitlines(keepends=True)
    raises = [node.exc for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise)]
    return {
        str(call.args[0].value): StubLine(call.lineno, holds_other_code(lines, call.lineno))
        for call in raises
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "NotImplementedError"
        if call.args and isinstance(call.args[0], ast.Constant)
    }
