"""What crosses between the grader and a worker of homework 1, besides the core's own messages."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.grading.sandbox.messages import Reference
from src.grading.sandbox.protocol import Array, Message

FILTERED = -1e10  # the logit of a token that must not be drawn, as the starter code has it

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


# --- references: arguments of a student's function that only the worker has ---


@dataclass(frozen=True)
class GPT2Model(Reference):
    """The bundled GPT-2."""


@dataclass(frozen=True)
class Remember(Message):
    """Submissions will be asked again what the bundled GPT-2 makes of `ids` (1, T)."""

    ids: Ids


@dataclass(frozen=True)
class GPT2Config(Reference):
    """Its config."""


@dataclass(frozen=True)
class GPT2Past(Reference):
    """What it returns as its past after `ids` (B, T)."""

    ids: Ids


@dataclass(frozen=True)
class RemoteModel(Reference):
    """A table model; it lives in the grader's process, which is asked for its logits."""

    vocab_size: int


@dataclass(frozen=True)
class LocalModel(Reference):
    """A table model; the worker runs it."""

    vocab_size: int
    seed: int
    n_ctx: int


@dataclass(frozen=True)
class RemoteConfig(Reference):
    """A table model's config."""

    vocab_size: int
    top_k: int
    n_ctx: int


@dataclass(frozen=True)
class RemotePast(Reference):
    """A table model's past after `ids` (B, T)."""

    ids: Ids


@dataclass(frozen=True)
class Trainable(Reference):
    """A tensor with these values that requires a gradient, as what a model in training returns."""

    values: Logits


@dataclass(frozen=True)
class RightLikelihood(Reference):
    """Stands in for `log_likelihood`: the right value for one text under one model."""

    model: Reference
    text: tuple[int, ...]
    value: float  # nats


# --- a worker's question to a table model ---


@dataclass(frozen=True)
class TableQuestion(Message):
    """A call of the table model; its arguments are as the student's code has given them."""

    ids: Array  # (B, T), hopefully
    past: Array | None  # the ids that the past stands for, (B, P)


@dataclass(frozen=True)
class TableAnswer(Message):
    """The table model's answer."""

    logits: Logits  # (B, T, V)
    past: Ids  # (B, P + T)


@dataclass(frozen=True)
class TableRefusal(Message):
    """The arguments make no sense; the worker raises a ValueError with this text."""

    text: str


# --- the grader's questions to the reference worker ---


@dataclass(frozen=True)
class Encode(Message):
    """What are the token ids of these texts?"""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Encoded(Message):
    """The token ids of each text, (T,)."""

    ids: tuple[Ids, ...]


@dataclass(frozen=True)
class AskLogits(Message):
    """What does the bundled model answer to `ids` (B, T), or to the `last` token of each text alone?"""

    ids: Ids
    last: bool


@dataclass(frozen=True)
class LogitsAnswer(Message):
    """Its logits, (B, T, V) or (B, 1, V)."""

    logits: Logits


# --- the grader's question to a reader ---


@dataclass(frozen=True)
class ReadSubmit(Message):
    """What is in submit/?"""

    model: str  # the name of the model with which the grader works


@dataclass(frozen=True)
class SubmitContent(Message):
    """What is wrong in submit/, and the values in its files."""

    problems: tuple[str, ...]  # a line each
    likelihoods: tuple[NDArray[np.float64], ...]  # of each data set; empty where the file cannot be read
    decisions: NDArray[np.bool_]  # empty where the file cannot be read
    made_here: tuple[str, ...]  # those files that the grader's model made
