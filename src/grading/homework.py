"""How a homework is declared: once, as one `Homework` object. Everything else is derived from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from src.errors import ConfigError, HomeworkError
from src.files import ROOT

Settings = Mapping[str, object]  # what a run depends on besides the student's code, as run.json holds it


@dataclass(frozen=True)
class Limits:
    """What a process that runs student code may use. Sizes are in bytes."""

    seconds: float = 20.0  # of wall-clock time, for all calls to one worker together
    cpu_seconds: int = 110
    memory: int = 350_000_000  # beyond what the process had when it was forked
    file_size: int = 1_000_000
    output: int = 50_000_000  # what it prints, which is kept nowhere but for its beginning
    open_files: int = 64
    threads: int = 64
    scratch_size: int = 64_000_000  # all files that it writes
    scratch_files: int = 1000
    scratch_depth: int = 20  # nested folders
    source_size: int = 100_000  # one of the student's Python files

    @property
    def total_memory(self) -> int:
        """With its files, which may lie in memory, too."""
        return self.memory + self.scratch_size


@dataclass(frozen=True)
class Artifact:
    """One file that a part leaves in submit/."""

    name: str
    problem: Callable[[Path], str | None]  # what is wrong with the file at this path; None where nothing is


@dataclass(frozen=True)
class Part:
    """One part of a homework that is programmed."""

    number: str  # of the problem and the part, such as 6.3
    title: str
    file: str  # the file in questions/ that holds the block
    function: str  # the function in it that the tests call
    run: Callable[[Any], Mapping[str, bytes]] | None = field(default=None, repr=False)  # a run → artifacts by name
    artifacts: tuple[Artifact, ...] = ()
    needs: tuple[str, ...] = ()  # numbers of the parts whose functions are called, too, when this part runs
    bonus: bool = False
    optional: bool = False  # worth no points: run and graded only where it is named, and its file may be missing


@dataclass(frozen=True)
class Homework:
    """A homework, declared in `src/NAME/parts.py`."""

    name: str  # of its folders in src/ and staff/
    slug: str  # course, homework and year: the name of its zips
    program: str  # the command that makes the artifacts
    parts: tuple[Part, ...]  # in the order in which the program runs them
    readable: Callable[[str], tuple[str, ...]]  # model → paths below the project that student code may read
    find_model: Callable[[str], str]  # what --model says → the model's name; raises ConfigError
    settings_problem: Callable[
        [Settings, Path], str | None
    ]  # (made with, root) → how these settings differ from today's
    describe: Callable[[Settings], str]  # these settings in a few words
    rerun: Callable[[Settings, Part], str]  # the command that makes a part's artifacts so; {}: with the defaults
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        numbers = [part.number for part in self.parts]
        names = [artifact.name for part in self.parts for artifact in part.artifacts]
        for what, values in (("part", numbers), ("artifact", names)):
            if twice := {value for value in values if values.count(value) > 1}:
                raise HomeworkError(f"{self.package}.parts: the {what} {min(twice)} is declared twice")
        for part in self.parts:
            if unknown := set(part.needs) - set(numbers):
                raise HomeworkError(f"{self.package}.parts: {part.number} needs {min(unknown)}, which is not declared")
            if part.artifacts and part.run is None:
                raise HomeworkError(f"{self.package}.parts: {part.number} declares artifacts, but no run makes them")

    @property
    def package(self) -> str:
        """Its Python package."""
        return f"src.{self.name}"

    @property
    def home(self) -> Path:
        """The folder with its questions/, data/ and submit/: its own in homework/, or the whole project's."""
        sibling = ROOT / "homework" / self.name
        return sibling if sibling.is_dir() else ROOT

    @property
    def closed_packages(self) -> tuple[str, ...]:
        """The packages that student code cannot import: what grades and shows it, and what is for staff."""
        return ("src.grading", "src.playground", self.package, "staff")

    @property
    def zip_name(self) -> str:
        """The name of the zip that students upload."""
        return f"{self.slug}.zip"

    @property
    def starter_name(self) -> str:
        """The name of the zip that students start from."""
        return f"{self.slug}.starter.zip"

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers of the parts that everybody works on, in ascending order: all but the optional ones."""
        return tuple(number for number in self.all_numbers if not self.part(number).optional)

    @property
    def all_numbers(self) -> tuple[str, ...]:
        """The numbers of its parts, in ascending order, with the optional ones."""
        return tuple(sorted(part.number for part in self.parts))

    @property
    def question_files(self) -> tuple[str, ...]:
        """The student's files that must be there, in the order of the parts' numbers."""
        return tuple(dict.fromkeys(self.part(number).file for number in self.numbers))

    @property
    def all_files(self) -> tuple[str, ...]:
        """The student's files, with those of the optional parts."""
        return tuple(dict.fromkeys(self.part(number).file for number in (*self.numbers, *self.all_numbers)))

    @property
    def runnable(self) -> tuple[str, ...]:
        """The numbers of the parts that the program runs, with the optional ones."""
        return tuple(number for number in self.all_numbers if self.part(number).run)

    def part(self, number: str) -> Part:
        """The part with this number.

        Raises:
            HomeworkError: there is none.
        """
        for part in self.parts:
            if part.number == number:
                return part
        raise HomeworkError(f"there is no part {number}; known are {', '.join(self.numbers)}")

    def numbers_of(self, name: str) -> tuple[str, ...]:
        """The numbers that `name` means: a part, all parts of a problem or file; a file may have a folder, or no .py.

        Raises:
            HomeworkError: there is no such part or file.
        """
        files = (PurePath(name).name, f"{name}.py")
        in_file = tuple(number for number in self.all_numbers if self.part(number).file in files)
        return in_file or _named(self.all_numbers, name) or (self.part(name).number,)

    def chosen(self, words: Sequence[str]) -> tuple[str, ...]:
        """The numbers of the parts to run that somebody asked for, as "6.3 6.4", "6.3,6.4", or "6" for all of them.

        No words mean all but the optional ones.

        Raises:
            ConfigError: there is no such part, or nothing to run for it.
        """
        names = " ".join(words).replace(",", " ").split()
        numbers = tuple(number for name in names for number in _named(self.runnable, name))
        if unknown := [name for name in names if not _named(self.runnable, name)]:
            raise ConfigError(f"there is no part {unknown[0]} to run; known are {', '.join(self.runnable)}")
        return numbers or tuple(number for number in self.numbers if number in self.runnable)

    def files_of(self, part: Part) -> tuple[str, ...]:
        """The student's files that this part runs: its own first, then those of the parts it needs."""
        return tuple(dict.fromkeys((part.file, *(self.part(number).file for number in part.needs))))


def _named(numbers: Sequence[str], name: str) -> tuple[str, ...]:
    """The number `name`, or those of all parts of the problem `name`: 6.3, 6.4, … of 6; without such, 1a, … of 1."""
    parts = tuple(number for number in numbers if number.startswith(f"{name}."))
    steps = tuple(number for number in numbers if number[:-1] == name and number[-1].isalpha())
    return (name,) if name in numbers else parts or steps
