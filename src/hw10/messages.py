"""What crosses between the grader and a worker of homework 10, besides the core's own messages."""

from dataclasses import dataclass

from src.grading.sandbox.messages import Reference
from src.grading.sandbox.protocol import Message


@dataclass(frozen=True)
class Through(Reference):
    """A function of `src.hw10.harness`, as "vae.gradients", that calls the student's function and measures it."""

    name: str


@dataclass(frozen=True)
class AskProblems(Message):
    """To a reader: what is wrong in submit/?"""


@dataclass(frozen=True)
class SubmitProblems(Message):
    """What is missing, damaged or stale in submit/."""

    lines: tuple[str, ...]
