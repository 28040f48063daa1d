"""The tests of problem 1: the log-likelihood of a label, what a soft prompt trains, and its forward pass.

What is right comes from a small random model, which is computed here step by step, in float64.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from src.grading.chart import Chart
from src.grading.mistakes import NOTHING
from src.grading.part_test import Mistakes, numbers
from src.grading.sandbox.messages import Returned
from src.hw10.checks.base import HW10Test, arrays, integers
from src.hw10.hints.prompting import (
    MODEL_TRAINED,
    NOT_A_FLOAT,
    NOT_A_LIST,
    NOT_FINITE,
    NOT_FROZEN,
    NUMBERS,
    PROMPT_COPIED,
    PROMPT_FROZEN,
    PROMPT_MISSING,
    PROMPT_TWICE,
    WEIGHTS_CHANGED,
    LabelCase,
    diagnose_label,
    is_close,
)
from src.hw10.hints.soft_prompt import (
    GRADIENT_CUT,
    GRADIENT_OF_A_COPY,
    MODEL_TOUCHED,
    NO_GRADIENT,
    SoftCase,
    diagnose_soft,
)
from src.hw10.small_lm import Floats, SmallLM, State

FILE = "prompting.py"
STEP = 1e-5  # of the finite differences: their error is about STEP² + 1e-16 / STEP, or 1e-10


class LabelTest(HW10Test):
    """`label_log_likelihood` is log p(label | prompt)."""

    part = "1b"

    @number("1b.1")
    @weight(1)
    def test_value(self) -> None:
        """Is the sum over the label's tokens, each given all tokens before it"""
        check_labels(self, [(5, 3), (4, 1), (7, 2), (3, 4)])

    @number("1b.2")
    @weight(1)
    def test_type(self) -> None:
        """Is a plain Python float"""
        check_type(self, 4, 2)


class TrainedTest(HW10Test):
    """`parameters_to_train` freezes the model and returns the soft prompt alone."""

    part = "1c"

    @number("1c.1")
    @weight(1)
    def test_list(self) -> None:
        """Freezes the model, and returns a list of the soft prompt alone"""
        check_trained(self, 5)


class SoftPromptTest(HW10Test):
    """`soft_prompt_logits` is what the model says of each text after the soft prompt."""

    part = "1d"

    @number("1d.1")
    @weight(1)
    def test_logits(self) -> None:
        """Are the logits at the text's tokens, which follow the soft prompt"""
        for prompt, batch, length in ((5, 3, 7), (3, 2, 5), (4, 1, 3)):
            check_logits(self, prompt, batch, length)

    @number("1d.2")
    @weight(1)
    def test_gradient(self) -> None:
        """Sends gradients to the soft prompt, and to nothing else"""
        check_gradient(self, 4, 2, 5)


def check_labels(test: HW10Test, lengths: Sequence[tuple[int, int]]) -> None:
    """`label_log_likelihood` is right for a prompt and a label of each pair of `lengths`."""
    model = SmallLM.drawn(test.rng)
    cases = [_label_case(test, model, *each) for each in lengths]
    named = ", ".join(f"{p} + {label}" for p, label in lengths)
    input = f"`label_log_likelihood` of prompts and labels of {named} tokens, with a small random model"
    got = []
    for case in cases:
        returned = _call_label(test, input, case)
        value = returned.number()
        if value is None:
            mistakes = (NOTHING,) if returned.is_nothing else (NUMBERS,) if returned.kind == "tensor" else ()
            reason = "label_log_likelihood must return one number"
            test.lose(input, "a number for each label", returned.description(), mistakes, reason)
        got.append(value)
    right = [_log_probability(case) for case in cases]
    labels = tuple(f"{p} + {label} tokens" for p, label in lengths)
    chart = Chart("log p(label | prompt)", "nats", labels, tuple(right), tuple(got))
    if not is_close(got, right):
        explained = diagnose_label(got, right, cases)
        test.lose(input, numbers(right), numbers(got), explained, "the values are wrong", chart)
    test.chart = chart


def check_type(test: HW10Test, prompt: int, label: int) -> None:
    """`label_log_likelihood` returns a finite Python float."""
    input = f"`label_log_likelihood` of a prompt of {prompt} tokens and a label of {label}"
    returned = _call_label(test, input, _label_case(test, SmallLM.drawn(test.rng), prompt, label))
    if returned.kind == "plain" and type(returned.value) is float and math.isfinite(returned.value):
        return
    value = returned.number()
    mistakes: Mistakes = (NOTHING,) if returned.is_nothing else ()
    if value is None and returned.kind == "tensor":
        mistakes = (NUMBERS,)
    elif value is not None:
        mistakes = (NOT_A_FLOAT,) if math.isfinite(value) else (NOT_FINITE,)
    test.lose(input, "a Python float", returned.description(), mistakes, "the result is not a Python float")


def _label_case(test: HW10Test, model: SmallLM, prompt: int, label: int) -> LabelCase:
    tokens = test.rng.integers(0, len(model.embedding), prompt + label)
    return LabelCase(model, tokens[:prompt], tokens[prompt:])


def _call_label(test: HW10Test, input: str, case: LabelCase) -> Returned:
    function = "label_log_likelihood"
    return test.measure(
        input, FILE, function, "prompting.label_log_likelihood", *case.model.arrays, case.prompt[None], case.label[None]
    )


def _log_probability(case: LabelCase) -> float:
    """The model is led through the prompt, then through the label; the product of what it says each time."""
    state = _after(case.model, case.model.start(), case.model.embedding[case.prompt])
    probability = 1.0
    for token in case.label:
        weights = np.exp(case.model.logits(state))
        probability *= weights[token] / weights.sum()
        state = case.model.step(state, case.model.embedding[token])
    return math.log(probability)


def _after(model: SmallLM, state: State, vectors: Floats) -> State:
    for vector in vectors:
        state = model.step(state, vector)
    return state


def check_trained(test: HW10Test, length: int) -> None:
    """`parameters_to_train` freezes the model and returns a list of the soft prompt, which has `length` vectors."""
    model = SmallLM.drawn(test.rng)
    input = f"`parameters_to_train` of a small random model and a soft prompt of {length} vectors"
    returned = test.measure(
        input, FILE, "parameters_to_train", "prompting.trained", *model.arrays, _soft_prompt(test, model, length)
    )
    counts = integers(returned, 6)
    if counts is None:
        wrong = (NOTHING,) if returned.is_nothing else (NOT_A_LIST,) if returned.kind == "tensor" else ()
        test.lose(input, "a list of parameters", returned.description(), wrong, "this is not a list of parameters")
    of_prompt, of_model, others, trainable, is_trainable, is_same = counts
    got = (
        f"a list with the soft prompt {of_prompt} times, {of_model} of the model's parameters and {others} other "
        f"things; {trainable} of the model's parameters require a gradient, the prompt "
        f"{'does' if is_trainable else 'does not'}"
    )
    found = (
        (of_model > 0, MODEL_TRAINED),
        (of_prompt == 0 and others > 0, PROMPT_COPIED),
        (of_prompt == 0 and others == 0 and of_model == 0, PROMPT_MISSING),
        (of_prompt > 1, PROMPT_TWICE),
        (trainable > 0, NOT_FROZEN),
        (not is_trainable, PROMPT_FROZEN),
        (not is_same, WEIGHTS_CHANGED),
    )
    mistakes = tuple(mistake for is_made, mistake in found if is_made)
    if mistakes or others:
        expected = "a list with the soft prompt once and nothing else; of all parameters, it alone requires a gradient"
        test.lose(input, expected, got, mistakes[:2], "not exactly the soft prompt is trained")


def _soft_prompt(test: HW10Test, model: SmallLM, length: int) -> Any:
    return test.rng.normal(0, 0.8, (length, len(model.recurrence))).astype(np.float32)


def check_logits(test: HW10Test, prompt: int, batch: int, length: int) -> None:
    """`soft_prompt_logits` is right for a prompt of so many vectors and a batch of texts of so many tokens."""
    case = _soft_case(test, prompt, batch, length)
    input = _described(case)
    returned = test.measure(
        input, FILE, "soft_prompt_logits", "prompting.logits", *case.model.arrays, _float32(case.prompt), case.ids
    )
    _compare_logits(test, input, returned, case)


def check_gradient(test: HW10Test, prompt: int, batch: int, length: int) -> None:
    """The gradient of a random sum of the logits is right, and reaches the soft prompt alone."""
    case = _soft_case(test, prompt, batch, length)
    directions = test.rng.standard_normal((batch, length, len(case.model.embedding))).astype(np.float32)
    input = f"the gradient through {_described(case)}"
    returned = test.measure(
        input, FILE, "soft_prompt_logits", "prompting.gradient", *case.model.arrays, _float32(case.prompt), case.ids,
        directions,
    )  # fmt: skip
    found = arrays(returned, _shape(case), case.prompt.shape, (), ())
    if found is None:  # the harness found no gradient, or another shape
        _compare_logits(test, input, returned, case)
        test.lose(input, "logits that require a gradient", "some that do not", (NO_GRADIENT,), "there is no gradient")
    logits, got, is_there, is_untouched = found
    _compare_values(test, input, logits, case)
    if not is_there:
        reason = "the soft prompt has no gradient"
        test.lose(input, "a gradient of the soft prompt", "none", (GRADIENT_OF_A_COPY,), reason)
    right = _gradient(case, directions.astype(np.float64))
    if not is_close(got, right):
        test.lose(input, numbers(right), numbers(got), (GRADIENT_CUT,), "the soft prompt's gradient is wrong")
    if is_untouched != 1:
        got_ = "a model that has a gradient, requires one, or has other weights"
        test.lose(input, "the model as it was, frozen", got_, (MODEL_TOUCHED,), "the model was changed")


def _soft_case(test: HW10Test, prompt: int, batch: int, length: int) -> SoftCase:
    model = SmallLM.drawn(test.rng)
    ids = test.rng.integers(0, len(model.embedding), (batch, length))
    return SoftCase(model, _soft_prompt(test, model, prompt).astype(np.float64), ids)


def _float32(values: Floats) -> Any:
    return values.astype(np.float32)


def _described(case: SoftCase) -> str:
    return f"`soft_prompt_logits` with soft_prompt {case.prompt.shape} and ids {case.ids.shape}"


def _right_logits(case: SoftCase, prompt: Floats) -> Floats:
    """The model is led through the prompt, then through each text; what it says after each token, (B, T, V)."""
    model, rows = case.model, []
    begun = _after(model, model.start(), prompt)
    for text in case.ids:
        state = begun
        for token in text:
            state = model.step(state, model.embedding[token])
            rows.append(model.logits(state))
    return np.array(rows).reshape(*case.ids.shape, -1)


def _gradient(case: SoftCase, directions: Floats) -> Floats:
    """The derivatives of Σ directions · logits by each entry of the prompt, (K, E), by central differences."""
    found = np.empty_like(case.prompt)
    for place in np.ndindex(*case.prompt.shape):
        shift = np.zeros_like(case.prompt)
        shift[place] = STEP
        ahead, behind = _right_logits(case, case.prompt + shift), _right_logits(case, case.prompt - shift)
        found[place] = ((ahead - behind) * directions).sum() / (2 * STEP)
    return found


def _compare_logits(test: HW10Test, input: str, returned: Returned, case: SoftCase) -> None:
    """Lose the points where what was returned is not the tensor of the right logits."""
    value = returned.value
    if returned.kind != "tensor" or not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        mistakes = (NOTHING,) if returned.is_nothing else ()
        expected = f"a tensor of floats of shape {_shape(case)}"
        test.lose(input, expected, returned.description(), mistakes, "the result is not a tensor of logits")
    _compare_values(test, input, np.asarray(value, np.float64), case)


def _compare_values(test: HW10Test, input: str, got: Floats, case: SoftCase) -> None:
    right = _right_logits(case, case.prompt)
    mistakes = diagnose_soft(got, right, case)
    if got.shape != right.shape:
        test.lose(input, f"a tensor of shape {right.shape}", f"one of shape {got.shape}", mistakes, "wrong shape")
    first = tuple(f"token {i}" for i in range(right.shape[-1]))
    title = "The logits after the first text"
    chart = Chart(title, "", first, tuple(right[0, -1].tolist()), tuple(got[0, -1].tolist()))
    if not is_close(got, right):
        wrong = np.unravel_index(np.argmax(np.abs(got - right)), right.shape)[:2]
        place = f"result[{wrong[0]}, {wrong[1]}] = "
        test.lose(
            input, place + numbers(right[wrong]), place + numbers(got[wrong]), mistakes, "the logits are wrong", chart
        )
    test.chart = chart


def _shape(case: SoftCase) -> tuple[int, ...]:
    return (*case.ids.shape, len(case.model.embedding))
