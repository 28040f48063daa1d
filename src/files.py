"""Where the project lies, and how it writes files."""

import errno
import os
from pathlib import Path

from src.errors import OutputError

ROOT = Path(__file__).resolve().parent.parent


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically: to a file beside it first, which is then renamed.

    Raises:
        OutputError: the folder is not writable, or the disk is full.
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
        is_forbidden = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        remedy = f"{'make the folder writable' if is_forbidden else 'make room there'}, or choose another place"
        raise OutputError(f"{path}: cannot be written ({error.strerror}); {remedy}") from None


def shown(path: Path, folder: Path = ROOT) -> str:
    """`path` for a message: relative to `folder`, by default the project, where it lies inside."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
