"""Test models with their questions, and the right answers about them: by enumeration, in float64.

Everything about a table model (see `table.py`) can be computed. `TableModel` lives in the grader's process and answers
a worker's questions; it also remembers them, so that a test can see what the student's code has fed to the model.
`LocalTableModel` is run by the worker itself, which is faster: for tests that judge only what was drawn.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.errors import ProtocolError
from src.grading.sandbox.messages import Reference
from src.grading.sandbox.protocol import MAX_BLOB, Message
from src.hw1.messages import (
    Ids,
    LocalModel,
    Logits,
    RemoteConfig,
    RemoteModel,
    RemotePast,
    TableAnswer,
    TableQuestion,
    TableRefusal,
)
from src.hw1.table import Table

Floats = NDArray[np.float64]
AnyFloats = NDArray[np.floating[Any]]
CompactIds = NDArray[np.uint16]

MAX_CALLS, MAX_ASKED = 5_000, 20_000_000  # of a model; ids in all calls together


@dataclass(frozen=True)
class Asked:
    """One call of a table model: its ids, (B, T), and those that `past` stood for, (B, P) or None."""

    ids: CompactIds
    past: CompactIds | None


class AnswersTexts(Protocol):
    """A language model, as far as the right answers need it."""

    def logits(self, ids: Ids) -> Logits:
        """What it answers to `ids` (B, T): logits (B, T, V)."""

    def last_logits(self, ids: Ids) -> Logits:
        """The last of them, (B, V)."""


class TableModel:
    """A table model that the grader runs: it knows what it was asked."""

    question: type[Message] = TableQuestion  # what a worker asks it; see `Answerer`
    peaked = False  # see `ladder`

    def __init__(self, vocab_size: int, seed: int, n_ctx: int = 64):
        self.vocab_size = vocab_size
        self.seed = seed
        self.n_ctx = n_ctx
        self.table = Table(vocab_size, seed, n_ctx, self.peaked)
        self.asked: list[Asked] = []
        self._ids_asked = 0

    @property
    def description(self) -> str:
        """What it is, for a person."""
        return f"a test model that knows {self.vocab_size:,} tokens"

    @property
    def answerer(self) -> "TableModel | None":
        """What answers a worker's calls of it: itself, in the grader's process."""
        return self

    @property
    def reference(self) -> Reference:
        """What stands for this model among the arguments of a call."""
        return RemoteModel(self.vocab_size)

    def config(self, top_k: int) -> RemoteConfig:
        """What stands for this model's config."""
        return RemoteConfig(self.vocab_size, top_k, self.n_ctx)

    def past_of(self, ids: Ids) -> RemotePast:
        """What stands for the past after `ids` (B, T)."""
        return RemotePast(ids)

    def logits(self, ids: Ids) -> Logits:
        """Logits (B, T, V), float32, of the token after each of `ids` (B, T)."""
        return self.table.logits(self.table.sums(ids))

    def last_logits(self, ids: Ids) -> Logits:
        """The last of them, (B, V)."""
        return self.logits(ids)[:, -1]

    def answer(self, question: TableQuestion) -> TableAnswer | TableRefusal:
        """Answer a worker's call of the model, and remember it.

        Raises:
            ProtocolError: no honest code would ask so much.
        """
        ids, past = question.ids, question.past
        problem = self._problem(ids, past)
        if problem:
            return TableRefusal(problem)
        self._ids_asked += ids.size + (0 if past is None else past.size)
        if self._ids_asked > MAX_ASKED or len(self.asked) > MAX_CALLS:
            raise ProtocolError("the model was asked far too much")
        self.asked.append(Asked(_compact(ids), None if past is None else _compact(past)))
        known = ids if past is None else np.concatenate((_for_rows(past, len(ids)), ids), axis=1)
        return TableAnswer(self.logits(known)[:, known.shape[1] - ids.shape[1] :], known)

    def _problem(self, ids: NDArray[Any], past: NDArray[Any] | None) -> str | None:
        if past is None:
            problem, start = self.table.problem(ids), 0
        else:
            problem = self.table.problem_of_ids("past", past)
            start = 0 if problem else past.shape[1]
            problem = problem or self.table.problem(ids, len(past), start)
        tokens = 0 if problem else len(ids) * (start + ids.shape[1])
        if tokens * (4 * self.vocab_size + 8) > MAX_BLOB:  # the answer: float32 logits, and the ids as the new past
            return f"{len(ids)} texts with {tokens} tokens are more than this model answers at once"
        return problem


def _for_rows(past: Ids, rows: int) -> Ids:
    """A past of one row belongs to every text."""
    return np.repeat(past, rows, axis=0) if len(past) == 1 else past


def _compact(ids: Ids) -> CompactIds:
    """A copy of `ids` in as few bytes as they need; the message that they came in can then be forgotten."""
    return ids.astype(np.uint16)


class LocalTableModel(TableModel):
    """A table model that the worker runs: a call costs little, but nobody sees what the model is fed."""

    peaked = True
    answerer = None

    @property
    def reference(self) -> LocalModel:
        """What stands for this model among the arguments of a call."""
        return LocalModel(self.vocab_size, self.seed, self.n_ctx)


def seed_from(rng: np.random.Generator) -> int:
    """A seed for a table model."""
    return int(rng.integers(2**32))


def log_softmax(logits: ArrayLike) -> Floats:
    """log p of each entry along the last axis, float64."""
    values = np.asarray(logits, dtype=np.float64)
    shifted = values - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def log_sum_exp(values: Floats) -> Floats:
    """log Σ exp along the last axis, float64."""
    largest = values.max(axis=-1, keepdims=True)
    return np.asarray((largest + np.log(np.exp(values - largest).sum(axis=-1, keepdims=True)))[..., 0])


def top_k(logits: ArrayLike, k: int) -> Floats:
    """`logits` with -inf for all that are smaller than their row's k-th largest; k = 0 keeps all."""
    values = np.asarray(logits, dtype=np.float64)
    if k == 0:
        return values
    smallest = np.sort(values, axis=-1)[..., -min(k, values.shape[-1]), None]
    return np.where(values < smallest, -np.inf, values)


def shares(logits: AnyFloats, k: int = 0) -> dict[int, float]:
    """Token → probability, of those with the k largest `logits` (V,) (0: of all), by listing them."""
    largest = np.argsort(-logits, kind="stable")[: k or None].tolist()
    values = logits.tolist()
    weights = {token: math.exp(values[token] - values[largest[0]]) for token in largest}
    total = math.fsum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def log_likelihood(model: AnswersTexts, ids: Ids) -> float:
    """log p of the tokens `ids` (T,) after the first, in nats: all tokens are weighed against the one that came."""
    answers = zip(model.logits(ids[None])[0].astype(np.float64), ids[1:], strict=False)
    return -math.fsum(math.log(np.exp(answer - answer[token]).sum()) for answer, token in answers)


def pairs_after(model: AnswersTexts, ids: Ids, k: int) -> dict[tuple[int, int], float]:
    """(a, b) → p(a, b) of the two tokens after `ids` (T,), each from the top k: all pairs are listed."""
    found: dict[tuple[int, int], float] = {}
    first = shares(model.last_logits(ids[None])[0], k)
    longer = np.array([np.append(ids, a) for a in first])
    for (a, p), after in zip(first.items(), model.last_logits(longer), strict=True):
        found |= {(a, b): p * q for b, q in shares(after, k).items()}
    return found


def scaled_marginal(pairs: Mapping[tuple[int, int], float], temperature: float) -> dict[int, float]:
    """First token → its probability when the joint distribution of `pairs` is scaled: pair by pair."""
    weights: dict[int, float] = {}
    for (a, _), p in pairs.items():
        weights[a] = weights.get(a, 0.0) + p ** (1 / temperature)
    total = math.fsum(weights.values())
    return {a: weight / total for a, weight in weights.items()}


def close(got: float, expected: float) -> bool:
    """Whether two log-likelihoods are equal, but for what float32 arithmetic may lose over a long text."""
    return math.isfinite(got) and math.isclose(got, expected, rel_tol=2e-5, abs_tol=2e-3)


def same_distribution(got: AnyFloats, expected: AnyFloats, tolerance: float = 2e-4) -> bool:
    """Whether logits (..., V) define the same distributions: the probabilities differ by less than `tolerance`.

    Where the expected probability is not 0, their logarithms must differ by less than ten times that, too.
    """
    if not np.isfinite(np.where(got == -np.inf, 0.0, got)).all() or (got == -np.inf).all(axis=-1).any():
        return False
    log_got, log_expected = log_softmax(got), log_softmax(expected)  # -inf stays -inf
    if np.isnan(log_expected).any():  # what a mistake leads to is not always a distribution
        return False
    if np.abs(np.exp(log_got) - np.exp(log_expected)).max() > tolerance:
        return False
    possible = log_expected > -15  # below that, a right answer in probabilities may have lost it to rounding
    return bool(np.abs(log_got[possible] - log_expected[possible]).max() < 10 * tolerance)


def pair_probabilities(model: TableModel, prompt: Ids, k: int, temperature: float = 1.0) -> Floats:
    """p(a, b), (V, V), of the two tokens after `prompt` (T,), each from the top k at a temperature (horizon 1)."""
    size = model.vocab_size
    first = np.exp(log_softmax(top_k(model.logits(prompt[None])[0, -1], k) / temperature))  # (V,)
    extended = np.concatenate((np.repeat(prompt[None], size, axis=0), np.arange(size)[:, None]), axis=1)
    second = np.exp(log_softmax(top_k(model.logits(extended)[:, -1], k) / temperature))  # (V, V)
    return np.asarray(first[:, None] * second)
