"""What a part works with when main.py runs it: the model, the student's functions and the texts."""

import contextlib
import ctypes
import platform
import random
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from src.errors import DataError, HomeworkError, StudentCodeError
from src.grading.homework import Part, Settings
from src.grading.program import described_value
from src.grading.student_code import load_function
from src.hw1.artifacts import text_of_samples
from src.hw1.dataset import read_papers
from src.hw1.parts import config_record
from src.model import checkpoint
from src.model.codec import Codec
from src.model.config import Config, model_config
from src.model.device import choose_device
from src.model.gpt2 import GPT2

PROMPT_TOKENS = 24  # about the first sentence of an abstract

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A model, the folder of the functions to run on it, and the texts."""

    model: GPT2
    codec: Codec
    config: Config
    questions: Path
    data: Path
    seed: int
    device: str
    fine_tune: bool = False  # question 7 adapts the model, too, which takes minutes
    remarks: list[str] = field(default_factory=list, repr=False)  # on the files of the part that ran last

    def files_of(self, part: Part) -> Mapping[str, bytes]:
        """The content of each file that `part` leaves in submit/, by name.

        Every part starts from the same seed, so that its files do not depend on which parts ran before it.

        Raises:
            UserError: a data file cannot be used, or a function returned the wrong kind of value.
            BaseException: whatever the student's function raises.
        """
        random.seed(self.seed)
        np.random.seed(self.seed % 2**32)
        torch.manual_seed(self.seed)
        self.release_memory()
        self.remarks.clear()
        assert part.run is not None  # `Homework.chosen` leaves those out
        with torch.inference_mode():
            files = part.run(self)
        declared = [artifact.name for artifact in part.artifacts]
        if sorted(files) != sorted(declared):
            raise HomeworkError(f"part {part.number}: leaves {', '.join(files)}, but declares {', '.join(declared)}")
        return files

    def function(self, file: str, name: str) -> Callable[..., Any]:
        """The student's function `name` in `file`."""
        return load_function(self.questions, file, name)

    def encode(self, text: str) -> Tensor:
        """The token ids of `text`, (1, T), on the model's device."""
        return self.codec.encode(text).to(self.device)

    def prompts(self, count: int) -> Tensor:
        """The beginnings of the first `count` abstracts, (count, T), cut to the same number of tokens.

        Raises:
            DataError: there are fewer.
        """
        path = self.data / "papers.csv"
        abstracts = [paper["Abstract"].strip() for paper in read_papers(path)[:count]]
        if len(abstracts) < count:
            raise DataError(f"{path}: has {len(abstracts)} papers, but {count} are needed")
        encoded = [self.encode(text) for text in abstracts]
        length = min(PROMPT_TOKENS, *(ids.size(1) for ids in encoded))
        return torch.cat([ids[:, :length] for ids in encoded])

    def sample(self, prompts: Tensor, length: int, temperature: float | None = None, horizon: int = 1) -> bytes:
        """The student's samples, which continue `prompts` (B, T) by `length` tokens, as a samples file.

        Raises:
            StudentCodeError: `sample` returned anything else.
        """
        tokens = self.function("sample.py", "sample")(self.model, prompts, self.config, length, temperature, horizon)
        expected = (prompts.size(0), prompts.size(1) + length)
        if not isinstance(tokens, Tensor) or tokens.dtype != torch.long or tokens.shape != expected:
            raise self.wrong_value("sample.py", "sample", tokens, f"a LongTensor of shape {expected}")
        if tokens.min() < 0 or tokens.max() >= self.config.vocab_size:
            path = self.questions / "sample.py"
            raise StudentCodeError(f"{path}: sample returned ids that are not in the vocabulary")
        return text_of_samples(self.codec.decode(row) for row in tokens)

    def wrong_value(self, file: str, function: str, value: object, expected: str) -> StudentCodeError:
        """The error of a function that returned `value` and not what was expected."""
        return StudentCodeError(
            f"{self.questions / file}: {function} returned {described_value(value)}, but must return {expected}"
        )

    def remark(self, text: str) -> None:
        """Say what looks wrong in the files of the part that runs, which are written all the same."""
        print(text, file=sys.stderr)
        self.remarks.append(text)

    def progress(self, items: Collection[T], what: str, unit: str) -> Iterator[T]:
        """The `items`, with a progress bar."""
        yield from tqdm(items, desc=what, unit=unit, leave=False)

    def release_memory(self) -> None:
        """Have glibc return freed memory to the system: it keeps up to 100 MB that is fragmented."""
        with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library has no such function
            ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class Setup:
    """What a run depends on besides the student's code; nothing is loaded yet."""

    config: Config
    files: checkpoint.Files
    seed: int
    device: str

    def settings(self) -> Settings:
        """What run.json says of them."""
        packages = ("torch", "numpy", "matplotlib", "tiktoken")
        return {
            "model": self.config.name,
            "checkpoint_sha256": self.files.weights_sha256,
            "config": config_record(self.config),
            "seed": self.seed,
            "device": self.device,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        }

    def load(self, questions: Path, data: Path, fine_tune: bool = False) -> Run:
        """Load the model; for `fine_tune`, see `Run`.

        Raises:
            CheckpointError: a file is damaged or does not fit the config.
        """
        model, codec = checkpoint.load(self.config, self.files, self.device, fast=True)
        return Run(model, codec, self.config, questions, data, self.seed, self.device, fine_tune)


def prepare(model_name: str, seed: int | None, device: str) -> Setup:
    """Choose the device, and find or download the files of the model; `seed` None means the config's.

    Raises:
        ConfigError: this machine does not have that device.
        CheckpointError: a file is damaged, or cannot be downloaded.
    """
    config = model_config(model_name)
    chosen = choose_device(device)
    return Setup(config, checkpoint.locate(config), config.seed if seed is None else seed, chosen)
