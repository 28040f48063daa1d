"""What a class handed in: Gradescope's export, as a zip or unpacked, or a folder of zips and folders.

Whatever is wrong with one submission is said of that submission; whatever is wrong with the export is a line about the
whole. Neither stops the class, unless nothing is left to grade.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from src.grading.intake import TAKEN, is_clutter
from staff.grade_class import metadata
from staff.grade_class.export_zip import MAX_AROUND, ExportError, unpack_export
from staff.grade_class.metadata import Entry, Student

MAX_SUBMISSIONS = 20_000
MAX_ID = 100  # characters
NOTHING = "holds no file of questions/ or submit/, nor a zip with them that can be read; ask the student for it"
_EXPORT = re.compile(r"assignment_\d+_export.*\.zip")  # what Gradescope calls an export
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Handed:
    """One submission."""

    id: str  # unique in the class: the name of its folder or zip
    students: tuple[Student, ...]  # who handed it in: several in a group, none where nobody knows
    created_at: datetime | None
    path: Path | None  # a zip or a folder; None where there is a problem
    problem: str  # why it cannot be graded; ""
    is_active: bool = True  # False: for each of its students, another one counts
    replaced_for: tuple[Student, ...] = ()  # those of its students for whom another one counts
    score: float | None = None  # what it earned, as the export says


@dataclass(frozen=True)
class HandedIn:
    """All submissions of a class."""

    submissions: tuple[Handed, ...]
    problems: tuple[str, ...]  # about the whole, a line each


def read(source: Path, into: Path) -> HandedIn:
    """The submissions in `source`; a zip is unpacked into the empty folder `into`, where their paths then lead.

    Raises:
        ExportError: there is nothing to grade, or `source` is something else, or too large.
    """
    if not source.exists():
        raise ExportError(f"{source}: there is no such file or folder; give Gradescope's export, or a folder of zips")
    root, refused, lines = source, dict[Path, str](), list[str]()
    if not source.is_dir():
        root = into
        if into.exists() and any(into.iterdir()):
            raise ExportError(f"{into}: is not empty, so older submissions could be taken for new ones; remove it")
        problems, lines = unpack_export(source, into)
        refused = {into / path: problem for path, problem in problems.items()}
    try:
        exports = _exports(root)
        submissions = _of_exports(exports, refused, lines) if exports else _of_folder(source, root)
    except OSError as error:
        raise ExportError(f"{error.filename}: cannot be read ({error.strerror}); make it readable") from None
    if len(submissions) > MAX_SUBMISSIONS:
        raise ExportError(f"{source}: holds {len(submissions)} submissions, more than {MAX_SUBMISSIONS}; split it")
    if not any(handed.path for handed in submissions):
        first = f", the first, {submissions[0].id}, which {submissions[0].problem}" if submissions else ""
        raise ExportError(f"{source}: none of its {len(submissions)} submissions can be graded{first}")
    return HandedIn(tuple(submissions), tuple(lines))


def _exports(folder: Path, around: int = 0) -> list[Path]:
    """The exports in `folder`: itself, or what lies in it, where nothing but exports does."""
    folders = [path for path in _children(folder) if path.is_dir()]
    is_like_one = bool(folders) and all(metadata.FOLDER.fullmatch(path.name) for path in folders)
    if (folder / metadata.FILE).is_file() or is_like_one:
        return [folder]
    if around == MAX_AROUND or any(path.is_symlink() for path in folders):
        return []
    inside = [_exports(path, around + 1) for path in folders]
    return [export for exports in inside for export in exports] if all(inside) else []


def _children(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_clutter(Path(path.name)))


# --- Gradescope's export ---


def _of_exports(exports: Sequence[Path], refused: Mapping[Path, str], lines: list[str]) -> list[Handed]:
    """The submissions in the unpacked `exports`; `refused` says which of them are not there, and why."""
    if len(exports) > 1:
        names = _names([path.name for path in exports])
        lines.append(f"{len(exports)} exports in one, which are graded together: {names}")
    submissions: dict[str, Handed] = {}
    earlier: set[str] = set()
    for export in exports:
        entries = _entries(export, lines)
        children = {path.name: path for path in _children(export) if path.name != metadata.FILE}
        reasons = {path.name: problem for path, problem in refused.items() if path.parent == export}
        strangers = [name for name in children if not metadata.FOLDER.fullmatch(name)]
        unknown = [name for name in {*children, *reasons} - set(entries) - set(strangers) if entries]
        if strangers:
            lines.append(f"not a submission, and ignored: {_names(strangers)}")
        if unknown:
            lines.append(f"{metadata.FILE} does not say who handed in {_names(sorted(unknown))}")
        for name in sorted(({*entries, *children, *reasons}) - set(strangers), key=lambda name: (len(name), name)):
            if name in submissions:
                lines.append(f"{name}: is there twice; the one in {submissions[name].path} counts")
                continue
            entry = entries.get(name, Entry())
            earlier.update(entry.earlier)
            submissions[name] = _handed(name, export / name, entry, reasons.get(name))
    return _with_replaced(list(submissions.values()), earlier)


def _entries(export: Path, lines: list[str]) -> dict[str, Entry]:
    """What the metadata of an export say; folder of a submission → its entry."""
    path = export / metadata.FILE
    if not path.is_file():
        lines.append(f"{metadata.FILE}: is missing in {export.name}; names and dates stay unknown; export it again")
        return {}
    if path.stat().st_size > metadata.MAX_SIZE:
        lines.append(metadata.too_large(path.stat().st_size))
        return {}
    entries, problems = metadata.read_metadata(path.read_bytes())
    lines += problems
    lines += [f"{name}: {entry.problem}" for name, entry in entries.items() if entry.problem]
    return entries


def _with_replaced(submissions: list[Handed], earlier: set[str]) -> list[Handed]:
    """The submissions, of which only the last one of each student counts.

    Args:
        earlier: the ids of those that others name as earlier ones of theirs
    """
    seen: set[str] = set()
    replaced: dict[str, tuple[Student, ...]] = {}

    def time(handed: Handed) -> tuple[bool, datetime, int, str]:
        return handed.id not in earlier, handed.created_at or _LONG_AGO, len(handed.id), handed.id

    for handed in sorted(submissions, key=time, reverse=True):
        replaced[handed.id] = tuple(student for student in handed.students if student.identity in seen)
        seen |= {student.identity for student in handed.students} - {""}
    return [
        replace(handed, replaced_for=old, is_active=not old or len(old) < len(handed.students))
        for handed, old in ((handed, replaced[handed.id]) for handed in submissions)
    ]


# --- a folder of zips and folders ---


def _of_folder(source: Path, root: Path) -> list[Handed]:
    """The submissions in the folder `root`, one in each of its zips and folders."""
    children = _children(root)
    if any(path.name in TAKEN or path.suffix == ".py" for path in children):
        raise ExportError(f"{source}: is one submission, not a class; run: python grader.py --submission {source}")
    submissions: dict[str, Handed] = {}
    for path in children:
        id = metadata.clean(path.name)[:MAX_ID]
        while id in submissions:
            id += "~"
        submissions[id] = _handed(id, path, Entry())
    return list(submissions.values())


# --- one submission ---


def _handed(id: str, path: Path, entry: Entry, refused: str | None = None) -> Handed:
    problem = refused or _problem(path)
    return Handed(id, entry.students, entry.created_at, None if problem else path, problem, score=entry.score)


def _problem(path: Path) -> str:
    """Why the zip or folder at `path` cannot be graded; "" where it may be possible."""
    if path.is_symlink():
        return "is a symbolic link; put the folder itself there"
    if _EXPORT.fullmatch(path.name):
        return "is an export itself; give it alone"
    if path.is_dir():
        try:
            return "" if any(path.iterdir()) else NOTHING
        except OSError as error:
            return f"cannot be read ({error.strerror})"
    if not path.exists():
        return "is not in the export, only its metadata are; export it again"
    return "" if path.suffix.lower() == ".zip" and path.is_file() else "is neither a zip nor a folder"


def _names(names: Sequence[str]) -> str:
    """The first of `names`, for a line."""
    shown = ", ".join(metadata.clean(name) for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
