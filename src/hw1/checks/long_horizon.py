"""The tests of question 7: the weighted loss, the weights with a horizon, and Metropolis-Hastings.

What is right comes from a model so small that all of its texts are listed: p_T(x) / p(x), as it is defined.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from src.grading.chart import Chart
from src.grading.mistakes import NOTHING
from src.grading.part_test import Mistake, numbers
from src.grading.sandbox.messages import Argument, Returned
from src.hw1.checks.base import GPT2Test
from src.hw1.hints.long_horizon import (
    ACCEPT_STAGES,
    DECIDED,
    LOSS_STAGES,
    NO_GRADIENT,
    NOT_DETACHED,
    NOT_REDUCED,
    WEIGHTS_STAGES,
    WINDOWS_CUT,
    AcceptCase,
    LossCase,
    WeightsCase,
    diagnose,
    same,
)
from src.hw1.long_horizon.joint import Joint
from src.hw1.messages import Ids, Logits, Trainable
from src.hw1.oracle import Floats, TableModel, seed_from
from src.hw1.parts import LONG_HORIZON_POINTS

FILE, SHOWN = "long_horizon.py", 6


class LossTest(GPT2Test):
    """`lhts_loss` is the mean of the weighted negative log-likelihoods."""

    part = "7.1"

    @number("7.1.1")
    @weight(LONG_HORIZON_POINTS)
    def test_value(self) -> None:
        """Is the batch's mean of (⋆)"""
        check_loss(self, a_joint(self.rng), 12, temperatures(self.rng))

    @number("7.1.2")
    @weight(LONG_HORIZON_POINTS)
    def test_gradient(self) -> None:
        """Sends gradients through log q, and none through the weights"""
        check_loss_gradient(self, a_joint(self.rng))


class WeightsTest(GPT2Test):
    """`horizon_weights` weighs each token by what the next h tokens are worth at the temperature."""

    part = "7.2"

    @number("7.2.1")
    @weight(LONG_HORIZON_POINTS)
    def test_value(self) -> None:
        """Is p^(1/T) / p of the window that begins at each token"""
        joint = a_joint(self.rng)
        for horizon in (3, 1, 2):
            check_weights(self, joint, 7, horizon, temperatures(self.rng))

    @number("7.2.2")
    @weight(LONG_HORIZON_POINTS)
    def test_gradient(self) -> None:
        """Sends no gradients through the weights"""
        check_weights_gradient(self, a_joint(self.rng))


class AcceptTest(GPT2Test):
    """`metropolis_accept` is the acceptance probability of Metropolis-Hastings."""

    part = "7.3"

    @number("7.3.1")
    @weight(LONG_HORIZON_POINTS)
    def test_value(self) -> None:
        """Is the probability that leaves p_T as it is, where texts are proposed by p"""
        check_accept(self, a_joint(self.rng), 24, temperatures(self.rng))


def temperatures(rng: np.random.Generator) -> tuple[float, ...]:
    """A low one that all know, and a random one on either side of 1."""
    return (0.5, *rng.uniform([0.6, 1.3], [0.9, 2.5]).round(2).tolist())


def a_joint(rng: np.random.Generator, vocab_size: int = 4, length: int = 5) -> Joint:
    """All texts of a random model."""
    return Joint.of(TableModel(vocab_size, seed_from(rng)), vocab_size, length)


def some_texts(rng: np.random.Generator, joint: Joint, count: int) -> Ids:
    """Texts of the model, (count, n), likely and unlikely ones."""
    return rng.integers(0, joint.conditionals[0].size, (count, joint.length))


def check_loss(test: GPT2Test, joint: Joint, count: int, at: Sequence[float]) -> None:
    """`lhts_loss` of `count` texts is the mean of -Z(T) p_T(x) / p(x) log q(x), at each temperature."""
    texts = some_texts(test.rng, joint, count)
    log_p, log_q = (_float32(each[*texts.T]) for each in (joint.log_p, joint.scaled(1.5)))
    got, right, cases = [], [], []
    for temperature in at:
        input = f"`lhts_loss` of {count} texts, temperature = {temperature}"
        returned = test.call(input, FILE, "lhts_loss", log_p, log_q, temperature)
        right.append(np.asarray(-(_ratios(joint, texts, temperature) * log_q).mean()))
        got.append(_values(test, input, returned, (), (count,)))
        cases.append(LossCase(log_p.astype(np.float64), log_q.astype(np.float64), temperature))
    input = f"`lhts_loss` of {count} texts, at the temperatures {numbers(at)}"
    title, labels = "The loss at each temperature", [f"T = {temperature}" for temperature in at]
    mistakes = () if all(map(same, got, right)) else diagnose(LOSS_STAGES, got, right, cases)
    if any(value.shape for value in got):
        expected = "a tensor with one number"
        test.lose(input, expected, f"one of shape {got[0].shape}", mistakes or (NOT_REDUCED,), "the loss is no number")
    _compare(test, input, got, right, mistakes, title, labels)


def _ratios(joint: Joint, texts: Ids, temperature: float) -> Floats:
    """Z(T) p_T(x) / p(x) of each text, (B,)."""
    log_ratios = joint.log_z(temperature) + joint.scaled(temperature) - joint.log_p
    return np.asarray(np.exp(log_ratios)[*texts.T])


def check_loss_gradient(test: GPT2Test, joint: Joint) -> None:
    """`lhts_loss` requires a gradient where log q does, and not where only log p does."""
    texts = some_texts(test.rng, joint, 6)
    log_p, log_q = (_float32(each[*texts.T]) for each in (joint.log_p, joint.scaled(1.5)))
    input = "`lhts_loss` of texts whose log q requires a gradient"
    if not test.call(input, FILE, "lhts_loss", log_p, Trainable(log_q), 0.5).requires_grad:
        test.lose(
            input, "a loss that requires a gradient", "one that does not", (NO_GRADIENT,), "the loss has no gradient"
        )
    check_no_gradient(test, "lhts_loss", Trainable(log_p), log_q, 0.5)


def check_no_gradient(test: GPT2Test, function: str, *arguments: Argument) -> None:
    """What `function` returns does not require a gradient, although log p does."""
    input = f"`{function}` of texts whose log p requires a gradient, and nothing else"
    if test.call(input, FILE, function, *arguments).requires_grad:
        reason = "gradients flow through the weights"
        test.lose(input, "a result that requires no gradient", "one that does", (NOT_DETACHED,), reason)


def check_weights(test: GPT2Test, joint: Joint, count: int, horizon: int, at: Sequence[float]) -> None:
    """`horizon_weights` of `count` texts is p^(1/T) / p of each token's window, at each temperature."""
    texts = some_texts(test.rng, joint, count)
    log_p = _token_log_p(joint, texts)
    call = f"`horizon_weights` with log_p of shape {log_p.shape}, horizon = {horizon}"
    got, right, cases = [], [], []
    for temperature in at:
        input = f"{call}, temperature = {temperature}"
        returned = test.call(input, FILE, "horizon_weights", log_p, temperature, horizon)
        got.append(_values(test, input, returned, log_p.shape))
        windows = _windows(joint, texts, horizon)
        right.append(windows ** (1 / temperature) / windows)
        cases.append(WeightsCase(log_p.astype(np.float64), temperature, horizon))
    input = (
        f"`horizon_weights` with log_p of shape {log_p.shape}, at the temperatures {numbers(at)}, horizon = {horizon}"
    )
    mistakes = () if all(map(same, got, right)) else diagnose(WEIGHTS_STAGES, got, right, cases)
    labels = [f"token {i + 1}" for i in range(joint.length)]
    _compare(test, input, got, right, mistakes, f"A text's weights, h = {horizon}, T = {at[0]}", labels)


def _windows(joint: Joint, texts: Ids, horizon: int) -> Floats:
    """The probability of each token and the horizon - 1 after it, given what comes before, by listing texts; (B, n)."""
    p, found = np.exp(joint.log_p), np.empty(texts.shape)
    for row, text in enumerate(texts.tolist()):
        of_beginning = [p[tuple(text[:i])].sum() for i in range(joint.length + 1)]  # of all texts that begin so
        for i in range(joint.length):
            found[row, i] = of_beginning[min(i + horizon, joint.length)] / of_beginning[i]
    return found


def check_weights_gradient(test: GPT2Test, joint: Joint) -> None:
    """`horizon_weights` requires no gradient."""
    texts = some_texts(test.rng, joint, 3)
    check_no_gradient(test, "horizon_weights", Trainable(_token_log_p(joint, texts)), 0.5, 2)


def check_accept(test: GPT2Test, joint: Joint, count: int, at: Sequence[float]) -> None:
    """`metropolis_accept` is min(1, p_T(x') p(x) / (p_T(x) p(x'))) for `count` moves, at each temperature."""
    new, old = some_texts(test.rng, joint, count), some_texts(test.rng, joint, count)
    log_p_new, log_p_old = _float32(joint.log_p[*new.T]), _float32(joint.log_p[*old.T])
    got, right, cases = [], [], []
    for temperature in at:
        input = f"`metropolis_accept` of {count} moves, temperature = {temperature}"
        returned = test.call(input, FILE, "metropolis_accept", log_p_new, log_p_old, temperature)
        if returned.dtype == "bool":
            test.lose(input, "probabilities", returned.description(), (DECIDED,), "the result is not a probability")
        got.append(_values(test, input, returned, (count,)))
        ratio = _ratios(joint, new, temperature) / _ratios(joint, old, temperature)
        right.append(np.minimum(ratio, 1))
        cases.append(AcceptCase(log_p_new.astype(np.float64), log_p_old.astype(np.float64), temperature))
    input = f"`metropolis_accept` of {count} moves, at the temperatures {numbers(at)}"
    mistakes = () if all(map(same, got, right)) else diagnose(ACCEPT_STAGES, got, right, cases)
    title, labels = f"Whether a move is made, T = {at[0]}", [f"move {i + 1}" for i in range(SHOWN)]
    _compare(test, input, got, right, mistakes, title, labels)


def _token_log_p(joint: Joint, texts: Ids) -> Logits:
    """log p(x_i | x_<i) of each token, (B, n)."""
    columns = [each[*texts[:, : i + 1].T] for i, each in enumerate(joint.conditionals)]
    return _float32(np.stack(columns, axis=1))


def _float32(values: Floats) -> Logits:
    return values.astype(np.float32)


def _values(test: GPT2Test, input: str, returned: Returned, *shapes: tuple[int, ...]) -> Floats:
    """The tensor that the function returned, which must have one of `shapes`."""
    value: Any = returned.value
    is_tensor = returned.kind == "tensor" and isinstance(value, np.ndarray) and value.dtype.kind == "f"
    if not is_tensor or value.shape not in shapes:
        expected = f"a tensor of shape {shapes[0]}, of floats" if shapes[0] else "a tensor with one number"
        test.lose(input, expected, returned.description(), _of_shape(returned, shapes[0]), "wrong shape or type")
    return np.asarray(value, np.float64)


def _of_shape(returned: Returned, expected: tuple[int, ...]) -> tuple[Mistake, ...]:
    if returned.is_nothing:
        return (NOTHING,)
    if not expected and returned.number() is not None:
        return (NO_GRADIENT,)  # a plain number
    value: Any = returned.value
    is_shorter = isinstance(value, np.ndarray) and value.ndim == len(expected) == 2 and value.shape[1] < expected[1]
    return (WINDOWS_CUT,) if is_shorter else ()


def _compare(
    test: GPT2Test,
    input: str,
    got: Sequence[Floats],
    right: Sequence[Floats],
    mistakes: Sequence[Mistake],
    title: str,
    labels: Sequence[str],
) -> None:
    """Lose the points where any of `got`, one a temperature, is not `right`; else leave a chart."""
    first = [np.stack(each) if got[0].ndim == 0 else each[0].reshape(-1)[: len(labels)] for each in (right, got)]
    chart = Chart(title, "", tuple(labels), *(tuple(values.tolist()) for values in first))
    wrong = [i for i in range(len(got)) if not same(got[i], right[i])]
    if wrong:
        expected, shown = (right, got) if got[0].ndim == 0 else (right[wrong[0]], got[wrong[0]])
        test.lose(input, numbers(expected), numbers(shown), mistakes, "the values are wrong", chart)
    test.chart = chart
