"""A reader: what was handed in is read in a confined process, and what goes wrong there is one clear line."""

import zipfile
from pathlib import Path

import pytest

from src.errors import IntakeError
from src.grading.intake import Submission, unpack
from src.grading.sandbox import reader
from src.grading.sandbox.reader import read_confined, unpack_confined
from src.grading.sandbox.sandbox import Sandbox
from src.hw1.messages import ReadSubmit, SubmitContent
from src.hw1.parts import HOMEWORK
from src.model.config import BUNDLED
from tests.answers import SOLUTION


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(HOMEWORK, None, BUNDLED) as sandbox:
        yield sandbox


@pytest.fixture
def archive(tmp_path) -> Path:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for path in SOLUTION.glob("*.py"):
            archive.write(path, f"top/questions/{path.name}")
        archive.writestr("top/submit/run.json", "{}")
    return tmp_path / "s.zip"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_reader_unpacks_as_the_intake_does(sandbox, archive, tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    unpack(HOMEWORK, archive, tmp_path / "here")
    submission = unpack_confined(sandbox, archive, tmp_path / "there")
    assert tree(tmp_path / "here") == tree(tmp_path / "there")
    assert submission.questions == tmp_path / "there" / "questions"


def test_a_refused_zip_is_refused_in_the_same_words(sandbox, tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("../questions/sample.py", "")
    for read in (lambda: unpack(HOMEWORK, tmp_path / "s.zip", tmp_path),
                 lambda: unpack_confined(sandbox, tmp_path / "s.zip", tmp_path)):  # fmt: skip
        with pytest.raises(IntakeError, match=r"s.zip: holds the path .* refused"):
            read()


def test_a_reader_that_takes_too_long_costs_one_line(sandbox, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "SECONDS", 0)
    with pytest.raises(IntakeError, match=r"s.zip: cannot be read within"):
        unpack_confined(sandbox, archive, tmp_path)


def test_a_reader_that_needs_too_much_memory_costs_one_line(sandbox, tmp_path):
    for folder in ("questions", "submit"):
        (tmp_path / folder).mkdir()
    (tmp_path / "submit" / "run.json").write_text('{"made_with": {}, "parts": {}, "x": [' + "{}," * 6_000_000 + "0]}")
    submission = Submission(tmp_path / "questions", tmp_path / "submit", ())
    with pytest.raises(IntakeError, match=r"submit/: cannot be read within"):
        read_confined(sandbox, submission, ReadSubmit(BUNDLED), SubmitContent)


def test_a_reader_says_what_is_wrong_in_submit(sandbox, tmp_path):
    for folder in ("questions", "submit"):
        (tmp_path / folder).mkdir()
    submission = Submission(tmp_path / "questions", tmp_path / "submit", ())
    content = read_confined(sandbox, submission, ReadSubmit(BUNDLED), SubmitContent)
    assert content.problems == ("submit/run.json: is missing; run: python main.py",)


def test_a_folder_of_endless_files_is_refused(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr("src.grading.intake.MAX_ENTRIES", 10)
    for i in range(11):
        (tmp_path / f"{i}.txt").touch()
    with pytest.raises(IntakeError, match="holds more than 10 files"):
        unpack_confined(sandbox, tmp_path, tmp_path)
