"""Mistakes in the forward pass with a soft prompt, problem 1d."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.grading.part_test import Mistake, Mistakes
from src.hw10.hints.exceptions import NOT_TOKEN_IDS
from src.hw10.hints.prompting import NOT_FINITE, is_close
from src.hw10.small_lm import Floats, Ids, SmallLM, log_softmax


@dataclass(frozen=True)
class SoftCase:
    """A soft prompt (K, E) and texts (B, T)."""

    model: SmallLM
    prompt: Floats
    ids: Ids

    @property
    def embeddings(self) -> Floats:
        """Those of the texts, (B, T, E)."""
        return self.model.embedding[self.ids]

    def rows(self, vectors: NDArray[Any]) -> Floats:
        """What the model says after each of `vectors`, (B, n, E) → (B, n, V)."""
        return np.stack([self.model.rows(each) for each in vectors])

    def before(self, prompt: NDArray[Any] | None = None) -> Floats:
        """What it says at all places where the prompt, or another one, (K, E) or (B, K, E), stands before the texts."""
        prompts = np.broadcast_to(self.prompt if prompt is None else prompt, (len(self.ids), *self.prompt.shape))
        return self.rows(np.concatenate((prompts, self.embeddings), axis=1))

    def behind(self) -> Floats:
        """What it says at all places where the prompt stands behind the texts."""
        return self.rows(np.concatenate((self.embeddings, self.prompts), axis=1))

    @property
    def prompts(self) -> Floats:
        """The prompt for each text, (B, K, E)."""
        return np.broadcast_to(self.prompt, (len(self.ids), *self.prompt.shape))

    @property
    def K(self) -> int:
        """How many vectors the prompt has."""
        return len(self.prompt)

    @property
    def T(self) -> int:
        """How many tokens each text has."""
        return int(self.ids.shape[1])


def _interleaved(case: SoftCase) -> Floats:
    """The prompts where each vector is repeated for all texts, and the result cut into prompts."""
    return np.repeat(case.prompt, len(case.ids), axis=0).reshape(len(case.ids), *case.prompt.shape)


def _embedded(case: SoftCase, ids: Ids) -> Floats:
    """The embeddings of some ids, where they are ids."""
    return case.model.embedding[np.clip(ids, 0, len(case.model.embedding) - 1)]


SOFT_MISTAKES = (
    Mistake(
        "prompt's places kept",
        "the logits at the prompt's own positions are still there; keep those at the text's tokens",
        (lambda case: case.before(),),
    ),
    Mistake(
        "wrong end cut",
        "these are the first positions; the prompt stands there, so the text's tokens are at the end",
        (lambda case: case.before()[:, : case.T], lambda case: case.before()[:, : -case.K]),
    ),
    Mistake(
        "cut too early",
        "off by one: result[:, i] must say what follows token i, not what token i is",
        (lambda case: case.before()[:, case.K - 1 : -1], lambda case: case.before()[:, case.K - 1 :]),
    ),
    Mistake(
        "cut too late",
        "off by one: one position too many is cut off at the beginning, or one at the end",
        (
            lambda case: case.before()[:, case.K + 1 :],
            lambda case: case.before()[:, case.K : -1],
        ),
    ),
    Mistake(
        "one position only",
        "only one position is left; the logits at all of the text's tokens are asked",
        (
            lambda case: case.before()[:, -1],
            lambda case: case.before()[:, -1:],
            lambda case: case.before()[:, case.K],
            lambda case: case.before()[:, 0],
            lambda case: case.before()[:, :1],
        ),
    ),
    Mistake(
        "prompt without effect",
        "this is what the model says without the soft prompt; it has to stand before the text in the same call",
        (lambda case: case.rows(case.embeddings),),
    ),
    Mistake(
        "prompt behind the text",
        "the soft prompt stands behind the text, where no token of the text can see it",
        (lambda case: case.behind(), lambda case: case.behind()[:, case.K :], lambda case: case.behind()[:, -case.K :]),
    ),
    Mistake(
        "prompt added",
        "the soft prompt is added to the embeddings; it has positions of its own, before them",
        (
            lambda case: case.rows(case.embeddings + case.prompt.mean(axis=0)),
            lambda case: case.rows(case.embeddings + case.prompt.sum(axis=0)),
            lambda case: case.rows(case.embeddings + case.prompt[0]),
            lambda case: case.rows(case.embeddings + _padded(case.prompt, case.T)),
        ),
    ),
    Mistake(
        "prompt averaged",
        "the prompt's vectors are merged into one; each has a position of its own",
        (
            lambda case: case.before(case.prompt.mean(axis=0))[:, case.K :],
            lambda case: _with_one(case, case.prompt.mean(axis=0)),
            lambda case: _with_one(case, case.prompt.sum(axis=0)),
            lambda case: _with_one(case, case.prompt[0]),
        ),
    ),
    Mistake(
        "prompt mixed up",
        "the prompt's vectors are in another order, or another one for each text; every text gets the same prompt",
        (
            lambda case: case.before(_interleaved(case))[:, case.K :],
            lambda case: case.before(case.prompt[::-1])[:, case.K :],
        ),
    ),
    Mistake(
        "prompt replaces the text",
        "the soft prompt stands in the place of the text's first tokens; it has to come before them",
        (lambda case: case.rows(_overwritten(case)),),
    ),
    Mistake(
        "stray minus",
        "a minus sign stands where none belongs: at the prompt, at the embeddings or at the result",
        (
            lambda case: -case.before()[:, case.K :],
            lambda case: case.before(-case.prompt)[:, case.K :],
            lambda case: case.rows(-np.concatenate((case.prompts, case.embeddings), axis=1))[:, case.K :],
        ),
    ),
    NOT_TOKEN_IDS.with_variants(
        lambda case: case.before(_embedded(case, case.prompt.argmax(axis=1)))[:, case.K :],
        lambda case: case.before(_embedded(case, (case.prompt @ case.model.embedding.T).argmax(axis=1)))[:, case.K :],
        lambda case: case.before(_embedded(case, case.prompt[:, 0].astype(np.int64)))[:, case.K :],
    ),
    Mistake(
        "softmax of the logits",
        "a softmax was taken; return the logits, from which the loss takes it",
        (
            lambda case: log_softmax(case.before()[:, case.K :]),
            lambda case: np.exp(log_softmax(case.before()[:, case.K :])),
        ),
    ),
)
TEXTS_LOST = Mistake("texts lost", "texts are missing: the first axis is the batch, the second one are the positions")
OTHER_POSITIONS = Mistake(
    "other positions", "the result must have one position for each token of the text; compare its shape with (B, T, V)"
)
EMBEDDINGS_RETURNED = Mistake("embeddings returned", "these are embeddings; the model has to make logits of them")
NO_GRADIENT = Mistake(
    "no gradient",
    "no gradient reaches the soft prompt, so it cannot learn: no `.detach()`, `.data` or `torch.no_grad()` on its way",
)
GRADIENT_OF_A_COPY = Mistake(
    "gradient of a copy",
    "gradients end in a copy of the soft prompt; the optimiser changes the prompt itself",
)
GRADIENT_CUT = Mistake(
    "gradient cut",
    "the logits are right, but not their gradient; is a part of the way detached, or the prompt of a text?",
)
MODEL_TOUCHED = Mistake(
    "model touched",
    "the model is not frozen any more, or its weights were changed; the forward pass must leave it as it is",
)


def _padded(prompt: Floats, length: int) -> Floats:
    """`prompt` cut or filled up with zeros to `length` vectors."""
    found = np.zeros((length, prompt.shape[1]))
    found[: len(prompt)] = prompt[:length]
    return found


def _with_one(case: SoftCase, vector: Floats) -> Floats:
    """What the model says at the texts' tokens where one vector (E,) stands before them."""
    first = np.broadcast_to(vector, (len(case.ids), 1, len(vector)))
    return case.rows(np.concatenate((first, case.embeddings), axis=1))[:, 1:]


def _overwritten(case: SoftCase) -> Floats:
    """The texts' embeddings, the first of them overwritten."""
    found = case.embeddings.copy()
    found[:, : case.K] = case.prompt[: case.T]
    return found


@np.errstate(all="ignore")
def diagnose_soft(got: Floats, right: Floats, case: SoftCase) -> Mistakes:
    """The mistake that leads to the logits `got`; empty if they are right, or nothing known fits."""
    if is_close(got, right):
        return ()
    if not np.isfinite(got).all():
        return (NOT_FINITE,)
    for mistake in SOFT_MISTAKES:
        if any(is_close(got, variant(case)) for variant in mistake.variants):
            return (mistake,)
    return _by_shape(got.shape, right.shape, case.prompt.shape[1])


def _by_shape(got: tuple[int, ...], right: tuple[int, ...], width: int) -> Mistakes:
    """What the shape alone tells."""
    if got[-1:] == (width,) and width != right[-1]:
        return (EMBEDDINGS_RETURNED,)
    if len(got) == 3 and got[1:] != right[1:] and got[0] == right[0]:
        return (OTHER_POSITIONS,)
    return () if got[:1] == right[:1] else (TEXTS_LOST,)
