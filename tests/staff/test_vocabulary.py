"""The checker of problem 6.2."""

import subprocess
import sys

import pytest

from src.errors import ConfigError
from src.files import ROOT
from staff.hw1.vocabulary import as_number, verdict


@pytest.mark.parametrize(
    ("increase", "assumption"),
    [
        (7_482_624, "shares the embedding's weights and has no bias"),
        (7_492_367, "shares the embedding's weights and has a bias"),
        (14_965_248, "weights of their own, without a bias"),
        (14_974_991, "weights of their own, and the output layer has a bias"),
    ],
)
def test_each_reading_is_right_with_its_assumption(increase, assumption):
    is_right, text = verdict(increase)
    assert is_right
    assert assumption in text


@pytest.mark.parametrize(
    ("increase", "mistake"),
    [
        (9743, "additional tokens"),
        (46_080_000, "not the increase"),
        (155_888, "16 bits"),
        (7_483_392, "counts 9,744 additional tokens"),
        (14_984_734, "a bias in both layers"),
        (-7_482_624, "the sign is flipped"),
        (123, "no known mistake"),
    ],
)
def test_a_wrong_number_is_told_its_mistake(increase, mistake):
    is_right, text = verdict(increase)
    assert not is_right
    assert mistake in text


@pytest.mark.parametrize("text", ["7482624", "7,482,624", "7 482 624", "7.482.624", "7_482_624", " 7'482'624 "])
def test_digits_may_be_grouped(text):
    assert as_number(text) == 7_482_624


@pytest.mark.parametrize("text", ["seven", "7.5", "", "1e6", "7,48"])
def test_other_text_is_refused_in_one_line(text):
    with pytest.raises(ConfigError, match="is not a whole number"):
        as_number(text)


@pytest.mark.parametrize(("number", "code"), [("14,965,248", 0), ("9743", 1)])
def test_the_command_says_it_with_its_exit_code(number, code):
    command = [sys.executable, "-m", "staff.hw1.vocabulary", number]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (code, "")
    assert process.stdout.count("\n") == 1
