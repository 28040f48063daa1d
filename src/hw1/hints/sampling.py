"""What can go wrong when text is sampled, and how each mistake shows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.grading.part_test import Mistake, Mistakes
from src.hw1.evidence import Draws, Evidence, fits, together
from src.hw1.hints.shared import (
    DOUBLE_SOFTMAX,
    MULTIPLIED,
    OVER_THE_BATCH,
    SQUARED,
    UNCHANGED,
    first_that_applies,
)
from src.hw1.messages import FILTERED, Ids
from src.hw1.oracle import AnyFloats, Asked, Floats, log_softmax, top_k

SIMILAR = 5.0  # nats: mistakes whose log-likelihoods differ by less explain the draws about equally well
MANY = 40  # draws in one context, which tell something
CLEARLY = 8.0  # nats: an explanation that is 3,000 times as likely is not chance
POWERS = np.exp(np.linspace(np.log(0.15), np.log(6), 241))  # which may have been taken of the probabilities

UNFILTERED = Mistake(
    "unfiltered",
    "tokens outside the top k were drawn; draw from the logits that `top_k_logits` returned",
    (lambda case: np.exp(case.log_p),),
)
STALE_LOGITS = Mistake(
    "stale logits", "the second token does not depend on the first; what does the model have to see next?"
)
SHARED_DRAW = Mistake("shared draw", "all prompts of the batch get the same token; each needs a draw of its own")
REPEATED_DRAW = Mistake(
    "repeated draw", "the draws repeat each other; each step and each prompt needs new random numbers"
)


# --- the shape of what `sample` returns ---


@dataclass(frozen=True)
class ShapeCase:
    """What `sample` returned, with the wrong shape, for prompts (B, T) and a length."""

    ids: Ids
    prompts: Ids
    length: int

    @property
    def has_new_tokens_only(self) -> bool:
        """Whether these are the new tokens without the prompts."""
        if self.ids.shape != (len(self.prompts), self.length):
            return False
        both = min(self.length, self.prompts.shape[1])
        return not np.array_equal(self.ids[:, :both], self.prompts[:, :both])


NOT_IDS = Mistake(
    "not token ids",
    "the result holds other numbers than token ids; append the tokens that were drawn, not what they were drawn from",
)
SHAPE_MISTAKES = (
    Mistake(
        "not appended",
        "the new tokens are missing; append each one to the output",
        (lambda case: np.array_equal(case.ids, case.prompts),),
    ),
    Mistake(
        "only new tokens",
        "only the new tokens are returned; the prompt belongs in front of them",
        (lambda case: case.has_new_tokens_only,),
    ),
    Mistake(
        "wrong length",
        "count the tokens: the result must have those of the prompt and exactly `length` more",
        (lambda case: case.ids.ndim == 2,),
    ),
    Mistake(
        "one dimension",
        "keep the batch dimension: the result has two dimensions, even for a single prompt",
        (lambda case: case.ids.ndim == 1,),
    ),
)


def diagnose_shape(ids: Ids, prompts: Ids, length: int) -> Mistakes:
    """The mistake behind `ids`, which do not have the shape of `prompts` (B, T) continued by `length` tokens."""
    return first_that_applies(SHAPE_MISTAKES, ShapeCase(ids, prompts, length))


# --- how often each token is drawn ---


@dataclass(frozen=True)
class DrawsCase:
    """Contexts in which tokens were drawn.

    Attributes:
        logits: of the next token in each, not filtered yet, (B, n, V); the B texts were in one batch
        k: how many tokens pass the filter; 0 for all
    """

    logits: AnyFloats
    k: int

    @cached_property
    def log_p(self) -> Floats:
        """log p of each token before the filter, (B, n, V)."""
        return log_softmax(self.logits)

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """Which tokens pass the filter, (B, n, V)."""
        return np.isfinite(top_k(self.logits, self.k))

    @cached_property
    def filtered(self) -> Floats:
        """The logits behind the filter, (B, n, V)."""
        return np.where(self.kept, self.logits, FILTERED).astype(np.float64)


def _softmax(logits: AnyFloats) -> Floats:
    return np.exp(log_softmax(logits))


def _normalised(weights: ArrayLike) -> Floats:
    weights = np.asarray(weights, np.float64)
    return np.asarray(weights / np.maximum(1e-9, weights.sum(axis=-1, keepdims=True)))


def _neighbour(step: int, case: DrawsCase) -> Floats:
    """What a search in the cumulative sums draws if it stops one token too late (step 1) or too early (-1)."""
    p = _softmax(case.filtered)
    moved = np.roll(p, step, axis=-1)
    first, last = (0, -1)[::step]  # what went over the end belongs to the last token
    moved[..., last] += p[..., last]
    moved[..., first] = 0
    return moved


GREEDY = Mistake(
    "greedy",
    "the most likely token is taken every time; draw at random, with the model's probabilities, and with new random "
    "numbers for each draw",
    (lambda case: _normalised(case.log_p == case.log_p.max(axis=-1, keepdims=True)),),
)
SHARPENED = Mistake(
    "sharpened",
    "likely tokens are drawn too often or too rarely, as if from a power of the probabilities; draw from the "
    "probabilities themselves",
    tuple(
        partial(lambda power, case: _softmax(case.filtered * power), power)
        for power in (0.5, 2.0, 0.25, 1 / 3, 0.7, 0.85, 1.2, 1.5, 3.0)
    ),
)

# Each variant gives the probabilities (B, n, V) to which the mistake leads.
DRAW_MISTAKES = (
    GREEDY,
    Mistake(
        "uniform",
        "all tokens are drawn equally often; over which axis does your softmax sum to 1?",
        (lambda case: _normalised(np.ones(case.logits.shape)),),
    ),
    Mistake(
        "uniform over top k",
        "all of the top k tokens are drawn equally often; their probabilities should matter",
        (lambda case: _normalised(case.kept),),
    ),
    DOUBLE_SOFTMAX.with_variants(
        lambda case: _softmax(_softmax(case.filtered)),
        lambda case: _softmax(_softmax(case.logits)),
    ),
    UNFILTERED,
    Mistake(
        "logits as weights",
        "the draws follow the logits themselves; turn them into probabilities first",
        (lambda case: _normalised(np.maximum(case.logits, 0) * case.kept),),
    ),
    SHARPENED,
    Mistake(
        "rank for token",
        "the rank among the top k is taken for the token; which token ids have these ranks?",
        (lambda case: np.sort(_softmax(case.filtered))[..., ::-1],),
    ),
    Mistake(
        "neighbour",
        "each token is drawn with its neighbour's probability; which token does your cumulative sum stop at?",
        (partial(_neighbour, 1), partial(_neighbour, -1)),
    ),
    OVER_THE_BATCH.with_variants(lambda case: _normalised(_softmax(case.filtered.T).T)),
)


def diagnose_draws(case: DrawsCase, drawn: Ids) -> Mistakes:
    """The mistake that explains the tokens `drawn` (B, n) clearly better than the right answer, and best of all.

    Empty also if a power of the right probabilities does, of which all draws have to tell.
    """
    right = _log_likelihood(_softmax(case.filtered), drawn)
    found = [(m, variant, _log_likelihood(variant(case), drawn)) for m in DRAW_MISTAKES for variant in m.variants]
    enough = max(right + CLEARLY, max(log_likelihood for _, _, log_likelihood in found) - SIMILAR)
    for mistake, variant, log_likelihood in found:
        if log_likelihood > enough and (mistake is SHARPENED or _look_like(case, drawn, variant(case))):
            return () if mistake is SHARPENED else (mistake,)
    return ()


def _of_drawn(values: NDArray[Any], drawn: Ids) -> NDArray[Any]:
    return np.take_along_axis(values, drawn[..., None], axis=-1)[..., 0]


def _log_likelihood(p: Floats, drawn: Ids) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(_of_drawn(p, drawn)).sum())


def _look_like(case: DrawsCase, drawn: Ids, p: Floats) -> bool:
    """Whether the draws look as if drawn with the probabilities `p`: by sums of log-probabilities, and by counts."""
    for log_p in (np.log(np.where(p > 0, p, 1)), case.log_p):
        mean = (p * log_p).sum(axis=-1)
        variance = (p * (log_p - mean[..., None]) ** 2).sum()
        got = _of_drawn(log_p, drawn).sum()
        if abs(got - mean.sum()) > 5 * math.sqrt(variance) + 1e-6 * abs(got):
            return False
    size = p.shape[-1]
    _, context, repeats = np.unique(case.logits.reshape(-1, size), axis=0, return_inverse=True, return_counts=True)
    of_contexts = ((context.reshape(-1) == often) for often in np.flatnonzero(repeats >= MANY))
    tokens, p = drawn.reshape(-1), p.reshape(-1, size)
    return all(fits(np.bincount(tokens[here], minlength=size), p[here][0]) for here in of_contexts)


# --- all draws together ---

TOO_OFTEN = Mistake(
    "too often",
    "one token is drawn too often, wherever it may be drawn; does anything change its probability before the draw?",
)
TOO_RARELY = Mistake(
    "too rarely",
    "one token is drawn too rarely, wherever it may be drawn; does anything change its probability before the draw?",
)


def diagnose_all(draws: Sequence[Draws], temperature: float | None) -> Mistakes:
    """The mistake that explains all draws clearly better than the right answer and the other mistakes here do."""
    if any(each.outside for each in draws):
        return (UNFILTERED,)
    again, other = np.sum([each.log_factors_of_repeats() for each in draws], axis=0)
    draws = together(draws)
    of_repeats = ((again, (REPEATED_DRAW,)), (other, ()))
    found = sorted([*of_repeats, _of_a_power(draws, temperature), *_of_a_token(draws), (0.0, ())], key=lambda f: f[0])
    (second, _), (best, mistakes) = found[-2:]
    return mistakes if best > second + CLEARLY else ()


def _of_a_token(draws: Sequence[Draws]) -> Iterator[tuple[float, Mistakes]]:
    """By which factor another probability of one token explains the draws better, as a logarithm; the mistake."""
    for each in draws:
        for mistake, factors in zip((TOO_OFTEN, TOO_RARELY), each.log_factors_of_tokens(), strict=True):
            if len(factors):
                *_, second, best = np.sort(factors)
                yield best, (mistake,) if second < CLEARLY else ()  # or it is more than one token


def _of_a_power(draws: Sequence[Draws], temperature: float | None) -> tuple[float, Mistakes]:
    """By which factor a power of the right probabilities explains the draws better, as a logarithm; the mistake."""

    def explained(power: float) -> float:
        return sum(each.log_likelihood(log_softmax(each.answer.log_p * power)) for each in draws)

    best = max(POWERS, key=explained)
    factor = explained(best) - explained(1.0)
    rest = Evidence()
    for each in draws:
        rest.add(replace(each, answer=replace(each.answer, log_p=log_softmax(each.answer.log_p * best))))
    if best in (POWERS[0], POWERS[-1]) or rest.log_factor > CLEARLY:  # it is something else, or something else, too
        return factor, ()
    if temperature:
        for mistake, power in ((UNCHANGED, temperature), (MULTIPLIED, temperature**2), (SQUARED, 1 / temperature)):
            if explained(power) > explained(best) - SIMILAR:
                return factor, (mistake,)
    return factor, (SHARPENED,)


# --- how draws depend on each other ---


@dataclass(frozen=True)
class FollowersCase:
    """Tokens that were drawn after other tokens were.

    Attributes:
        if_stale: log p of each in the context of the first draw of its row, (N,)
        stale_moments: expectation and variance of their sum if they are drawn there
        repeated: how many are the token before once more, and how many are not
        repeated_p: the mean probability of either if the draws are right
        firsts_fit: whether the first draws of all rows are right
    """

    if_stale: Floats
    stale_moments: tuple[float, float]
    repeated: tuple[int, int]
    repeated_p: tuple[float, float]
    firsts_fit: bool

    @property
    def is_stale(self) -> bool:
        """Whether the draws fit the first context of their rows."""
        (mean, variance), got = self.stale_moments, float(self.if_stale.sum())
        return math.isfinite(got) and abs(got - mean) < 5 * math.sqrt(variance)

    @property
    def is_repeated(self) -> bool:
        """Whether the draws depend on those before."""
        again, others = self.repeated
        is_more = again > self.repeated_p[0] * (again + others)
        return self.firsts_fit and is_more and not fits(self.repeated, self.repeated_p)


FOLLOWING_MISTAKES = (
    STALE_LOGITS.with_variants(lambda case: case.is_stale),
    REPEATED_DRAW.with_variants(lambda case: case.is_repeated),
)


# --- what the model is fed ---


@dataclass(frozen=True)
class FeedingCase:
    """One call of the model, and the text (B, T) that was there; its last token is new."""

    asked: Asked
    text: Ids

    @property
    def is_right(self) -> bool:
        """Whether the model was fed the new token alone, with a past of all others."""
        past = self.asked.past
        is_new_token = np.array_equal(self.asked.ids, self.text[:, -1:])
        return is_new_token and past is not None and np.array_equal(past, self.text[:, :-1])

    @property
    def is_whole_text(self) -> bool:
        """Whether the model was fed the whole text."""
        return np.array_equal(self.asked.ids, self.text)

    @property
    def is_window(self) -> bool:
        """Whether the model was fed more than one of the last tokens."""
        size = self.asked.ids.shape[1]
        return size > 1 and np.array_equal(self.asked.ids, self.text[:, -size:])


FEEDING_MISTAKES = (
    Mistake(
        "whole text and past",
        "the whole text is fed to the model again, along with `past`; `past` remembers it already",
        (lambda case: case.is_whole_text and case.asked.past is not None,),
    ),
    Mistake(
        "whole text",
        "the whole text is fed to the model at every step; with `past`, it needs only what it has not seen yet",
        (lambda case: case.is_whole_text and case.asked.past is None,),
    ),
    Mistake(
        "past dropped",
        "the new token is fed to the model without `past`, so the model forgets all that came before",
        (lambda case: case.asked.ids.shape[1] == 1 and case.asked.past is None,),
    ),
    Mistake(
        "window again",
        "tokens that the model has seen before are fed to it again, along with `past`; only the newest is new",
        (lambda case: case.is_window and case.asked.past is not None,),
    ),
    Mistake("not the new token", "the model is not fed the token that was just drawn", (lambda case: True,)),
)


def diagnose_feeding(asked: Asked, text: Ids) -> Mistakes:
    """The mistake in a call of the model when `text` (B, T) was there and its last token was new; often none."""
    case = FeedingCase(asked, text)
    return () if case.is_right else first_that_applies(FEEDING_MISTAKES, case)
