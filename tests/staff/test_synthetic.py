"""The synthetic class: what is in it, that it is always the same, and the blocks that are read from it."""

import ast
import random
import subprocess
import sys
from pathlib import Path

import pytest

from src.files import ROOT
from src.hw1.parts import HOMEWORK
from staff.audit.subject import load_subject
from staff.declaration import solution_folder
from staff.grade_class.blocks import blocks_of, starter
from staff.grade_class.disguise import disguised
from staff.grade_class.submissions import HandedIn, read
from staff.grade_class.synthetic import Made, export, folder_of, make_class

SUBJECT = load_subject()
SUBMISSIONS, HOSTILE = 240, 10  # more than there are right and wrong cases


@pytest.fixture(scope="module")
def made() -> list[Made]:
    return make_class(SUBJECT, SUBMISSIONS, HOSTILE, seed=1)


@pytest.fixture(scope="module")
def handed_in(made, tmp_path_factory) -> HandedIn:
    folder = tmp_path_factory.mktemp("synthetic")
    (folder / "export.zip").write_bytes(export(made))
    return read(folder / "export.zip", folder / "into")


def test_the_class_is_as_large_as_asked_and_no_two_are_the_same(made):
    assert len(made) == SUBMISSIONS
    assert sum(entry.case.startswith("hostile/") for entry in made) == HOSTILE
    assert len({tuple(sorted(entry.files.items())) for entry in made}) == SUBMISSIONS


def test_the_export_is_always_the_same(made):
    again = make_class(SUBJECT, SUBMISSIONS, HOSTILE, seed=1)
    assert export(again) == export(made)
    assert export(make_class(SUBJECT, SUBMISSIONS, HOSTILE, seed=2)) != export(made)


def test_the_export_is_read_as_it_was_made(made, handed_in):
    assert not handed_in.problems
    assert [handed.id for handed in handed_in.submissions] == [folder_of(number) for number in range(SUBMISSIONS)]
    for entry, handed in zip(made, handed_in.submissions, strict=True):
        assert bool(handed.problem) == (entry.case in ("empty", "broken zip"))
        assert handed.is_active != entry.is_older
        assert handed.students
        for name, content in entry.files.items() if handed.path else ():
            assert (handed.path / name).read_bytes() == content
    students = [student for handed in handed_in.submissions for student in handed.students]
    assert any(not student.sid for student in students)
    assert len(students) > SUBMISSIONS


def test_copies_are_other_texts_of_the_same_program(made):
    copies = [entry for entry in made if entry.copied is not None]
    assert {way for entry in copies for way in entry.ways} == {"renamed", "reordered", "recommented"}
    for entry in copies:
        original = made[entry.copied]
        assert entry.files != original.files
        for name, content in entry.files.items():
            trees = ast.parse(content), ast.parse(original.files[name])
            sizes = [sum(1 for _ in ast.walk(tree)) for tree in trees]
            assert sizes[0] == sizes[1]


def test_lines_that_depend_on_each_other_keep_their_order():
    code = "a = f(x)\na.pow_(2)\nb = a.sum()\nout.append(b)\nlast = b\nreturn last\n"
    assert disguised(code, ("reordered",), (), random.Random(0)).splitlines() == [
        "a = f(x)", "a.pow_(2)", "b = a.sum()", "last = b", "out.append(b)", "return last",
    ]  # fmt: skip


def test_given_names_stay():
    code = "h = f(model, dim=1)\noutput = h.dim + h\n"
    renamed = disguised(code, ("renamed",), {"output", "model"}, random.Random(0))
    assert "output = " in renamed
    assert "dim=1" in renamed
    assert ".dim" in renamed
    assert "h" not in [node.id for node in ast.walk(ast.parse(renamed)) if isinstance(node, ast.Name)]


def test_the_command_writes_the_export(tmp_path):
    command = [sys.executable, "-m", "staff.grade_class.synthetic", "--out", tmp_path / "e.zip", "--submissions", "40"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout.count(" is a copy of ") == 6
    assert len(read(tmp_path / "e.zip", tmp_path / "into").submissions) == 40


# --- blocks ---


def questions(folder: Path, **changes: str) -> Path:
    """The reference answers in `folder`, with the files in `changes` replaced."""
    for path in solution_folder(HOMEWORK).glob("*.py"):
        text = changes.get(path.stem, path.read_text(encoding="utf-8"))
        (folder / path.name).write_text(text, encoding="utf-8", newline="")
    return folder


def solution(name: str) -> str:
    return (solution_folder(HOMEWORK) / name).read_text(encoding="utf-8")


def test_blocks_are_read_between_the_marks(tmp_path):
    blocks = blocks_of(HOMEWORK, questions(tmp_path))
    assert list(blocks) == list(HOMEWORK.numbers)
    assert blocks["6.6"].strip() == "return logits / temperature"
    assert blocks["6.7"].count("\n") == 4
    assert "START" not in "".join(blocks.values())


def test_blocks_are_found_without_todos_and_with_other_line_ends(tmp_path):
    text = "\r\n".join(line for line in solution("sample.py").splitlines() if "TODO" not in line)
    text = text.replace("### START CODE HERE ###", "# start code here")
    assert blocks_of(HOMEWORK, questions(tmp_path, sample=text))["6.6"].strip() == "return logits / temperature"


def test_without_marks_the_function_is_the_block(tmp_path):
    text = "import torch\n\n\ndef log_likelihood(model, text):\n    # mine\n    return 1.0\n\n\nx = 3\n"
    block = blocks_of(HOMEWORK, questions(tmp_path, likelihood=text))["6.4"]
    assert block.rstrip().endswith("return 1.0")
    assert block.startswith("def log_likelihood")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00\xfe" * 99, b"### START CODE HERE ###\n" * 50, b"(" * 90_000, b"def sample\n" * 9_000]
)
def test_files_of_nothing_have_empty_or_short_blocks(tmp_path, content):
    (tmp_path / "sample.py").write_bytes(content)
    blocks = blocks_of(HOMEWORK, tmp_path)
    assert set(blocks) == set(HOMEWORK.numbers)
    assert not blocks["6.4"]


def test_the_starter_of_a_part_has_no_answer():
    assert "output = [start_text]" in starter(HOMEWORK, "6.3")
    assert "next_token" not in starter(HOMEWORK, "6.3")
