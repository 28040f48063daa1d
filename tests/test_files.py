"""How the project writes files."""

import errno
import os
from pathlib import Path

import pytest

from src.errors import OutputError
from src.files import write_file


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "make the folder writable, or choose another place"),
        (errno.EACCES, "make the folder writable, or choose another place"),
        (errno.ENOSPC, "make room there, or choose another place"),
    ],
)
def test_a_file_that_cannot_be_written_says_why(tmp_path, monkeypatch, number, remedy):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError) as error:
        write_file(tmp_path / "a.txt", b"new")
    assert str(error.value) == f"{tmp_path / 'a.txt'}: cannot be written ({os.strerror(number)}); {remedy}"


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError):
        write_file(path, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.txt", b"old")]
