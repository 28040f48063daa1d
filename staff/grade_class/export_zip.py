"""Unpack the zip that Gradescope exports, without trusting what students put into it.

Of each submission, only the files that intake looks at are taken. What could write elsewhere, fill the disk or be read
in two ways costs the submission that holds it, and no other.
"""

import errno
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from src.errors import IntakeError, UserError, printable
from src.grading import intake
from staff.grade_class import metadata

MAX_ENTRIES = 1_000_000  # in the whole zip: 10,000 submissions of 100 files
MAX_TOTAL = 20_000_000_000  # bytes of the whole, unpacked: 10,000 submissions of 2 MB
MAX_AROUND = 3  # folders around those of the submissions
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)  # no submission causes these


class ExportError(UserError):
    """What a class handed in cannot be read at all."""


@dataclass
class _Folder:
    """One submission in the zip."""

    path: PurePosixPath
    files: dict[str, tuple[PurePosixPath, zipfile.ZipInfo]] = field(default_factory=dict)  # by their names' small form
    size: int = 0  # bytes, unpacked
    problem: str = ""

    def add(self, path: PurePosixPath, info: zipfile.ZipInfo) -> None:
        """Take the file `info`, which the zip calls `path`, or note why that is not possible."""
        inside = path.relative_to(self.path)
        try:
            intake.check_entry(Path(self.path.name), info, path.as_posix(), path.parts)
        except IntakeError as error:
            self.problem = self.problem or str(error).removeprefix(f"{self.path.name}: ")
        if inside.as_posix().casefold() in self.files:
            self.refuse(f"holds {inside} twice")
        self.files[inside.as_posix().casefold()] = inside, info
        self.size += info.file_size
        if info.file_size > intake.MAX_FILE or self.size > intake.MAX_TOTAL or len(self.files) > intake.MAX_ENTRIES:
            self.refuse(f"is too large at {inside}; hand in only what make_submission.sh packs")

    def refuse(self, why: str) -> None:
        """Note why the submission cannot be graded, unless something was noted before."""
        self.problem = self.problem or printable(why)


def unpack_export(source: Path, into: Path) -> tuple[dict[PurePosixPath, str], list[str]]:
    """Unpack the export `source`, a zip, into the empty folder `into`.

    Returns: folder of a submission in it → why it cannot be graded; and what is wrong with the whole, a line each.

    Raises:
        ExportError: it is no zip, is damaged or too large, or there is no room in `into`.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_ENTRIES:
                raise ExportError(f"{source}: holds {len(infos)} files, more than {MAX_ENTRIES}; export it again")
            folders, described, lines = _sorted_out(infos)
            if not folders and not described:
                raise ExportError(f"{source}: {_not_an_export(infos)}")
            _keep_within(MAX_TOTAL, folders)
            for path, info in described.items():
                lines += _write_metadata(archive, path, info, into)
            for folder in folders:
                _write(archive, folder, into)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise ExportError(f"{source}: is damaged or not a zip ({error}); download Gradescope's export again") from None
    except OSError as error:
        raise ExportError(f"{source}: cannot be unpacked into {into} ({error.strerror}); make room there") from None
    return {folder.path: folder.problem for folder in folders if folder.problem}, lines


def _sorted_out(
    infos: Iterable[zipfile.ZipInfo],
) -> tuple[list[_Folder], dict[PurePosixPath, zipfile.ZipInfo], list[str]]:
    """The submissions in a zip, the files of metadata, and what is wrong with the whole."""
    folders: dict[PurePosixPath, _Folder] = {}
    described: dict[PurePosixPath, zipfile.ZipInfo] = {}
    astray, others, twice = [], [], []
    for info in infos:
        name = info.filename.replace("\\", "/")
        path, is_folder = PurePosixPath(name), name.endswith("/")
        depth = next((i for i, part in enumerate(path.parts) if metadata.FOLDER.fullmatch(part)), None)
        if intake.is_clutter(path) or (is_folder and depth is None):
            continue
        around = PurePosixPath(*path.parts[:depth]) if depth is not None else path.parent
        if path.is_absolute() or ".." in path.parts[: len(around.parts)] or ":" in str(around):
            astray.append(name)
        elif len(around.parts) > MAX_AROUND or (depth == len(path.parts) - 1 and not is_folder):
            others.append(name)
        elif depth is not None:
            top = PurePosixPath(*path.parts[: depth + 1])
            folder = folders.setdefault(top, _Folder(top))
            if not is_folder and intake.may_belong(path.relative_to(top)):
                folder.add(path, info)
        elif path.name == metadata.FILE:
            twice += [name] if path in described else []
            described[path] = info
        else:
            others.append(name)
    lines = [
        printable(f"{what}: {names[0][:200]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else ""))
        for what, names in (
            ("leads out of the export, and ignored", astray),
            ("lies in no submission's folder, and ignored", others),
            ("is there twice, and the last one counts", twice),
        )
        if names
    ]
    return list(folders.values()), described, lines


def _not_an_export(infos: Iterable[zipfile.ZipInfo]) -> str:
    """What to say of a zip without a submission's folder."""
    zips = [info.filename for info in infos if info.filename.lower().endswith(".zip")]
    if zips:
        return printable(f"holds zips, such as {zips[0][:200]!r}; unpack it and give the folder")
    return "holds no folder submission_…; give Gradescope's export, or for one submission: grader.py --submission"


def _keep_within(most: int, folders: list[_Folder]) -> None:
    """Refuse the largest submissions as long as all of them together have more than `most` bytes."""
    total = sum(folder.size for folder in folders if not folder.problem)
    for folder in sorted(folders, key=lambda folder: folder.size, reverse=True):
        if total <= most:
            break
        if not folder.problem:
            total -= folder.size
            folder.refuse(f"is too large: the class has more than {most / 1e9:.0f} GB; grade it alone with grader.py")


def _write_metadata(archive: zipfile.ZipFile, path: PurePosixPath, info: zipfile.ZipInfo, into: Path) -> list[str]:
    """Write the metadata in `info` to `into`; returns what is wrong with it, a line each."""
    if info.file_size > metadata.MAX_SIZE:
        return [metadata.too_large(info.file_size)]
    try:
        intake.check_entry(Path(path.name), info, path.as_posix(), path.parts)
        content = intake.entry_reader(Path(path.name), archive, info)()
    except IntakeError:
        return [f"{path}: is damaged; names and dates stay unknown; download the export again"]
    (into / path).parent.mkdir(parents=True, exist_ok=True)
    (into / path).write_bytes(content)
    return []


def _write(archive: zipfile.ZipFile, folder: _Folder, into: Path) -> None:
    """Write the files of a submission to `into`; one that cannot be written is the problem of that submission.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    top = into / folder.path
    try:
        top.mkdir(parents=True, exist_ok=True)
        for inside, info in folder.files.values() if not folder.problem else ():
            content = intake.entry_reader(Path(folder.path.name), archive, info)()
            (top / inside).parent.mkdir(parents=True, exist_ok=True)
            (top / inside).write_bytes(content)
    except IntakeError:
        folder.refuse(f"{inside} is damaged in the export; download it again")
    except OSError as error:
        if error.errno in _OURS:
            raise
        folder.refuse(f"{inside} cannot be unpacked ({error.strerror})")
    if folder.problem:
        shutil.rmtree(top, ignore_errors=True)
