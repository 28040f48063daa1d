"""The tests of `temperature_scale` with horizon 1: does it scale the next token's distribution?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from src.errors import PointsLost
from src.grading.chart import Chart
from src.grading.mistakes import NOTHING
from src.grading.part_test import numbers
from src.hw1.checks.base import GPT2Test, LanguageModel
from src.hw1.checks.sampling import WRONG_DRAWS, SamplingTest, check_draws
from src.hw1.hints.temperature import IN_PLACE, WRONG_SHAPE, TemperatureCase, diagnose_scaling
from src.hw1.messages import FILTERED, Ids, Logits
from src.hw1.oracle import AnyFloats, TableModel, log_softmax, same_distribution, top_k
from src.hw1.trials import SMALL, Trial

SHOWN = 6  # of the probabilities


class TemperatureTest(GPT2Test):
    """`temperature_scale` with horizon 1 scales the distribution of the next token."""

    part = "6.6"

    @number("6.6.1")
    @weight(2.5)
    def test_scaling(self) -> None:
        """Scales the next token's distribution, exp(log p / T)"""
        model, ids = a_model(self.rng)
        temperatures = (0.95, *self.rng.uniform([0.4, 1.5], [0.8, 3.0]).round(2).tolist())
        check_scaling(self, model, ids, 5, temperatures, untouched=False)

    @number("6.6.2")
    @weight(1)
    def test_no_scaling(self) -> None:
        """Changes nothing without a temperature, and never the caller's logits"""
        check_no_scaling(self, *a_model(self.rng), 5)


def a_model(rng: np.random.Generator) -> tuple[TableModel, Ids]:
    """A random model, and two random texts for it, (2, T)."""
    model = TableModel(int(rng.choice(SMALL)), int(rng.integers(2**32)))
    return model, rng.integers(0, model.vocab_size, (2, int(rng.integers(2, 5))))


@dataclass(frozen=True)
class ScaleCall:
    """The arguments of `temperature_scale`."""

    model: LanguageModel
    ids: Ids  # the text so far, (B, T)
    logits: Logits  # after it, filtered, (B, V)
    k: int
    temperature: float | None
    horizon: int

    @property
    def description(self) -> str:
        """The call, for a person."""
        return (
            f"`temperature_scale` with logits of shape {self.logits.shape}, temperature = {self.temperature}, "
            f"temperature_horizon = {self.horizon}, and {self.model.description}"
        )


def filtered_logits(model: LanguageModel, ids: Ids, k: int) -> Logits:
    """The logits after `ids` (B, T), (B, V), as `top_k_logits` leaves them."""
    logits = model.last_logits(ids)
    kept = np.isfinite(top_k(logits, k))
    return np.where(kept, logits, np.float32(FILTERED)).astype(np.float32)


def scaled(test: GPT2Test, call: ScaleCall, untouched: bool) -> AnyFloats:
    """The logits (B, V) that `temperature_scale` returns, once they have this shape.

    With `untouched`, it must not have changed the caller's logits, either.
    """
    arguments = (
        call.logits, call.model.reference, call.model.past_of(call.ids), call.model.config(call.k),
        call.temperature, call.horizon,
    )  # fmt: skip
    returned = test.call(call.description, "sample.py", "temperature_scale", *arguments, answerer=call.model.answerer)
    value = returned.value
    is_logits = returned.kind == "tensor" and isinstance(value, np.ndarray) and value.dtype.kind == "f"
    if not isinstance(value, np.ndarray) or not is_logits or value.shape != call.logits.shape:
        expected = f"`temperature_scale` to return a tensor of logits of shape {call.logits.shape}"
        mistake = NOTHING if returned.is_nothing else WRONG_SHAPE
        test.lose(call.description, expected, returned.description(), (mistake,), "wrong shape or type")
    if untouched and not np.array_equal(returned.tensors[0], call.logits):
        expected, got = "the caller's logits to stay as they are", "`temperature_scale` changed them"
        test.lose(call.description, expected, got, (IN_PLACE,), "the caller's logits were changed")
    return value


def check_scaling(
    test: GPT2Test, model: LanguageModel, ids: Ids, k: int, temperatures: Sequence[float], untouched: bool
) -> None:
    """`temperature_scale` with horizon 1 is right at each temperature, for the logits after `ids` (B, T)."""
    logits = filtered_logits(model, ids, k)
    calls = [ScaleCall(model, ids, logits, k, temperature, 1) for temperature in temperatures]
    got = [scaled(test, call, untouched) for call in calls]
    right = [logits.astype(np.float64) / temperature for temperature in temperatures]
    wrong = [i for i in range(len(calls)) if not same_distribution(got[i], right[i])]
    if wrong:
        mistakes = diagnose_scaling(got, [TemperatureCase(logits, temperature) for temperature in temperatures])
        first = wrong[0]
        row = next(i for i, p in enumerate(right[first]) if not same_distribution(got[first][i], p))
        tokens = np.argsort(right[first][row])[::-1][:SHOWN]
        expected = f"{probabilities(right[first][row], tokens)} in row {row}"
        shown = probabilities(got[first][row], tokens)
        chart = probability_chart(temperatures[first], right[first][row], got[first][row], tokens)
        test.lose(calls[first].description, expected, shown, mistakes, "the distribution is wrong", chart)
    test.chart = probability_chart(temperatures[0], right[0][0], got[0][0], np.argsort(right[0][0])[::-1][:SHOWN])


def probabilities(logits: AnyFloats, tokens: Ids) -> str:
    """The probabilities that `logits` (V,) give to some tokens, for a person."""
    return f"probabilities {numbers(_probabilities(logits, tokens))} of the tokens {tokens.tolist()}"


def _probabilities(logits: AnyFloats, tokens: Ids) -> AnyFloats:
    with np.errstate(invalid="ignore"):
        return np.exp(log_softmax(logits))[tokens]


def probability_chart(temperature: float, right: AnyFloats, got: AnyFloats, tokens: Ids) -> Chart:
    """The probabilities that the `right` logits (V,) and those that came give to some tokens."""
    both = [tuple(_probabilities(logits, tokens).tolist()) for logits in (right, got)]
    labels = tuple(f"token {token}" for token in tokens)
    return Chart(f"Probabilities of the likeliest tokens, at temperature {temperature:.3g}", "", labels, *both)


def check_no_scaling(test: GPT2Test, model: LanguageModel, ids: Ids, k: int) -> None:
    """Without a temperature, `temperature_scale` returns the logits as they are; with one, the caller's stay."""
    logits = filtered_logits(model, ids, k)
    for temperature in (None, 0.7):
        call = ScaleCall(model, ids, logits, k, temperature, 1)
        got = scaled(test, call, untouched=True)
        if temperature is None and not np.array_equal(np.maximum(got, np.float32(FILTERED)), logits):
            expected, got_first = f"the logits as they are, {numbers(logits[0])}", numbers(got[0])
            test.lose(call.description, expected, got_first, reason="with temperature=None the logits were changed")


def check_sampling(test: GPT2Test, trials: Sequence[Trial]) -> None:
    """`sample` draws at the trials' temperature.

    What the tests of `sample` itself have lost points for, in this grading, costs nothing here.
    """
    try:
        check_draws(test, trials)
    except PointsLost as lost:
        if not test.reasons_of(SamplingTest.part) & {lost.reason, WRONG_DRAWS}:
            raise
