"""The base of homework 1's tests, and the language models on which they try student code."""

import functools
import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from src.grading.part_test import Mistakes, PartTest, Runner
from src.grading.sandbox.client import Answerer
from src.grading.sandbox.messages import Argument, Reference, Returned
from src.hw1.hints.exceptions import diagnose_exception
from src.hw1.hints.shared import NOT_A_NUMBER
from src.hw1.messages import (
    AskLogits,
    Encode,
    Encoded,
    GPT2Config,
    GPT2Model,
    GPT2Past,
    Ids,
    Logits,
    LogitsAnswer,
    Remember,
)
from src.model.config import Config, model_config

_config_of = functools.cache(model_config)  # reading YAML takes milliseconds, and every test asks


class LanguageModel(Protocol):
    """What a test needs of a language model: a table model (see `oracle`), or the bundled GPT-2."""

    @property
    def description(self) -> str:
        """What it is, for a person."""

    @property
    def vocab_size(self) -> int:
        """The number of tokens that it knows."""

    @property
    def reference(self) -> Reference:
        """What stands for it among the arguments of a call."""

    @property
    def answerer(self) -> Answerer | None:
        """What answers a worker's calls of it; None where the worker has the model itself."""

    def config(self, top_k: int) -> Reference:
        """What stands for its config."""

    def past_of(self, ids: Ids) -> Reference:
        """What stands for its past after `ids` (B, T)."""

    def logits(self, ids: Ids) -> Logits:
        """What it answers to `ids` (B, T): logits (B, T, V)."""

    def last_logits(self, ids: Ids) -> Logits:
        """The last of them, (B, V)."""


class BundledGPT2:
    """The bundled GPT-2, which only workers have; the reference worker is asked for expected values."""

    description = "the bundled GPT-2"
    reference = GPT2Model()
    answerer = None

    def __init__(self, sandbox: Runner):
        self._sandbox = sandbox
        self._config = _config_of(sandbox.model_name)
        self.vocab_size = self._config.vocab_size

    def config(self, top_k: int) -> GPT2Config:
        """What stands for its config, whose top_k this must be."""
        assert top_k == self._config.top_k
        return GPT2Config()

    def past_of(self, ids: Ids) -> GPT2Past:
        """What stands for its past after `ids` (B, T)."""
        return GPT2Past(ids)

    def logits(self, ids: Ids) -> Logits:
        """What it answers to `ids` (B, T): logits (B, T, V)."""
        return self._sandbox.ask(AskLogits(ids, last=False), LogitsAnswer).logits

    def last_logits(self, ids: Ids) -> Logits:
        """The last of them, (B, V)."""
        return self._sandbox.ask(AskLogits(ids, last=True), LogitsAnswer).logits[:, 0]


class GPT2Test(PartTest):
    """A test that may use the bundled GPT-2."""

    not_finite = (NOT_A_NUMBER,)

    def call(self, input: str, file: str, function: str, *arguments: Argument, **options: Any) -> Returned:
        """As in `PartTest`. What GPT-2 is asked here, the next submissions are asked, too."""
        for model, ids in itertools.pairwise(arguments):
            if isinstance(model, GPT2Model) and isinstance(ids, np.ndarray) and len(ids) == 1:
                self.grading.sandbox.prepare(Remember(ids))
        return super().call(input, file, function, *arguments, **options)

    def explain(self, error: str, line: str) -> Mistakes:
        return diagnose_exception(error, line)

    @cached_property
    def config(self) -> Config:
        """The bundled model's config."""
        return _config_of(self.grading.sandbox.model_name)

    @cached_property
    def gpt2(self) -> BundledGPT2:
        """The bundled model."""
        return BundledGPT2(self.grading.sandbox)

    def encode(self, texts: Sequence[str]) -> tuple[Ids, ...]:
        """The token ids of each text, (T,)."""
        return self.grading.sandbox.ask(Encode(tuple(texts)), Encoded).ids
