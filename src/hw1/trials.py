"""Trials of `sample`: which prompts and models, what is right there, and what its draws show."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from src.hw1.evidence import Answer, Draws, fits
from src.hw1.hints.sampling import DrawsCase, FollowersCase
from src.hw1.messages import Ids
from src.hw1.oracle import Floats, LocalTableModel, TableModel, log_softmax, pair_probabilities, top_k
from src.hw1.table import Places, ladder

SMALL, LARGE = (17, 19, 23), (997, 1009, 1013, 1019, 1021)  # sizes of test models' vocabularies
ROUNDS = 40  # of trials, at most
FEW = 100  # tokens: in a model that knows so few, every single one is looked at
LOOKED_AT = 500_000  # logits, to find a mistake


@dataclass(frozen=True)
class Trial:
    """Prompts that `sample` is to continue, with a model that the worker runs."""

    model: LocalTableModel
    prompts: Ids  # (n, T)
    k: int
    repeats: int  # of each prompt
    length: int
    alone: bool = False  # each prompt in a call of its own, not all of them in one batch
    temperature: float | None = None

    @property
    def answer(self) -> Answer:
        """The right probabilities."""
        return right_answer(self.model.vocab_size, self.k, self.temperature or 1.0)

    def draws(self, ids: Ids) -> Draws:
        """What was drawn in `ids`, (n * repeats, T + length)."""
        table, last, first = self.model.table, self.answer.log_p.shape[1] - 1, self.prompts.shape[1]
        places = table.places(table.sums(ids[:, :-1])[:, first - 1 :])
        new_and_before = np.stack((ids[:, first:], ids[:, first - 1 : -1]), axis=-1).astype(np.uint32)
        drawn, before = np.moveaxis(table.ranks(places, new_and_before).clip(max=last).astype(np.int64), -1, 0)
        before[:, 0] = -1
        few = self.model.vocab_size <= FEW
        ranks = table.ranks(places).clip(max=last).astype(np.int64).reshape(drawn.size, -1) if few else None
        return Draws(self.answer, places.shape.reshape(-1), drawn.reshape(-1), ranks, before.reshape(-1))

    def pairs(self, ids: Ids) -> list[tuple[Floats, Floats]]:
        """After each prompt: how often each pair of tokens was drawn first, and its probability, (V, V) each."""
        size, first = self.model.vocab_size, self.prompts.shape[1]
        found = []
        for prompt in self.prompts:
            rows, counts = ids[(ids[:, :first] == prompt).all(axis=1)], np.zeros((size, size))
            np.add.at(counts, (rows[:, first], rows[:, first + 1]), 1)
            found.append((counts, pair_probabilities(self.model, prompt, self.k, self.temperature or 1.0)))
        return found


@functools.cache
def right_answer(vocab_size: int, k: int, temperature: float) -> Answer:
    """The right probabilities by rank; all ranks that the filter removes share the last column."""
    kept = ladder(vocab_size, LocalTableModel.peaked, k or vocab_size) / temperature
    return Answer(np.pad(log_softmax(kept), ((0, 0), (0, 1)), constant_values=-np.inf), vocab_size)


def trials(rng: np.random.Generator, alone: bool = False) -> list[Trial]:
    """Trials in turn with few tokens, where each one counts, and with many, where a temperature shows.

    There are so many that one of the required alternatives (see `evidence`) is decided well before the last.
    """
    # Draws of single prompts cost most, so that there the filter is set to decide with the fewest: more tokens of the
    # small model to look at, and more of the large one that only a uniform draw can hit.
    if alone:
        pair = [trial(rng, SMALL, 0.85, repeats=3, length=50), trial(rng, LARGE, 0.5, repeats=3, length=40)]
    else:
        pair = [trial(rng, SMALL, 0.7, repeats=400, length=3), trial(rng, LARGE, 0.8, repeats=60, length=10)]
    if alone:  # the same prompts again: who draws the same tokens each time is found out
        return [replace(each, alone=True) for each in pair] * ROUNDS
    return [replace(each, prompts=prompts_for(rng, each.model)) for _ in range(ROUNDS) for each in pair]


def trial(rng: np.random.Generator, sizes: Sequence[int], kept: float, repeats: int, length: int) -> Trial:
    """A trial with two random prompts and a random model, of whose tokens a share `kept` passes the filter."""
    size = int(rng.choice(sizes))
    model = LocalTableModel(size, int(rng.integers(2**32)))
    return Trial(model, prompts_for(rng, model), round(kept * size), repeats, length)


def gpt2_size(rng: np.random.Generator, alone: bool = False) -> list[Trial]:
    """A trial with as many tokens as GPT-2 has: what is added to each probability adds up.

    One draw costs more than ten others. A guard of 1e-6 shows in one of 21 draws, so 152 miss it with 6e-4.
    """
    return [replace(trial(rng, (50257,), 40 / 50257, repeats=2, length=38), alone=alone)]


def prompts_for(rng: np.random.Generator, model: TableModel, count: int = 2) -> Ids:
    """Random prompts of the same random length, (count, T), which all begin with another token."""
    prompts = rng.integers(0, model.vocab_size, (count, int(rng.integers(2, 6))))
    prompts[:, 0] = rng.choice(model.vocab_size, count, replace=False)
    return prompts


def followers(trial: Trial, ids: Ids) -> FollowersCase:
    """What the draws after the first of each row have to do with those before."""
    table, log_p, tokens = trial.model.table, trial.answer.log_p, trial.prompts.shape[1]
    of_prompts = [ids[(ids[:, :tokens] == prompt).all(axis=1)] for prompt in trial.prompts]
    firsts_fit = not trial.alone and all(
        fits(
            np.bincount(rows[:, tokens], minlength=table.vocab_size),
            np.exp(log_softmax(top_k(after, trial.k) / (trial.temperature or 1.0))),
        )
        for rows, after in zip(of_prompts, trial.model.logits(trial.prompts)[:, -1], strict=True)
    )
    places = table.places(table.sums(ids[:, :-1])[:, tokens - 1 :])  # (R, length)

    def ranks(chosen: Ids, column: slice) -> Ids:
        at = Places(places.shape[:, column], places.step[:, column], places.start[:, column])
        return table.ranks(at, chosen[..., None].astype(np.uint32))[..., 0].clip(max=log_p.shape[1] - 1).astype(int)

    new = ids[:, tokens:]
    of_first = log_p[places.shape[:, :1], ranks(new[:, 1:], slice(0, 1))]
    p = np.exp(log_p)
    finite = np.where(p > 0, log_p, 0.0)
    mean = (p * finite).sum(axis=1)
    variance = (p * (finite - mean[:, None]) ** 2).sum(axis=1)
    first, count = places.shape[:, 0], new.shape[1] - 1
    again = new[:, 1:] == new[:, :-1]
    p_again = float(p[places.shape[:, 1:], ranks(new[:, :-1], slice(1, None))].mean())
    return FollowersCase(
        of_first,
        (float(mean[first].sum() * count), float(variance[first].sum() * count)),
        (int(again.sum()), int((~again).sum())),
        (p_again, 1 - p_again),
        firsts_fit,
    )


def contexts(trial: Trial, ids: Ids) -> tuple[DrawsCase, Ids]:
    """The contexts of the first draws of all rows, and the tokens that were drawn there."""
    tokens = trial.prompts.shape[1]
    length = min(trial.length, max(1, LOOKED_AT // (len(ids) * trial.model.vocab_size)))
    logits = trial.model.logits(ids[:, : tokens + length - 1])[:, tokens - 1 :] / np.float32(trial.temperature or 1.0)
    drawn = ids[:, tokens : tokens + length]
    if trial.alone:  # each batch had one row
        logits, drawn = logits.reshape(1, drawn.size, -1), drawn.reshape(1, -1)
    return DrawsCase(logits, trial.k), drawn


def repeat_each_other(trial: Trial, ids: Ids) -> bool:
    """Whether all rows with the same prompt go on with the same tokens, and not only with the most likely ones."""
    tokens = trial.prompts.shape[1]
    of_prompts = [ids[(ids[:, :tokens] == prompt).all(axis=1)] for prompt in trial.prompts]
    return all((rows == rows[0]).all() for rows in of_prompts) and bool(trial.draws(ids).drawn.any())
