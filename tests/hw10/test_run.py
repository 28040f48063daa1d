"""What a run says of the student's functions before, and instead of, a training."""

import shutil

import pytest
import torch

from src.grading.program import described_value
from src.hw10 import reading
from src.hw10.hints.exceptions import diagnose_exception
from src.hw10.parts import HOMEWORK
from src.hw10.run import Run
from src.hw10.settings import read_config
from tests.answers import IGNORED

HOME = HOMEWORK.home


def made_run(folder, questions):
    return Run(read_config(HOME / "config.yml"), questions, HOME / "data", folder / "work", 1, "cpu")


@pytest.mark.parametrize(("part", "first"), [("2b", "2a"), ("3c", "3c"), ("3d", "3c"), ("5c", "5b"), ("5d", "5d")])
def test_an_empty_block_says_so_before_any_training(tmp_path, monkeypatch, part, first):
    monkeypatch.setattr(Run, "loop", lambda *_, **__: pytest.fail("a training has begun"))
    with pytest.raises(NotImplementedError, match=f"^{first}$"):
        made_run(tmp_path, HOME / "questions").files_of(HOMEWORK.part(part))


def test_a_begun_block_is_not_called_before_its_time(tmp_path, monkeypatch):
    questions = shutil.copytree(HOME / "questions", tmp_path / "questions", ignore=IGNORED)
    text = (questions / "vae.py").read_text(encoding="utf-8")
    begun = text.replace('raise NotImplementedError("2', 'print("called")\n    raise NotImplementedError("2')
    (questions / "vae.py").write_text(begun, encoding="utf-8")
    monkeypatch.setattr(Run, "loop", lambda *_, **__: (_ for _ in ()).throw(InterruptedError))
    with pytest.raises(InterruptedError):
        made_run(tmp_path, questions).files_of(HOMEWORK.part("2b"))


def test_a_wrong_value_names_the_file_as_students_see_it(tmp_path):
    error = made_run(tmp_path, HOME / "questions").wrong_value("vae.py", "f", (torch.ones(2), 1.0), "a scalar")
    assert str(error).endswith("f returned a tuple of 2 (a tensor of shape (2,) and type float32; 1.0 (of type float)), "
                               "but must return a scalar")  # fmt: skip
    assert str(HOME) not in str(error)
    assert described_value(()) == "() (of type tuple)"


def test_what_is_not_shown_of_the_upload_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "artifact_problems", lambda *_: [f"file {i}" for i in range(15)])
    lines = reading.submit_problems(tmp_path).lines
    assert lines[-2:] == ("file 11", "… and 3 more")


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        ("RuntimeError: mat1 and mat2 must have the same dtype, but got Double and Float", "types differ"),
        ("TypeError: linear(): argument 'input' (position 1) must be Tensor, not NoneType", "nothing returned"),
    ],
)
def test_an_error_of_pytorch_has_a_hint(error, hint):
    assert [mistake.name for mistake in diagnose_exception(error, "")] == [hint]
