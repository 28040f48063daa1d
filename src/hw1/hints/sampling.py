"""What can go wrong when text is sampled, and how each mistake shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from src.grading.part_test import Mistake, Mistakes
from src.hw1.hints.shared import DOUBLE_SOFTMAX, OVER_THE_BATCH, first_that_applies
from src.hw1.messages import FILTERED, Ids
from src.hw1.oracle import AnyFloats, Asked, Floats, entropy, fits, log_softmax, log_sum_exp, top_k

SIMILAR = 5.0  # nats: mistakes whose log-likelihoods differ by less explain the draws about equally well

UNFILTERED = Mistake(
    "unfiltered",
    "tokens outside the top k were drawn; draw from the logits that `top_k_logits` returned",
    (lambda case: np.exp(case.log_p) if case.k else None,),
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


def _softmax_over_the_batch(case: DrawsCase) -> Floats | None:
    if case.batch is None:
        return None
    rows = np.where(np.isfinite(top_k(case.batch, case.k)), case.batch.astype(np.float64), FILTERED)
    share = np.exp(case.filtered - log_sum_exp(rows.T))
    return np.asarray(share / share.sum())


# Each variant gives the probabilities (V,) of the first token; None where this case cannot show the mistake.
DRAW_MISTAKES = (
    Mistake(
        "greedy",
        "it looks as if the most likely token is always taken; draw at random, with the model's probabilities",
        (_greedy,),
    ),
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
    Mistake(
        "sharpened",
        "the draws follow a power of the probabilities, not the probabilities themselves",
        (
            lambda case: np.exp(log_softmax(case.filtered * 0.5)),
            lambda case: np.exp(log_softmax(case.filtered * 2.0)),
        ),
    ),
    Mistake(
        "rank for token",
        "the rank among the top k is taken for the token; which token ids have these ranks?",
        (lambda case: np.sort(np.exp(log_softmax(case.filtered)))[::-1],),
    ),
    OVER_THE_BATCH.with_variants(_softmax_over_the_batch),
)


def diagnose_draws(counts: Floats, case: DrawsCase) -> Mistakes:
    """The mistake that explains how often each token was drawn first, `counts` (V,)."""
    fitting = list(_fitting(counts, case))
    best = max((log_likelihood for _, log_likelihood in fitting), default=0.0)
    for mistake, log_likelihood in fitting:  # the first that explains the counts about as well as the best does
        if log_likelihood > best - SIMILAR:
            return (mistake,)
    if counts[~case.kept].any():
        return (UNFILTERED,)
    return (SHARED_DRAW,) if counts.max() == counts.sum() else ()


def _fitting(counts: Floats, case: DrawsCase) -> Iterator[tuple[Mistake, float]]:
    """The mistakes whose probabilities the counts fit, each with the counts' log-likelihood."""
    for mistake in DRAW_MISTAKES:
        for variant in mistake.variants:
            probabilities = variant(case)
            if probabilities is not None and fits(counts, probabilities):
                with np.errstate(divide="ignore", invalid="ignore"):
                    yield mistake, float(np.nansum(counts * np.log(probabilities)))


# --- the second token ---


@dataclass(frozen=True)
class PairsCase:
    """Two tokens that are drawn after one prompt.

    Attributes:
        probabilities: p(a, b), (V, V)
        after: what the model answers after the prompt and the first token that was drawn most often
    """

    probabilities: Floats
    after: DrawsCase


STALE_LOGITS = Mistake(
    "stale logits",
    "the second token does not depend on the first; what does the model have to see next?",
    (lambda case: np.outer(case.probabilities.sum(axis=1), case.probabilities.sum(axis=1)),),
)


def diagnose_pairs(counts: Floats, case: PairsCase) -> Mistakes:
    """The mistake that explains how often each pair of tokens was drawn, `counts` (V, V); each first token is right."""
    if any(fits(counts.reshape(-1), variant(case).reshape(-1)) for variant in STALE_LOGITS.variants):
        return (STALE_LOGITS,)
    firsts, right = counts.sum(axis=1), case.probabilities
    if mistakes := diagnose_draws(counts[firsts.argmax()], case.after):
        return mistakes
    surprise, expected = entropy(counts) - entropy(firsts), entropy(right) - entropy(right.sum(axis=1))
    return (REPEATED_DRAW,) if surprise < 0.7 * expected else ()


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
    Mistake("not the new token", "the model is not fed the token that was just drawn", (lambda case: True,)),
)


def diagnose_feeding(asked: Asked, text: Ids) -> Mistakes:
    """The mistake in a call of the model when `text` (B, T) was there and its last token was new; often none."""
    case = FeedingCase(asked, text)
    return () if case.is_right else first_that_applies(FEEDING_MISTAKES, case)
