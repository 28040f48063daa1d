"""Take in what a student handed in, a zip or a folder, without trusting any of it.

Only regular files of `questions/` and `submit/` are taken over, to a folder of their own. Whatever could write
elsewhere, or fill the disk, or can't be read for certain, is refused with a sentence.
"""

import codecs
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from src.artifacts import MAX_SOURCE, QUESTION_FILES
from src.errors import UserError, printable

MAX_ZIP = 50_000_000  # bytes
MAX_FILE = 20_000_000
MAX_TOTAL = 100_000_000
MAX_FILES = 1000
MAX_DEPTH = 20  # folders in each other
_CLUTTER = {"__MACOSX", "__pycache__", ".DS_Store", "Thumbs.db", "desktop.ini", ".git", ".venv", ".ipynb_checkpoints"}
_TAKEN = ("questions", "submit")


class IntakeError(UserError):
    """A submission that is refused; the message says why and what to do."""

    def __init__(self, message: str):
        super().__init__(printable(message))  # it names files, and names may hold anything


@dataclass(frozen=True)
class Submission:
    """What was handed in, unpacked."""

    questions: Path
    submit: Path
    notes: list[str]  # what is worth telling, a line each


@dataclass(frozen=True)
class _Entry:
    path: PurePosixPath
    size: int
    read: Callable[[], bytes]


def unpack(source: Path, into: Path) -> Submission:
    """Take the submission `source`, a zip or a folder, to the empty folder `into`.

    A folder around it all, clutter of operating systems, Windows paths, byte-order marks and line ends don't matter.

    Raises:
        IntakeError: there is nothing to grade in it, or it is damaged, or it is made to do harm.
    """
    if source.is_dir():
        entries = list(_folder_entries(source))
    elif source.is_file():
        entries = list(_zip_entries(source))
    else:
        raise IntakeError(f"{source}: there is no such file or folder")
    top = _top_folder(source, entries)
    flat = not any(entry.path.parent == top / "questions" for entry in entries)  # the files without their folder
    taken: dict[PurePosixPath, _Entry] = {}
    for entry in entries:
        inside = entry.path.relative_to(top) if entry.path.is_relative_to(top) else None
        if inside is not None and flat and len(inside.parts) == 1 and inside.suffix == ".py":
            inside = PurePosixPath("questions", inside)
        if inside is None or not inside.parts or inside.parts[0] not in _TAKEN:
            continue
        if str(inside).casefold() in {str(path).casefold() for path in taken}:
            raise IntakeError(f"{source}: holds {entry.path} twice; pack it again with make_submission.sh")
        taken[inside] = entry
        if len(inside.parts) > MAX_DEPTH:
            raise IntakeError(f"{source}: holds folders that are {len(inside.parts)} deep; hand in what is needed")
        if inside.suffix == ".py" and entry.size > MAX_SOURCE:
            raise IntakeError(f"{source}: {entry.path} is too large for a file of answers; is it the right one?")
        total = sum(other.size for other in taken.values())
        if entry.size > MAX_FILE or total > MAX_TOTAL or len(taken) > MAX_FILES:
            raise IntakeError(f"{source}: is too large at {entry.path}; hand in what make_submission.sh packs, no more")
    for folder in _TAKEN:
        (into / folder).mkdir()
    for inside, entry in taken.items():
        content, target = entry.read(), into / inside
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_as_utf8(content) if target.suffix == ".py" else content)
        except (OSError, ValueError) as error:
            raise IntakeError(f"{source}: {entry.path} cannot be unpacked ({error})") from None
    missing = [name for name in QUESTION_FILES if not (into / "questions" / name).is_file()]
    notes = [f"note: questions/{name} is missing" for name in missing]
    return Submission(into / "questions", into / "submit", notes)


def _top_folder(source: Path, entries: list[_Entry]) -> PurePosixPath:
    """The folder of the submission that holds `questions/`, or the question files themselves."""
    files = [entry.path for entry in entries if entry.path.name in QUESTION_FILES]
    tops = {path.parent.parent for path in files if path.parent.name == "questions"} or {path.parent for path in files}
    if not tops:
        raise IntakeError(
            f"{source}: holds none of {', '.join(QUESTION_FILES)}; hand in the zip that make_submission.sh makes"
        )
    shallowest = min(len(top.parts) for top in tops)
    nearest = [top for top in tops if len(top.parts) == shallowest]
    if len(nearest) > 1:
        both = " and ".join(str(top) for top in sorted(nearest)[:2])
        raise IntakeError(f"{source}: holds two submissions, in {both}; hand in one")
    return nearest[0]


def _folder_entries(folder: Path) -> Iterator[_Entry]:
    folders = [folder]
    count = 0
    while folders:
        for path in sorted(folders.pop().iterdir()):
            inside = path.relative_to(folder)
            count += 1
            if path.name in _CLUTTER:
                continue
            relevant = any(part in _TAKEN for part in inside.parts) or path.suffix == ".py"
            if path.is_symlink():
                if relevant:
                    raise IntakeError(f"{path}: is a symbolic link; hand in the file itself")
            elif path.is_dir():
                if len(inside.parts) < 6 and count < 100_000:
                    folders.append(path)
            elif relevant:
                if not path.is_file():
                    raise IntakeError(f"{path}: is no regular file")
                yield _Entry(PurePosixPath(inside.as_posix()), path.stat().st_size, path.read_bytes)


def _zip_entries(path: Path) -> Iterator[_Entry]:
    if path.stat().st_size > MAX_ZIP:
        raise IntakeError(
            f"{path}: has {path.stat().st_size / 1e6:.0f} MB; more than {MAX_ZIP / 1e6:.0f} cannot be right"
        )
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError) as error:
        raise IntakeError(f"{path}: is damaged or no zip ({error}); pack it again with make_submission.sh") from None
    infos = archive.infolist()
    if len(infos) > MAX_FILES:
        raise IntakeError(f"{path}: holds {len(infos)} files; hand in what make_submission.sh packs, no more")
    for info in infos:
        name = info.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ":" in name or ".." in parts or "\0" in name or not parts:
            raise IntakeError(f"{path}: holds the path {info.filename!r}, which leads out of the folder; refused")
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise IntakeError(f"{path}: {info.filename} is a link or a device; hand in the file itself")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise IntakeError(f"{path}: {info.filename} is packed in an unusual way; pack it with make_submission.sh")
        if info.flag_bits & 0x1:
            raise IntakeError(f"{path}: is encrypted; hand in a zip without a password")
        if not name.endswith("/") and not _CLUTTER & set(parts) and not parts[-1].startswith("._"):
            yield _Entry(PurePosixPath(name), info.file_size, lambda info=info: _content(path, archive, info))


def _content(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """What `info` holds, and never more than it says it does."""
    try:
        with archive.open(info) as file:
            content = file.read(info.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise IntakeError(
            f"{path}: {info.filename} is damaged ({error}); pack it again with make_submission.sh"
        ) from None
    if len(content) != info.file_size:
        raise IntakeError(f"{path}: {info.filename} is not as long as it says; pack it again with make_submission.sh")
    return content


def _as_utf8(source: bytes) -> bytes:
    """Python source in UTF-8, also where an editor saved it as UTF-16."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if source.startswith(mark):
            return source.decode(encoding, errors="replace").encode("utf-8")
    return source
