"""The homework that is audited, found by its name, and where its pieces are."""

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from src.errors import HomeworkError
from src.files import ROOT, shown
from src.grading.homework import Homework
from src.grading.results import SUBMIT, parts_of_tests, points_of
from src.grading.sandbox.client import Answerer
from src.grading.sandbox.protocol import Message
from staff.declaration import load_homework, solution_folder

DEFAULT_HOMEWORK = "hw1"


@dataclass(frozen=True)
class Channel:
    """How code of a student can tell a hidden input of one part, and what it might answer then; see `channels.py`."""

    part: str
    is_hidden: str  # a condition in the part's block that holds for its hidden tests' inputs alone
    wrong: tuple[str, str]  # two blocks, each wrong in another way that has a hint
    other_kind: str  # a block that returns the wrong kind of value


@dataclass(frozen=True)
class Facts:
    """What the audit cannot derive from a homework's declaration: `FACTS` in `staff/NAME/audit_facts.py`."""

    data: Path | None = None  # a file, relative to the project, without which one of the tests cannot work
    answerer: Callable[[], Answerer] | None = None  # makes what answers the questions that code asks during a call
    questions: tuple[Message, ...] = ()  # such questions, all of them valid
    channel: Channel | None = None
    checks: Mapping[str, Callable[[], list[str]]] = field(default_factory=dict)  # more checks: kind/name → problems


@dataclass(frozen=True)
class Subject:
    """A homework, and what the audit has to know about it. Its folder `staff/NAME/` holds the rest."""

    homework: Homework
    points: Mapping[str, float]  # part → what all of its tests are worth; in an optional part, 1 each
    parts: Mapping[str, str] = field(repr=False)  # number of a test → its part
    hints: Mapping[str, str] = field(repr=False)  # name of a mistake → what a student is told about it
    facts: Facts = field(repr=False)

    @property
    def full(self) -> dict[str, float]:
        """Part → its points, without the optional ones."""
        return {number: self.points[number] for number in self.homework.numbers}

    @property
    def cases(self) -> Path:
        """The folder of its cases, one folder a kind."""
        return self._folder / "cases"

    @property
    def solution(self) -> Path:
        """The folder of the reference answers."""
        return solution_folder(self.homework)

    @property
    def hidden_tests(self) -> Path:
        """The file of the hidden tests, relative to the project."""
        return (self._folder / "hidden_tests.py").relative_to(ROOT)

    @property
    def labels(self) -> list[Path]:
        """The files of what the hidden tests compare with."""
        return sorted((self._folder / "labels").glob("*"))

    @property
    def mutants(self) -> Path:
        """The file of what was checked about the mutants of the reference answers."""
        return self._folder / "mutants.yml"

    @property
    def model(self) -> str:
        """The name of the model that the grader uses."""
        return self.homework.find_model("bundled")

    @property
    def model_files(self) -> tuple[str, ...]:
        """The files and folders of that model, relative to the project; none where the homework has no model."""
        return self.homework.readable(self.model)

    @property
    def _folder(self) -> Path:
        return ROOT / "staff" / self.homework.name

    def part_of_test(self, number: str) -> str | None:
        """The part to which the test with this number belongs; None for a test about submit/."""
        return self.parts.get(number)


@functools.cache
def load_subject(name: str = DEFAULT_HOMEWORK) -> Subject:
    """The homework called `name`.

    Raises:
        HomeworkError: there is none, or it lacks what the audit needs.
    """
    homework = load_homework(name)
    path = ROOT / "staff" / name / "audit_facts.py"
    if not path.exists():
        raise HomeworkError(
            f"{shown(path)}: is missing; staff/{DEFAULT_HOMEWORK}/audit_facts.py shows what it must hold"
        )
    facts = importlib.import_module(f"staff.{name}.audit_facts").FACTS
    hints = importlib.import_module(f"{homework.package}.hints").HINTS
    parts = {number: part for number, part in parts_of_tests(homework).items() if part != SUBMIT}
    return Subject(
        homework,
        points={
            number: points.total or float(sum(part == number for part in parts.values()))
            for number, points in points_of(homework).items()
        },
        parts=parts,
        hints={mistake: entry.hint for mistake, entry in hints.items()},
        facts=facts,
    )
