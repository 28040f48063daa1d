"""What the page can do without homework 1: whether its functions are there, and why one gave no value."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

FILES = ("likelihood.py", "sample.py")  # those of the functions that the page calls


def has_functions(questions: Path) -> bool:
    """Whether a student's functions of homework 1 are in the folder `questions`: without them, the model is alone."""
    return find_spec("src.hw1") is not None and any((questions / name).exists() for name in FILES)


@dataclass(frozen=True)
class Problem:
    """Why the student's code gave no value."""

    kind: str  # "unwritten", "wrong" (a value of another kind), or "error"
    text: str
    details: str = ""  # the traceback
