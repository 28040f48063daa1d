"""Folders of the sandbox: whom they belong to, and what is taken away from other users."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from src.grading.sandbox.client import remove


def copy_for(user: int | None, source: Path, target: Path) -> Path:
    """A copy of the folder `source` that only `user` can read (None: only this user); returns `target`."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for path in (target, *target.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        if user is not None:
            os.chown(path, user, user)
    return target


def close_to_others(paths: Sequence[Path]) -> None:
    """Take the rights of users other than owner and group off the paths that exist."""
    for path in paths:
        if path.exists() and path.stat().st_mode & 0o007:
            path.chmod(path.stat().st_mode & 0o770)


def remove_files_of(user: int) -> None:
    """Remove what `user` left in the folders in which everybody may write."""
    for place in (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")):
        for path in place.iterdir() if place.is_dir() else ():
            with contextlib.suppress(OSError):
                if path.lstat().st_uid == user:
                    remove(path) if path.is_dir() and not path.is_symlink() else path.unlink()
