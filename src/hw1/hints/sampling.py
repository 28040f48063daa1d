"""What can go wrong when text is sampled, and how each mistake shows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

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
from src.hw1.oracle import AnyFloats, Asked, Floats, log_softmax, log_sum_exp, top_k

SIMILAR = 5.0  # nats: mistakes whose log-likelihoods differ by less explain the draws about equally well
FEW, MANY = 4, 100  # draws in one context: fewer fit almost anything
CLEARLY = 8.0  # nats: an explanation that is so much better is not chance
POWERS = np.exp(np.linspace(np.log(0.15), np.log(6), 241))  # which may have been taken of the probabilities

UNFILTERED = Mistake(
    "unfiltered",
    "tokens outside the top k were drawn; draw from the logits that `top_k_logits` returned",
    (lambda case: np.exp(case.log_p) if case.k else None,),
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
        shape = (len(self.prompts), self.length)
        return self.ids.shape == shape and not np.array_equal(self.ids[:, :1], self.prompts[:, :1])


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
    """One prompt, and what the model answers to it.

    Attributes:
        logits: of the next token, (V,), not filtered yet
        k: how many tokens pass the filter; 0 for all
        batch: the logits after each of the prompts that were sampled together, (n, V)
    """

    logits: AnyFloats
    k: int
    batch: AnyFloats | None = None

    @cached_property
    def log_p(self) -> Floats:
        """log p of each token before the filter, (V,)."""
        return log_softmax(self.logits)

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """Which tokens pass the filter, (V,)."""
        return np.isfinite(top_k(self.logits, self.k))

    @cached_property
    def filtered(self) -> AnyFloats:
        """The logits behind the filter, (V,)."""
        return np.where(self.kept, self.logits, FILTERED)


def _greedy(case: DrawsCase) -> Floats:
    probabilities = np.zeros(len(case.logits))
    probabilities[case.log_p.argmax()] = 1
    return probabilities


def _by_logits(case: DrawsCase) -> AnyFloats:
    weights = np.maximum(case.logits, 0) * case.kept
    return np.asarray(weights / max(1e-9, weights.sum()))


def _with_power(power: float, case: DrawsCase) -> Floats:
    return np.exp(log_softmax(case.filtered * power))


def _neighbour(step: int, case: DrawsCase) -> Floats:
    """What a search in the cumulative sums draws if it stops `step` tokens too late."""
    probabilities, index = np.zeros(len(case.logits)), np.arange(len(case.logits))
    np.add.at(probabilities, (index + step).clip(0, len(index) - 1), np.exp(log_softmax(case.filtered)))
    return probabilities


def _softmax_over_the_batch(case: DrawsCase) -> Floats | None:
    if case.batch is None:
        return None
    rows = np.where(np.isfinite(top_k(case.batch, case.k)), case.batch.astype(np.float64), FILTERED)
    share = np.exp(case.filtered - log_sum_exp(rows.T))
    return np.asarray(share / share.sum())


GREEDY = Mistake(
    "greedy",
    "the most likely token is taken every time; draw at random, with the model's probabilities, and with new random "
    "numbers for each draw",
    (_greedy,),
)
SHARPENED = Mistake(
    "sharpened",
    "the draws follow a power of the probabilities, not the probabilities themselves",
    tuple(partial(_with_power, power) for power in (0.5, 2.0, 1 / 3, 0.7, 1.5)),
)

# Each variant gives the probabilities (V,) of the first token; None where this case cannot show the mistake.
DRAW_MISTAKES = (
    GREEDY,
    Mistake(
        "uniform",
        "all tokens are drawn equally often; over which axis does your softmax sum to 1?",
        (lambda case: np.full(len(case.logits), 1 / len(case.logits)),),
    ),
    Mistake(
        "uniform over top k",
        "all of the top k tokens are drawn equally often; their probabilities should matter",
        (lambda case: case.kept / case.kept.sum() if case.k else None,),
    ),
    DOUBLE_SOFTMAX.with_variants(
        lambda case: np.exp(log_softmax(np.exp(log_softmax(case.filtered)))),
        lambda case: np.exp(log_softmax(np.exp(case.log_p))),
    ),
    UNFILTERED,
    Mistake(
        "logits as weights",
        "the draws follow the logits themselves; turn them into probabilities first",
        (_by_logits,),
    ),
    SHARPENED,
    Mistake(
        "rank for token",
        "the rank among the top k is taken for the token; which token ids have these ranks?",
        (lambda case: np.sort(np.exp(log_softmax(case.filtered)))[::-1],),
    ),
    Mistake(
        "neighbour",
        "each token is drawn with its neighbour's probability; which token does your cumulative sum stop at?",
        (partial(_neighbour, 1), partial(_neighbour, -1)),
    ),
    OVER_THE_BATCH.with_variants(_softmax_over_the_batch),
)


Seen = Sequence[tuple[DrawsCase, Floats]]  # contexts, and how often each token was drawn there, (V,)


def diagnose_draws(seen: Seen) -> Mistakes:
    """The mistake that explains how often each token was drawn in each context; the first was seen the most often."""
    fitting = list(_fitting(seen))
    best = max((log_likelihood for _, log_likelihood in fitting), default=0.0)
    for mistake, log_likelihood in fitting:  # the first that explains the counts about as well as the best does
        if log_likelihood > best - SIMILAR:
            return (mistake,)
    if any(counts[~case.kept].any() for case, counts in seen):
        return (UNFILTERED,)
    (_, counts), *_ = seen
    return (SHARED_DRAW,) if counts.sum() > 1 and counts.max() == counts.sum() else ()


def _fitting(seen: Seen) -> Iterator[tuple[Mistake, float]]:
    """The mistakes to which the draws fit, each with their log-likelihood."""
    for mistake in DRAW_MISTAKES:
        for variant in mistake.variants:
            explained = [(variant(case), counts) for case, counts in seen]
            if sum(counts.sum() for p, counts in explained if p is None) and explained[0][1].sum() < MANY:
                continue  # too few of the draws show anything
            found = [_surprise(counts, p) for p, counts in explained]
            total, expected, variance = np.sum(found, axis=0)
            if math.isfinite(total) and abs(total - expected) <= 5 * math.sqrt(variance) + 1e-6 * abs(total):
                yield mistake, total


def _surprise(counts: Floats, probabilities: AnyFloats | None) -> tuple[float, float, float]:
    """The log-likelihood of the counts, its expectation and its variance; -inf where the counts do not fit."""
    if probabilities is None:
        return 0.0, 0.0, 0.0
    with np.errstate(divide="ignore"):
        log_p = np.log(np.maximum(np.asarray(probabilities, np.float64), 0))
    n, kept = counts.sum(), np.isfinite(log_p)
    if counts[~kept].any() or (n > FEW and not fits(counts, probabilities)):
        return -math.inf, 0.0, 0.0
    p, log_p = np.exp(log_p[kept]), log_p[kept]
    mean = float(p @ log_p)
    return float(counts[kept] @ log_p), n * mean, n * float(p @ (log_p - mean) ** 2)


# --- all draws together ---


def diagnose_power(draws: Sequence[Draws], temperature: float | None) -> Mistakes:
    """The mistake of drawing from a power of the right probabilities, if that explains all draws."""
    draws = together(draws)
    if any(each.outside for each in draws):
        return ()

    def explained(power: float) -> float:
        return sum(each.log_likelihood(log_softmax(each.answer.log_p * power)) for each in draws)

    best = max(POWERS, key=explained)
    if best in (POWERS[0], POWERS[-1]) or explained(best) < explained(1.0) + CLEARLY:
        return ()
    rest = Evidence()
    for each in draws:
        rest.add(replace(each, answer=replace(each.answer, log_p=log_softmax(each.answer.log_p * best))))
    if rest.log_factor > CLEARLY:  # something else is wrong, too
        return ()
    if temperature:
        for mistake, power in ((UNCHANGED, temperature), (MULTIPLIED, temperature**2), (SQUARED, 1 / temperature)):
            if explained(power) > explained(best) - SIMILAR:
                return (mistake,)
    return (SHARPENED,)


# --- how draws depend on each other ---


@dataclass(frozen=True)
class FollowersCase:
    """Tokens that were drawn after other tokens were.

    Attributes:
        if_stale: log p of each in the context of the first draw of its row, (N,)
        stale_moments: expectation and variance of their sum if they are drawn there
        repeated: how often the token before is drawn again
        repeated_moments: expectation and variance of that if the draws are right
        are_same: whether every call with a prompt drew the same, and that not only the most likely tokens
        firsts_fit: whether the first draws of all rows are right
    """

    if_stale: Floats
    stale_moments: tuple[float, float]
    repeated: int
    repeated_moments: tuple[float, float]
    are_same: bool
    firsts_fit: bool

    @property
    def is_stale(self) -> bool:
        """Whether the draws fit the first context of their rows."""
        return _deviation(float(self.if_stale.sum()), *self.stale_moments) < 5

    @property
    def is_repeated(self) -> bool:
        """Whether the draws depend on those before."""
        return self.are_same or (self.firsts_fit and _deviation(self.repeated, *self.repeated_moments) > 8)


FOLLOWING_MISTAKES = (
    STALE_LOGITS.with_variants(lambda case: case.is_stale),
    REPEATED_DRAW.with_variants(lambda case: case.is_repeated),
)


def _deviation(got: float, expected: float, variance: float) -> float:
    """How many standard deviations lie between what was got and what was expected."""
    return abs(got - expected) / math.sqrt(variance) if math.isfinite(got) and variance > 0 else math.inf


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
