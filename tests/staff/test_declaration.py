"""A homework is declared once: whatever is forgotten is named in one line."""

from dataclasses import replace

import pytest

from src.errors import HomeworkError
from src.files import ROOT
from src.grading.homework import Homework
from src.grading.results import test_classes as load_tests
from src.hw1.parts import HOMEWORK
from staff import tables
from staff.declaration import known_homeworks, load_homework, missing_pieces


def without(number: str) -> Homework:
    return replace(HOMEWORK, parts=tuple(p for p in HOMEWORK.parts if p.number != number and number not in p.needs))


@pytest.mark.parametrize("name", known_homeworks())
def test_each_homework_is_complete(name):
    assert missing_pieces(load_homework(name)) == []


def test_an_unknown_homework_is_named_with_the_known_ones():
    with pytest.raises(HomeworkError, match=r"--homework hw7: there is no such homework; known are hw1"):
        load_homework("hw7")


def test_a_test_of_an_undeclared_part_is_named():
    with pytest.raises(HomeworkError, match=r"src.hw1.checks.horizon.\w+: part = '6.7' is not declared"):
        load_tests(without("6.7"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"needs": ("9.9",)}, "6.99 needs 9.9, which is not declared"),
        ({"number": "6.7"}, "the part 6.7 is declared twice"),
        ({"artifacts": HOMEWORK.part("6.3").artifacts}, "the artifact samples.txt is declared twice"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(change, message):
    part = replace(HOMEWORK.part("6.7"), number="6.99", artifacts=())
    with pytest.raises(HomeworkError, match=message):
        replace(HOMEWORK, parts=(*HOMEWORK.parts, replace(part, **change)))


def test_each_forgotten_piece_is_one_line_that_names_the_file():
    part = replace(HOMEWORK.part("6.7"), number="6.99", artifacts=(), file="entropy.py")
    found = missing_pieces(replace(HOMEWORK, parts=(*HOMEWORK.parts, part)))
    assert found == [
        "part 6.99: staff/hw1/solution/entropy.py is missing; write the reference answer there",
        'part 6.99: has no visible test; add a class with `part = "6.99"` to src/hw1/checks/',
        'part 6.99: has no hidden test; add a class with `part = "6.99"` to staff/hw1/hidden_tests.py',
    ]


def test_a_part_without_a_block_or_a_function_is_named():
    no_block = replace(HOMEWORK.part("6.7"), number="6.99", artifacts=())
    no_function = replace(HOMEWORK.part("6.4"), function="likelihood", artifacts=())
    parts = (*(p for p in HOMEWORK.parts if p.number != "6.4"), no_block, no_function)
    found = missing_pieces(replace(HOMEWORK, parts=parts))
    assert "part 6.99: staff/hw1/solution/sample.py has no block under `# TODO 6.99`" in found
    assert "part 6.4: staff/hw1/solution/likelihood.py has no function likelihood" in found


@pytest.mark.parametrize("name", known_homeworks())
def test_the_documents_say_what_is_declared(name):
    stale = [path.relative_to(ROOT).as_posix() for path in tables.stale_documents(load_homework(name))]
    assert not stale, f"run: make tables HOMEWORK={name}"


def test_tables_follow_the_declaration():
    other = replace(HOMEWORK, slug="cs999.hw1.2099")
    text = tables.rewritten("Upload <!-- zip -->`old.zip`<!-- /zip -->.\n<!-- parts -->\n<!-- /parts -->\n", other)
    assert text.startswith("Upload <!-- zip -->`cs999.hw1.2099.zip`<!-- /zip -->.\n")
    assert "| 6.7 Temperature, horizon 2 | 5 (bonus) |" in text
    assert tables.rewritten(text, other) == text


def test_a_mark_that_is_not_closed_is_refused():
    with pytest.raises(HomeworkError, match="the mark <!-- zip --> is not closed"):
        tables.rewritten("<!-- zip -->", HOMEWORK)
