"""Unpack what a student handed in, a zip or a folder, without trusting any of it.

Only regular files of `questions/` and `submit/` are taken (or Python files that lack their folder). Whatever could
write elsewhere, fill the disk, or be read in two ways is refused with one sentence.
"""

import codecs
import io
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

from src.errors import IntakeError
from src.grading.homework import Homework

MAX_ZIP = 50_000_000  # bytes
MAX_FILE = 20_000_000
MAX_TOTAL = 100_000_000
MAX_FILES = 1000
MAX_DEPTH = 20  # nested folders
_CLUTTER = {"__MACOSX", "__pycache__", ".DS_Store", "Thumbs.db", "desktop.ini", ".git", ".venv", ".ipynb_checkpoints"}
MAX_ENTRIES = 20_000  # files and folders in a folder that is handed in
TAKEN = ("questions", "submit")


@dataclass(frozen=True)
class Submission:
    """What was handed in, unpacked."""

    questions: Path
    submit: Path
    notes: tuple[str, ...]  # for the student, a line each


@dataclass(frozen=True)
class _Entry:
    path: PurePosixPath  # as it was handed in
    size: int  # bytes
    read: Callable[[], bytes]


def unpack(homework: Homework, source: Path, into: Path) -> Submission:
    """Unpack the submission `source`, a zip or a folder, into the empty folder `into`.

    Folders around it, hidden files of operating systems, Windows paths, byte-order marks and line ends do not matter.

    Raises:
        IntakeError: there is nothing to grade in it, it is damaged, or it is made to do harm.
    """
    if source.is_dir():
        return write_files(homework, source, _taken_files(homework, source, list(_folder_entries(source))), into)
    if not source.is_file():
        raise IntakeError(f"{source}: there is no such file or folder")
    with source.open("rb") as archive:
        return write_files(homework, source, files_of_zip(homework, source, archive), into)


Files = Iterator[tuple[PurePosixPath, bytes]]  # path in the submission, content


def files_of_zip(homework: Homework, source: Path, archive: BinaryIO) -> Files:
    """The files to take from the zip `source`, which is open as `archive`.

    Raises:
        IntakeError: see `unpack`.
    """
    return _taken_files(homework, source, list(_zip_entries(source, archive)))


def write_files(homework: Homework, source: Path, files: Files, into: Path) -> Submission:
    """Write the files of the submission `source` into the empty folder `into`.

    Raises:
        IntakeError: one of them cannot be written.
    """
    for folder in TAKEN:
        (into / folder).mkdir()
    for inside, content in files:
        try:
            target = into / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        except (OSError, ValueError) as error:
            raise IntakeError(f"{source}: {inside} cannot be unpacked ({error})") from None
    missing = [name for name in homework.question_files if not (into / "questions" / name).is_file()]
    notes = tuple(f"note: questions/{name} is missing" for name in missing)
    return Submission(into / "questions", into / "submit", notes)


def _taken_files(homework: Homework, source: Path, entries: list[_Entry]) -> Files:
    for inside, entry in _select(homework, source, entries).items():
        try:
            content = entry.read()
        except OSError as error:
            raise IntakeError(f"{source}: {entry.path} cannot be read ({error.strerror})") from None
        yield inside, _as_utf8(content) if inside.suffix == ".py" else content


def _select(homework: Homework, source: Path, entries: list[_Entry]) -> dict[PurePosixPath, _Entry]:
    """The entries to take, by their new path; they are checked one by one, before any of them is read."""
    top = _top_folder(homework, source, entries)
    is_flat = not any(entry.path.parent == top / "questions" for entry in entries)  # the files without their folder
    taken: dict[PurePosixPath, _Entry] = {}
    names: set[str] = set()
    total = 0
    for entry in entries:
        inside = _new_path(entry.path, top, is_flat)
        if inside is None:
            continue
        if str(inside).casefold() in names:
            raise IntakeError(f"{source}: holds {entry.path} twice; pack it again with make_submission.sh")
        taken[inside] = entry
        names.add(str(inside).casefold())
        total += entry.size
        if len(inside.parts) > MAX_DEPTH:
            raise IntakeError(f"{source}: holds folders that are {len(inside.parts)} deep; hand in only what is needed")
        if inside.suffix == ".py" and entry.size > homework.limits.source_size:
            raise IntakeError(f"{source}: {entry.path} is too large for a file of answers; is it the right one?")
        if entry.size > MAX_FILE or total > MAX_TOTAL or len(taken) > MAX_FILES:
            raise IntakeError(f"{source}: is too large at {entry.path}; hand in only what make_submission.sh packs")
    return taken


def _new_path(path: PurePosixPath, top: PurePosixPath, is_flat: bool) -> PurePosixPath | None:
    """Where to unpack `path`; None where it does not belong to the submission."""
    if not path.is_relative_to(top):
        return None
    inside = path.relative_to(top)
    if is_flat and len(inside.parts) == 1 and inside.suffix == ".py":
        return PurePosixPath("questions", inside)
    return inside if inside.parts and inside.parts[0] in TAKEN else None


def _top_folder(homework: Homework, source: Path, entries: list[_Entry]) -> PurePosixPath:
    """The folder of the submission that holds `questions/`, or the question files themselves."""
    files = [entry.path for entry in entries if entry.path.name in homework.question_files]
    tops = {path.parent.parent for path in files if path.parent.name == "questions"} or {path.parent for path in files}
    if not tops:
        names = ", ".join(homework.question_files)
        raise IntakeError(f"{source}: holds none of {names}; hand in the zip that make_submission.sh makes")
    shallowest = min(len(top.parts) for top in tops)
    nearest = [top for top in tops if len(top.parts) == shallowest]
    if len(nearest) > 1:
        both = " and ".join(str(top) for top in sorted(nearest)[:2])
        raise IntakeError(f"{source}: holds two submissions, in {both}; hand in one")
    return nearest[0]


def may_belong(path: PurePath) -> bool:
    """Whether a file at `path` may belong to a submission; all others are not looked at."""
    return any(part in TAKEN for part in path.parts) or path.suffix == ".py"


def is_clutter(path: PurePath) -> bool:
    """Whether an operating system or a tool left `path` in a zip."""
    return bool(_CLUTTER & set(path.parts)) or path.name.startswith("._")


def _folder_entries(folder: Path) -> Iterator[_Entry]:
    folders = [folder]
    count = 0
    while folders:
        for path in folders.pop().iterdir():
            inside = path.relative_to(folder)
            count += 1
            if count > MAX_ENTRIES:
                raise IntakeError(f"{folder}: holds more than {MAX_ENTRIES} files; hand in only what is needed")
            if path.name in _CLUTTER:
                continue
            is_relevant = may_belong(inside)
            if path.is_symlink():
                if is_relevant:
                    raise IntakeError(f"{path}: is a symbolic link; hand in the file itself")
            elif path.is_dir():
                if len(inside.parts) < 6:
                    folders.append(path)
            elif is_relevant:
                if not path.is_file():
                    raise IntakeError(f"{path}: is not a regular file")
                yield _Entry(PurePosixPath(inside.as_posix()), path.stat().st_size, path.read_bytes)


def _zip_entries(path: Path, file: BinaryIO) -> Iterator[_Entry]:
    size = file.seek(0, io.SEEK_END)
    if size > MAX_ZIP:
        megabytes, most = size / 1e6, MAX_ZIP / 1e6
        raise IntakeError(f"{path}: has {megabytes:.0f} MB; a submission has at most {most:.0f}")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError) as error:
        raise IntakeError(f"{path}: is damaged or not a zip ({error}); pack it again with make_submission.sh") from None
    infos = archive.infolist()
    if len(infos) > MAX_FILES:
        raise IntakeError(f"{path}: holds {len(infos)} files; hand in only what make_submission.sh packs")
    for info in infos:
        name = info.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        check_entry(path, info, name, parts)
        if not name.endswith("/") and not is_clutter(PurePosixPath(name)):
            yield _Entry(PurePosixPath(name), info.file_size, entry_reader(path, archive, info))


def check_entry(path: Path, info: zipfile.ZipInfo, name: str, parts: tuple[str, ...]) -> None:
    """Check that an entry of a zip does not lead elsewhere, and is an ordinary compressed file.

    Raises:
        IntakeError: it does, or is not.
    """
    if name.startswith("/") or ":" in name or ".." in parts or "\0" in name or not parts:
        raise IntakeError(f"{path}: holds the path {info.filename!r}, which leads out of the folder; refused")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise IntakeError(f"{path}: {info.filename} is a link or a device; hand in the file itself")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise IntakeError(f"{path}: {info.filename} is packed in an unusual way; pack it with make_submission.sh")
    if info.flag_bits & 0x1:
        raise IntakeError(f"{path}: is encrypted; hand in a zip without a password")


def entry_reader(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    """A function that returns the content of `info`, and never more than it claims to hold."""

    def read() -> bytes:
        try:
            with archive.open(info) as file:
                content = file.read(info.file_size + 1)
        except (
            zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError,
        ) as error:  # fmt: skip
            raise IntakeError(
                f"{path}: {info.filename} is damaged ({error}); pack it again with make_submission.sh"
            ) from None
        if len(content) != info.file_size:
            raise IntakeError(
                f"{path}: {info.filename} is not as long as it claims; pack it again with make_submission.sh"
            )
        return content

    return read


def _as_utf8(source: bytes) -> bytes:
    """Python source in UTF-8, also where an editor saved it as UTF-16."""
    if source.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return source.decode("utf-16", errors="replace").encode("utf-8")
    return source
