"""Language models that are tables, and the right answers about them: by enumeration, in float64.

A table model says how likely each token is after the last two, at this position. Nothing is learnt, so everything
about it can be computed. It lives in the grader's process and answers a worker's questions; it also remembers them, so
that a test can see what the student's code has fed to the model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.errors import ProtocolError
from src.grading.sandbox.protocol import MAX_BLOB, Message
from src.hw1.messages import (
    Ids,
    Logits,
    RemoteConfig,
    RemoteModel,
    RemotePast,
    TableAnswer,
    TableQuestion,
    TableRefusal,
)

Floats = NDArray[np.float64]
AnyFloats = NDArray[np.floating[Any]]
CompactIds = NDArray[np.uint16]

MAX_ROWS, MAX_CALLS, MAX_ASKED = 20_000, 5_000, 20_000_000  # of one call; of all; ids in all calls together
FALSE_ALARM = 1e-7  # the probability that `fits` rejects draws from the right distribution


@dataclass(frozen=True)
class Asked:
    """One call of a table model: its ids, (B, T), and those that `past` stood for, (B, P) or None."""

    ids: CompactIds
    past: CompactIds | None


class TableModel:
    """Logits of the next token from a table [position mod 3, token before last, last token]."""

    question: type[Message] = TableQuestion  # what a worker asks it; see `Answerer`

    def __init__(self, vocab_size: int, seed: int, n_ctx: int = 64):
        self.vocab_size = vocab_size
        self.n_ctx = n_ctx
        rng = np.random.default_rng(seed)
        self._table = (1.5 * rng.standard_normal((3, vocab_size, vocab_size, vocab_size))).astype(np.float32)
        self.asked: list[Asked] = []
        self._ids_asked = 0

    @property
    def description(self) -> str:
        """What it is, for a person."""
        return f"a test model that knows {self.vocab_size} tokens"

    @property
    def answerer(self) -> "TableModel":
        """What answers a worker's calls of it: itself, in the grader's process."""
        return self

    @property
    def reference(self) -> RemoteModel:
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
        before = np.concatenate((np.zeros_like(ids[:, :1]), ids[:, :-1]), axis=1)
        return self._table[np.arange(ids.shape[1]) % 3, before, ids]

    def answer(self, question: TableQuestion) -> TableAnswer | TableRefusal:
        """Answer a worker's call of the model, and remember it.

        Raises:
            ProtocolError: no honest code would ask so much.
        """
        ids, past = question.ids, question.past
        problem = _problem(self, ids, past)
        if problem:
            return TableRefusal(problem)
        self._ids_asked += ids.size + (0 if past is None else past.size)
        if self._ids_asked > MAX_ASKED or len(self.asked) > MAX_CALLS:
            raise ProtocolError("the model was asked far too much")
        self.asked.append(Asked(_compact(ids), None if past is None else _compact(past)))
        if past is None:
            past = ids[:, :0]
        if past.shape[0] == 1:
            past = np.repeat(past, len(ids), axis=0)
        known = np.concatenate((past, ids), axis=1)
        return TableAnswer(self.logits(known)[:, past.shape[1] :], known)


def _compact(ids: Ids) -> CompactIds:
    """A copy of `ids` in as few bytes as they need; the message that they came in can then be forgotten."""
    return ids.astype(np.uint16)


def _problem(model: TableModel, ids: NDArray[Any], past: NDArray[Any] | None) -> str | None:
    """What is wrong with the arguments of a call, as GPT2 would say it."""
    for name, value in (("input_ids", ids), ("past", past)):
        if value is None:
            continue
        if value.dtype != np.int64:
            return f"{name} must hold token ids of type int64"
        if value.ndim != 2:
            return f"{name} has shape {value.shape}, but must have two dimensions, (B, T)"
        if value.size and not (value.min() >= 0 and value.max() < model.vocab_size):
            return f"{name} holds ids outside of the vocabulary, 0 to {model.vocab_size - 1}"
    if len(ids) > MAX_ROWS:
        return f"input_ids has {len(ids)} rows; this model takes at most {MAX_ROWS}"
    if ids.shape[1] == 0 or len(ids) == 0:
        return "input_ids has no tokens; give the model a text that is not empty"
    if past is not None and len(past) not in (1, len(ids)):
        return f"past has batch size {len(past)}, input_ids has {len(ids)}; they must agree"
    if ids.shape[1] + (0 if past is None else past.shape[1]) > model.n_ctx:
        return f"the text is longer than the model's {model.n_ctx} positions"
    known = len(ids) * (ids.shape[1] + (0 if past is None else past.shape[1]))
    if known * (4 * model.vocab_size + 8) > MAX_BLOB:  # the answer: float32 logits, and the ids as the new past
        return f"{len(ids)} texts with {known} tokens are more than this model answers at once"
    return None


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


def log_likelihood(logits: ArrayLike, ids: Sequence[int] | Ids) -> float:
    """log p of the tokens `ids` (T,) after the first, given the model's `logits` (T, V) for them, in nats."""
    log_p = log_softmax(logits)
    return math.fsum(log_p[i - 1, ids[i]] for i in range(1, len(ids)))


def marginal(log_first: Floats, log_second: Floats, temperature: float) -> Floats:
    """log p_T(first token), (K,), of the joint distribution of two tokens scaled by a temperature.

    Args:
        log_first: log p(a), (K,)
        log_second: log p(b | a), (K, V)
    """
    joint = (log_first[:, None] + log_second) / temperature
    return log_softmax(log_sum_exp(joint))


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


def improbability(counts: ArrayLike, probabilities: ArrayLike) -> float:
    """How unlikely such counts are, at most, if each draw has these probabilities: a bound, not an estimate.

    For one outcome with probability p, seen with frequency f in n draws, Chernoff's bound (Hoeffding 1963, theorem 1)
    is exp(-n KL(f || p)). Summed over both directions of all outcomes, it bounds the chance that any strays so far.
    """
    observed, p = np.asarray(counts, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    n = observed.sum()
    if n == 0:
        return 1.0
    f = observed / n
    if (f[p <= 0] > 0).any():
        return 0.0
    f, p = f[p > 0], np.minimum(p[p > 0], 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(f > 0, f * np.log(f / p), 0.0)
        divergence += np.where(f < 1, (1 - f) * (np.log1p(-f) - np.log1p(-p)), 0.0)
    return float(min(1.0, 2 * len(f) * math.exp(-n * max(0.0, np.nanmax(divergence)))))


def fits(counts: ArrayLike, probabilities: ArrayLike) -> bool:
    """Whether the counts of outcomes could come from these probabilities; wrongly False once in 1 / FALSE_ALARM."""
    return improbability(counts, probabilities) >= FALSE_ALARM


def entropy(weights: ArrayLike) -> float:
    """The entropy, in nats, of the distribution that is proportional to `weights`, all entries together."""
    p = np.asarray(weights, dtype=np.float64).reshape(-1)
    p = p[p > 0] / p.sum()
    return float(-(p * np.log(p)).sum())


def pair_probabilities(model: TableModel, prompt: Ids, k: int, temperature: float = 1.0) -> Floats:
    """p(a, b), (V, V), of the two tokens after `prompt` (T,), each from the top k at a temperature (horizon 1)."""
    size = model.vocab_size
    first = np.exp(log_softmax(top_k(model.logits(prompt[None])[0, -1], k) / temperature))  # (V,)
    extended = np.concatenate((np.repeat(prompt[None], size, axis=0), np.arange(size)[:, None]), axis=1)
    second = np.exp(log_softmax(top_k(model.logits(extended)[:, -1], k) / temperature))  # (V, V)
    return np.asarray(first[:, None] * second)
