"""The tests of `temperature_scale` with horizon 2: does it scale the joint distribution of the next two tokens?"""

from collections.abc import Sequence

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from src.errors import PointsLost
from src.hw1.checks.base import GPT2Test, LanguageModel
from src.hw1.checks.sampling import (
    WRONG_DRAWS_ALONE,
    SampleCall,
    SamplingTest,
    frequencies,
    frequency_chart,
    sampled,
)
from src.hw1.checks.temperature import SHOWN, ScaleCall, filtered_logits, probabilities, probability_chart, scaled
from src.hw1.evidence import Answer, Draws, Evidence, fits, improbability
from src.hw1.hints.horizon import HorizonCase, diagnose_horizon
from src.hw1.messages import Ids
from src.hw1.oracle import (
    Floats,
    LocalTableModel,
    TableModel,
    pairs_after,
    same_distribution,
    scaled_marginal,
    seed_from,
)

TIMES = 200  # that `check_sampling` draws a token
PROMPTS = 40  # from which one is chosen


class HorizonTest(GPT2Test):
    """`temperature_scale` with horizon 2 scales the joint distribution of the next two tokens."""

    part = "6.7"

    @number("6.7.1")
    @weight(2.5)
    def test_horizon(self) -> None:
        """Scales the joint distribution of two tokens, and sums over the second"""
        model, ids = _unsorted(self.rng, 12, 5)
        check_marginal(self, model, ids, 5, (0.95, self.rng.uniform(0.4, 0.8)))


def _unsorted(rng: np.random.Generator, vocab_size: int, k: int) -> tuple[TableModel, Ids]:
    """A model, and a text (1, T) after which the k likeliest tokens are not sorted by their ids."""
    while True:
        model, ids = TableModel(vocab_size, seed_from(rng)), rng.integers(0, vocab_size, (1, 3))
        likeliest = np.argsort(-model.last_logits(ids)[0])[:k]
        if (np.diff(likeliest) < 0).any():
            return model, ids


def check_marginal(test: GPT2Test, model: LanguageModel, ids: Ids, k: int, temperatures: Sequence[float]) -> None:
    """`temperature_scale` with horizon 2 is the exact marginal of the scaled joint, after `ids` (1, T)."""
    logits, right = filtered_logits(model, ids, k), marginals(model, ids, k, temperatures)
    calls = [ScaleCall(model, ids, logits, k, temperature, 2) for temperature in temperatures]
    got = [scaled(test, call, untouched=False)[0] for call in calls]
    wrong = [i for i in range(len(calls)) if not same_distribution(got[i], right[i])]
    first = wrong[0] if wrong else 0
    tokens = np.argsort(right[first])[::-1][: min(SHOWN, int(np.isfinite(right[first]).sum()))]
    chart = probability_chart(temperatures[first], right[first], got[first], tokens)
    if wrong:
        expected, shown = probabilities(right[first], tokens), probabilities(got[first], tokens)
        mistakes = diagnose_horizon(got, cases_of(model, ids, k, temperatures))
        test.lose(calls[first].description, expected, shown, mistakes, "the distribution is wrong", chart)
    test.chart = chart


def marginals(model: LanguageModel, ids: Ids, k: int, temperatures: Sequence[float]) -> list[Floats]:
    """For each temperature, log p of the next token after `ids` (1, T), from the scaled joint distribution, (V,)."""
    pairs, found = pairs_after(model, ids[0], k), []
    for temperature in temperatures:
        log_p = np.full(model.vocab_size, -np.inf)
        for token, p in scaled_marginal(pairs, temperature).items():
            log_p[token] = np.log(p)
        found.append(log_p)
    return found


def cases_of(model: LanguageModel, ids: Ids, k: int, temperatures: Sequence[float]) -> list[HorizonCase]:
    """What the model answers after `ids` (1, T) and each of the top k tokens, for each temperature."""
    right = marginals(model, ids, k, temperatures)
    candidates = np.isfinite(right[0]).nonzero()[0]
    longer = np.concatenate((np.repeat(ids, len(candidates), axis=0), candidates[:, None]), axis=1)
    second, alone = (model.last_logits(text) for text in (longer, candidates[:, None]))
    first = model.last_logits(ids)[0, candidates]
    return [
        HorizonCase(candidates, first, second, alone, log_p[candidates], k, temperature)
        for log_p, temperature in zip(right, temperatures, strict=True)
    ]


def telling_prompt(rng: np.random.Generator, model: TableModel, k: int, temperature: float) -> Ids:
    """Of some random prompts (1, T), the one after which draws tell best whether `temperature` was used."""

    def improbability_without(prompt: Ids) -> float:
        log_p, plain = marginals(model, prompt, k, (temperature, 1.0))
        return improbability(TIMES * np.exp(plain), np.exp(log_p))

    return min((rng.integers(0, model.vocab_size, (1, 2)) for _ in range(PROMPTS)), key=improbability_without)


def check_sampling(test: GPT2Test, model: LocalTableModel, prompt: Ids, k: int, temperature: float) -> None:
    """`sample` draws from the marginal of the scaled joint, after `prompt` (1, T).

    What the tests of `sample` itself have lost points for, in this grading, costs nothing here.
    """
    log_p = marginals(model, prompt, k, (temperature,))[0][None]
    call = SampleCall(model, prompt, k, 1, temperature, 2, times=TIMES)
    try:
        drawn = np.array([sampled(test, call)[0, -1] for _ in range(TIMES)])
        draws, evidence = Draws(Answer(log_p, model.vocab_size), np.zeros_like(drawn), drawn), Evidence()
        evidence.add(draws)
        if evidence.is_too_much or not fits(draws.counts[0], np.exp(log_p[0])):
            shown = "the new token", np.exp(log_p[0]), draws.counts[0].astype(np.float64)
            expected, got = frequencies(*shown)
            chart = frequency_chart(*shown)
            test.lose(call.description, expected, got, reason=WRONG_DRAWS_ALONE, chart=chart)
    except PointsLost as lost:
        if not test.reasons_of(SamplingTest.part) & {lost.reason, WRONG_DRAWS_ALONE}:
            raise
