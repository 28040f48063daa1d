"""The tests of `log_likelihood`: is it the right number, and a plain one?"""

import math
from collections.abc import Sequence

from gradescope_utils.autograder_utils.decorators import number, weight

from src.grading.chart import Chart
from src.grading.mistakes import NOTHING
from src.grading.part_test import Mistakes
from src.grading.sandbox.messages import Returned
from src.hw1.checks.base import GPT2Test, LanguageModel
from src.hw1.hints.likelihood import NOT_A_FLOAT, LikelihoodCase, diagnose_likelihood
from src.hw1.hints.shared import NOT_A_NUMBER
from src.hw1.messages import Ids
from src.hw1.oracle import TableModel, close, log_likelihood, seed_from

SENTENCE = "The model assigns a probability to every sentence, and this one should be rather likely."


class LikelihoodTest(GPT2Test):
    """`log_likelihood` returns the log-likelihood of a text, in nats."""

    part = "6.4"

    @number("6.4.1")
    @weight(3)
    def test_table(self) -> None:
        """Is the sum of the log-probabilities of all tokens but the first"""
        check_values(self, TableModel(12, seed_from(self.rng)), [self.rng.integers(0, 12, n) for n in (4, 9, 30)])

    @number("6.4.2")
    @weight(1)
    def test_type(self) -> None:
        """Is a plain Python float, and leaves the model as it was"""
        check_type(self, SENTENCE)


def check_values(test: GPT2Test, model: LanguageModel, texts: Sequence[Ids]) -> None:
    """`log_likelihood` is right for each of `texts`, (T,) each."""
    *lengths, last = (str(len(text)) for text in texts)
    input = f"`log_likelihood` of texts of {', '.join(lengths)} and {last} tokens, with {model.description}"
    values, cases = [], []
    for ids in texts:
        arguments = (model.reference, ids[None])
        returned = test.call(input, "likelihood.py", "log_likelihood", *arguments, answerer=model.answerer)
        value = returned.number()
        if value is None:
            reason = "log_likelihood must return one number"
            test.lose(input, "a number for each text", returned.description(), _of_type(returned), reason)
        values.append(value)
        cases.append(LikelihoodCase(ids, log_likelihood(model, ids), model.logits))
    right = [case.right for case in cases]
    labels = tuple(f"{len(ids)} tokens" for ids in texts)
    chart = Chart("The log-likelihood of each text", "nats", labels, tuple(right), tuple(values))
    if not all(map(close, values, right)):
        mistakes = diagnose_likelihood(values, cases)
        test.lose(input, _listed(right), _listed(values), mistakes, "the values are wrong", chart)
    test.chart = chart


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def check_type(test: GPT2Test, text: str) -> None:
    """`log_likelihood` returns a plain Python float and leaves the model as it was."""
    input = f"`log_likelihood` of a sentence, with {test.gpt2.description}"
    (ids,) = test.encode([text])
    returned = test.call(input, "likelihood.py", "log_likelihood", test.gpt2.reference, ids[None], watch=True)
    if not (returned.kind == "plain" and type(returned.value) is float and math.isfinite(returned.value)):
        got = returned.description() + (" that requires a gradient" if returned.requires_grad else "")
        test.lose(input, "a Python float", got, _of_type(returned), "the result is not a Python float")
    if returned.model_changed:
        test.lose(input, "the model to stay as it was", "the model was changed", reason="the model was changed")


def _of_type(returned: Returned) -> Mistakes:
    """The mistake in a value that is not a finite Python float."""
    value = returned.number()
    if value is None:
        return (NOTHING,) if returned.is_nothing else ()
    return (NOT_A_FLOAT,) if math.isfinite(value) else (NOT_A_NUMBER,)
