"""What an experiment works with when experiment.py runs it: settings, the student's functions, device, progress."""

import contextlib
import inspect
import json
import platform
import random
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from src.errors import HomeworkError, StudentCodeError
from src.files import shown
from src.grading.homework import Part, Settings
from src.grading.program import described_value
from src.grading.record import code_hash
from src.grading.student_code import load_function
from src.grading.submission import unwritten_blocks
from src.hw10.parts import HOMEWORK, experiment_of
from src.hw10.settings import Config, Training
from src.hw10.training import Loop, Stateful

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """The settings of a run, and the folder of the functions."""

    config: Config
    questions: Path
    data: Path
    work: Path  # where the state of unfinished trainings is saved
    seed: int
    device: str
    iterations: int | None = None  # instead of what the config says
    full_mnist: bool = False
    lm: str = "bundled"  # the language model of problem 1
    remarks: list[str] = field(default_factory=list, repr=False)  # on the files of the part that ran last

    def files_of(self, part: Part) -> Mapping[str, bytes]:
        """The content of each file that `part` leaves in submit/, by name.

        Every part starts from the same seed, so that its files do not depend on which parts ran before it.

        Raises:
            UserError: a data file cannot be used, or a function returned the wrong kind of value.
            BaseException: whatever the student's function raises.
        """
        self.start_from(self.seed)
        self.remarks.clear()
        assert part.run is not None  # `Homework.chosen` leaves those out
        self._raise_unwritten(part)
        files = part.run(self)
        declared = [artifact.name for artifact in part.artifacts]
        if sorted(files) != sorted(declared):
            raise HomeworkError(f"part {part.number}: leaves {', '.join(files)}, but declares {', '.join(declared)}")
        return files

    def _raise_unwritten(self, part: Part) -> None:
        """Let an empty block that `part` calls say so at once, and not after the trainings that come before the call.

        Raises:
            BaseException: what the student's file or its empty block raises.
        """
        for each in (*(HOMEWORK.part(number) for number in part.needs), part):
            line = None
            with contextlib.suppress(OSError, SyntaxError, ValueError):  # the part will say so
                line = unwritten_blocks((self.questions / each.file).read_bytes()).get(each.number)
            if line and not line.is_begun:
                function = self.function(each.file, each.function)
                with contextlib.suppress(TypeError, AttributeError):  # code that was added around the block
                    function(*[None] * len(inspect.signature(function).parameters))

    def start_from(self, seed: int) -> None:
        """Seed every source of random numbers."""
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)

    def function(self, file: str, name: str) -> Callable[..., Any]:
        """The student's function `name` in `file`."""
        return load_function(self.questions, file, name)

    def training(self, experiment: str) -> Training:
        """How `experiment` trains: as the config says, or for as many iterations as the command line says."""
        training = self.config.experiments[experiment]
        return training if self.iterations is None else replace(training, iterations=self.iterations)

    def loop(self, name: str, file: str, iterations: int, state: Mapping[str, Stateful], **key: object) -> Loop:
        """The iterations of a training with the student's functions in `file`; see `Loop`.

        Args:
            key: what the result depends on besides the settings and the student's code, such as the seed
        """
        code = code_hash((self.questions / file).read_bytes())
        settings = {**self.settings(), **key, "name": name, "code": code, "iterations": iterations}
        return Loop(self.work, name, settings, iterations, state)

    def wrong_value(self, file: str, function: str, value: object, expected: str) -> StudentCodeError:
        """The error of a function that returned `value` and not what was expected."""
        what = described_value(value)
        return StudentCodeError(
            f"{shown(self.questions / file)}: {function} returned {what}, but must return {expected}"
        )

    def remark(self, text: str) -> None:
        """Say what looks wrong in the files of the part that runs, which are written all the same."""
        print(text, file=sys.stderr)
        self.remarks.append(text)

    def progress(self, items: Collection[T], what: str, unit: str) -> Iterator[T]:
        """The `items`, with a progress bar."""
        yield from tqdm(items, desc=what, unit=unit, leave=False)

    def settings(self) -> Settings:
        """What run.json says of this run."""
        packages = ("torch", "numpy", "matplotlib")
        return {
            "seed": self.seed,
            "iterations": self.iterations,
            "full_mnist": self.full_mnist,
            "lm": self.lm,
            "device": self.device,
            "config": json.loads(json.dumps(asdict(self.config))),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        }


def parts_of(models: Collection[str]) -> list[Part]:
    """The parts that --model names, in the order in which they run; all of them where none is named."""
    numbers = HOMEWORK.chosen(())
    return [p for p in HOMEWORK.parts if p.number in numbers and (not models or experiment_of(p) in models)]
