"""The programming parts of the homework: what each asks of the student's functions and what it leaves in `submit/`."""

import contextlib
import ctypes
import dataclasses
import json
import math
import platform
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import LongTensor
from tqdm import tqdm

from src import artifacts
from src.codec import Codec
from src.config import Config
from src.dataset import DataError, read_papers, read_pieces, read_snippets
from src.gpt2 import GPT2
from src.guest import GuestError, load_function

PROMPTS = 5
PROMPT_TOKENS = 24  # about the first sentence of an abstract
TEMPERATURE = 0.95
HORIZON2_TOKENS = 100


@dataclass(frozen=True)
class Homework:
    """A model, the folder of the functions to run on it, and the texts."""

    model: GPT2
    codec: Codec
    config: Config
    questions: Path
    data: Path
    seed: int
    device: str

    def run(self, part: str) -> dict[str, bytes]:
        """The content of each file that `part` leaves in `submit/`, by name.

        Every part starts from the same seed, so that its files don't depend on which parts ran before it.

        Raises:
            UserError: a data file cannot be used.
            GuestError: a function returned the wrong kind of thing.
            BaseException: whatever the student's function raises.
        """
        random.seed(self.seed)
        np.random.seed(self.seed % 2**32)
        torch.manual_seed(self.seed)
        _give_memory_back()
        with torch.inference_mode():
            return _PARTS[part](self)

    def function(self, file: str, name: str) -> Callable:
        """The student's function `name` in `file`."""
        return load_function(self.questions, file, name)

    def encode(self, text: str) -> LongTensor:
        """The token ids of `text`, (1, T), on the model's device."""
        return self.codec.encode(text).to(self.device)

    def prompts(self) -> LongTensor:
        """The beginnings of the first five abstracts, (5, T), cut to the same number of tokens."""
        abstracts = [paper["Abstract"].strip() for paper in read_papers(self.data / "papers.csv")[:PROMPTS]]
        if len(abstracts) < PROMPTS:
            raise DataError(f"{self.data / 'papers.csv'}: has {len(abstracts)} papers, but {PROMPTS} are needed")
        encoded = [self.encode(text) for text in abstracts]
        length = min(PROMPT_TOKENS, *(ids.size(1) for ids in encoded))
        return torch.cat([ids[:, :length] for ids in encoded])

    def sample(self, prompts: LongTensor, length: int, temperature: float | None, horizon: int) -> bytes:
        """The student's samples that go on from `prompts` (B, T) by `length` tokens, as a samples file."""
        sample = self.function("sample.py", "sample")
        tokens = sample(self.model, prompts, self.config, length, temperature, horizon)
        expected = (prompts.size(0), prompts.size(1) + length)
        if not isinstance(tokens, torch.Tensor) or tokens.dtype != torch.long or tokens.shape != expected:
            raise GuestError(
                f"{self.questions / 'sample.py'}: sample returned {_described(tokens)}, but must return a LongTensor "
                f"of shape {expected}"
            )
        if tokens.min() < 0 or tokens.max() >= self.config.vocab_size:
            raise GuestError(f"{self.questions / 'sample.py'}: sample returned ids that are not in the vocabulary")
        return artifacts.text_of_samples(self.codec.decode(row) for row in tokens)


def _give_memory_back() -> None:
    """Have glibc return freed memory: it keeps what lies between things that stay, which is up to 100 MB."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library has no such function
        ctypes.CDLL(None).malloc_trim(0)


def _samples(homework: Homework) -> dict[str, bytes]:
    length = homework.config.n_ctx // 2
    return {artifacts.SAMPLES: homework.sample(homework.prompts(), length, None, 1)}


def _likelihoods(homework: Homework) -> dict[str, bytes]:
    log_likelihood = homework.function("likelihood.py", "log_likelihood")
    pieces = {name: read_pieces(homework.data / f"{name}.pkl") for name in artifacts.DATASETS}
    values: dict[str, list[float]] = {name: [] for name in pieces}
    with tqdm(total=sum(map(len, pieces.values())), desc="log-likelihoods", unit="text", leave=False) as progress:
        for name, texts in pieces.items():
            for text in texts:
                value = log_likelihood(homework.model, homework.encode(text))
                if type(value) is not float or not math.isfinite(value):
                    raise GuestError(
                        f"{homework.questions / 'likelihood.py'}: log_likelihood returned {_described(value)}, but "
                        "must return a finite Python float"
                    )
                values[name].append(value)
                progress.update()
    _give_memory_back()
    from src import plots  # matplotlib takes its time; only this part draws

    arrays = {name: np.array(v) for name, v in values.items()}
    return {
        **{f"{name}_raw.pkl": artifacts.pickled(v) for name, v in arrays.items()},
        **{f"{name}.png": plots.histogram(name, v) for name, v in arrays.items()},
        artifacts.OVERVIEW: plots.overview(arrays),
    }


def _classes(homework: Homework) -> dict[str, bytes]:
    classification = homework.function("classifier.py", "classification")
    decisions = []
    for text in tqdm(read_snippets(homework.data / "snippets.pkl"), desc="classifying", unit="text", leave=False):
        decision = classification(homework.model, homework.encode(text))
        if type(decision) is not bool:
            raise GuestError(
                f"{homework.questions / 'classifier.py'}: classification returned {_described(decision)}, but must "
                "return True or False"
            )
        decisions.append(decision)
    return {artifacts.CLASSIFICATION: artifacts.pickled(decisions)}


def _samples_temperature(homework: Homework) -> dict[str, bytes]:
    length = homework.config.n_ctx // 2
    return {artifacts.SAMPLES_TEMPERATURE: homework.sample(homework.prompts(), length, TEMPERATURE, 1)}


def _samples_horizon2(homework: Homework) -> dict[str, bytes]:
    return {artifacts.SAMPLES_HORIZON2: homework.sample(homework.prompts()[:1], HORIZON2_TOKENS, TEMPERATURE, 2)}


_PARTS: Mapping[str, Callable[[Homework], dict[str, bytes]]] = {
    "6.3": _samples,
    "6.4": _likelihoods,
    "6.5": _classes,
    "6.6": _samples_temperature,
    "6.7": _samples_horizon2,
}


def settings(config: Config, checkpoint_sha256: str, seed: int, device: str) -> dict[str, Any]:
    """What the files of a run depend on, but for the student's code: the head of `run.json`."""
    packages = ("torch", "numpy", "matplotlib", "tiktoken")
    return {
        "model": config.name,
        "checkpoint_sha256": checkpoint_sha256,
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
        "seed": seed,
        "device": device,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
    if value is None:
        return "nothing (None)"
    return f"{str(value)[:40]} (of type {type(value).__name__})"
