"""An optional part is run and graded only where somebody names it, and nobody asks for it."""

from dataclasses import replace

import pytest

from src.errors import ConfigError, HomeworkError
from src.grading.homework import Homework, Part
from src.hw1.parts import HOMEWORK

REQUIRED = tuple(part for part in HOMEWORK.parts if not part.optional)
RUN = HOMEWORK.part("6.3").run


@pytest.fixture
def homework() -> Homework:
    optional = (
        Part("9a", "A question", "thoughts.py", "thought", optional=True),
        Part("9b", "A run", "thoughts.py", "second_thought", RUN, optional=True),
    )
    return replace(HOMEWORK, parts=(*REQUIRED, *optional))


def test_optional_parts_are_not_among_the_numbers(homework):
    assert homework.numbers == ("6.3", "6.4", "6.5", "6.6", "6.7")
    assert homework.all_numbers == (*homework.numbers, "9a", "9b")


def test_the_file_of_an_optional_part_need_not_be_there(homework):
    assert "thoughts.py" not in homework.question_files
    assert homework.all_files == (*homework.question_files, "thoughts.py")


@pytest.mark.parametrize("name", ["thoughts", "thoughts.py", "questions/thoughts.py"])
def test_a_file_selects_its_parts_with_and_without_its_ending(homework, name):
    assert homework.numbers_of(name) == ("9a", "9b")


def test_a_problem_selects_its_steps(homework):
    assert homework.numbers_of("9") == ("9a", "9b")


def test_an_optional_part_runs_only_where_it_is_named(homework):
    assert homework.chosen([]) == homework.numbers
    assert homework.chosen(["9b,6.3"]) == ("9b", "6.3")


def test_a_problem_names_all_of_its_parts(homework):
    assert homework.numbers_of("6") == homework.numbers
    assert homework.chosen(["6"]) == homework.numbers
    with pytest.raises(HomeworkError, match="there is no part 8"):
        homework.numbers_of("8")


def test_a_part_without_a_run_cannot_be_run(homework):
    with pytest.raises(ConfigError, match=r"there is no part 9a to run; known are 6.3, .*, 6.7, 9b$"):
        homework.chosen(["9a"])


def test_artifacts_need_a_run_that_makes_them():
    part = replace(HOMEWORK.part("6.3"), number="9c", run=None, artifacts=HOMEWORK.part("6.3").artifacts)
    others = tuple(each for each in REQUIRED if each.number not in ("6.3", "6.6", "6.7"))
    with pytest.raises(HomeworkError, match="9c declares artifacts, but no run makes them"):
        replace(HOMEWORK, parts=(*others, part))
