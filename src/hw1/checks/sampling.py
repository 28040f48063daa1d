"""The tests of `sample`: does it draw what it should, and does it feed the model what it should?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from src.errors import PointsLost
from src.grading.part_test import numbers
from src.grading.sandbox.messages import Returned
from src.hw1.checks.base import GPT2Test, LanguageModel
from src.hw1.hints.sampling import (
    REPEATED_DRAW,
    SHARED_DRAW,
    UNFILTERED,
    DrawsCase,
    PairsCase,
    diagnose_draws,
    diagnose_feeding,
    diagnose_pairs,
    diagnose_shape,
)
from src.hw1.messages import Ids
from src.hw1.oracle import Asked, Floats, TableModel, fits, log_softmax, pair_probabilities, top_k

DRAWS = 10_000  # in one batch of prompts; see `fits` for the chance of a false alarm
SINGLE_DRAWS = 200  # with a single prompt, one call each


class SamplingTest(GPT2Test):
    """`sample` continues each prompt with tokens drawn from the model's distribution."""

    part = "6.3"

    @number("6.3.1")
    @weight(2)
    def test_draws(self) -> None:
        """Draws each token from the top k, with the model's probabilities"""
        check_draws(self, TableModel(12, seed=6301), np.array([[1, 5, 2], [0, 3, 11]]), k=5)

    @number("6.3.2")
    @weight(2)
    def test_feeding(self) -> None:
        """Feeds the model the new token alone, with the past that it returned"""
        prompts = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 0, 9, 0]])
        check_feeding(self, TableModel(10, seed=6302), prompts, length=6, k=5)


@dataclass(frozen=True)
class SampleCall:
    """The arguments of `sample`."""

    model: LanguageModel
    prompts: Ids  # (B, T)
    k: int
    length: int
    temperature: float | None = None
    horizon: int | None = None
    times: int = 1  # how often it is called with them

    @property
    def description(self) -> str:
        """The call, for a person."""
        rows, tokens = self.prompts.shape
        scale = "" if self.temperature is None else f", temperature = {self.temperature}"
        scale += "" if self.horizon is None else f", temperature_horizon = {self.horizon}"
        return (
            f"`sample`{f' {self.times} times' if self.times > 1 else ''} with {_count(rows, 'prompt')} of "
            f"{_count(tokens, 'token')}, length = {self.length}, top_k = {self.k or '0 (all tokens)'}{scale}, "
            f"and {self.model.description}"
        )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def sampled(test: GPT2Test, call: SampleCall) -> Ids:
    """The ids (B, T + length) that `sample` returns, once they have that shape and begin with the prompts."""
    scale = [value for value in (call.temperature, call.horizon) if value is not None]
    arguments = (call.model.reference, call.prompts, call.model.config(call.k), call.length, *scale)
    returned = test.call(call.description, "sample.py", "sample", *arguments, answerer=call.model.answerer)
    ids = _ids_of_right_shape(test, call, returned)
    if not (ids[:, : call.prompts.shape[1]] == call.prompts).all():
        expected = "each row to begin with its prompt"
        test.lose(call.description, expected, "other tokens in its place", reason="the prompt was changed")
    size = call.model.vocab_size
    if ids.size and not (ids.min() >= 0 and ids.max() < size):
        expected, got = f"token ids from 0 to {size - 1}", f"ids from {ids.min()} to {ids.max()}"
        test.lose(call.description, expected, got, reason="ids outside of the vocabulary")
    return ids


def _ids_of_right_shape(test: GPT2Test, call: SampleCall, returned: Returned) -> Ids:
    rows, tokens = call.prompts.shape
    expected = f"`sample` to return a LongTensor of shape ({rows}, {tokens} + {call.length})"
    ids = returned.value
    if returned.kind != "tensor" or not isinstance(ids, np.ndarray) or ids.dtype != np.int64:
        test.lose(call.description, expected, returned.description(), reason="sample must return a LongTensor")
    if ids.shape != (rows, tokens + call.length):
        mistakes = diagnose_shape(ids, call.prompts, call.length)
        test.lose(call.description, expected, returned.description(), mistakes, "sample returns the wrong shape")
    return ids


@dataclass(frozen=True)
class _Draws:
    """What was drawn after one of several prompts, which were sampled together.

    Attributes:
        prompts: all of them, (n, T)
        index: which of them
        ids: all that `sample` returned
        counts: how often each pair of tokens was drawn after this prompt, (V, V)
        expected: its probability, (V, V)
    """

    call: SampleCall
    model: TableModel
    prompts: Ids
    index: int
    ids: Ids
    counts: Floats
    expected: Floats


def check_draws(test: GPT2Test, model: TableModel, prompts: Ids, k: int, temperature: float | None = None) -> None:
    """`sample` follows the distribution of the next two tokens, each from the top k, after each of `prompts` (n, T)."""
    each = DRAWS // len(prompts)
    call = SampleCall(model, np.repeat(prompts, each, axis=0), k, 2, temperature)
    ids = sampled(test, call)
    for i, prompt in enumerate(prompts):
        pairs = ids[i * each : (i + 1) * each, -2:]
        counts = np.zeros((model.vocab_size, model.vocab_size))
        np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
        expected = pair_probabilities(model, prompt, k, temperature or 1.0)
        draws = _Draws(call, model, prompts, i, ids, counts, expected)
        _check_first_token(test, draws)
        _check_second_token(test, draws)


def _check_first_token(test: GPT2Test, draws: _Draws) -> None:
    counts, probabilities = draws.counts.sum(axis=1), draws.expected.sum(axis=1)
    if fits(counts, probabilities):
        return
    logits = draws.model.logits(draws.prompts)[:, -1]
    mistakes = diagnose_draws(counts, DrawsCase(logits[draws.index], draws.call.k, logits))
    firsts = draws.ids[:, -2]
    if (firsts == firsts[0]).all() and len(set(logits.argmax(axis=-1))) > 1:
        mistakes = (SHARED_DRAW,)
    what = f"the first token after the prompt {draws.prompts[draws.index].tolist()}"
    expected, got = frequencies(what, probabilities, counts)
    test.lose(draws.call.description, expected, got, mistakes, "the draws have the wrong distribution")


def _check_second_token(test: GPT2Test, draws: _Draws) -> None:
    counts, probabilities = draws.counts, draws.expected
    if fits(counts.reshape(-1), probabilities.reshape(-1)):
        return
    prompt, asked = draws.prompts[draws.index], draws.model.asked
    longer = np.concatenate((prompt, [counts.sum(axis=1).argmax()]))
    after = DrawsCase(draws.model.logits(longer[None])[0, -1], draws.call.k)
    mistakes = diagnose_feeding(asked[1], draws.ids[:, :-1]) if len(asked) > 1 else ()
    mistakes = mistakes or diagnose_pairs(counts, PairsCase(probabilities, after))
    first = int(np.abs(counts / counts.sum() - probabilities).sum(axis=1).argmax())  # after which it is most wrong
    what = f"the second token, after the prompt {prompt.tolist()} and the first token {first}"
    expected, got = frequencies(what, probabilities[first], counts[first])
    reason = "the draws of the second token have the wrong distribution"
    test.lose(draws.call.description, expected, got, mistakes, reason)


def frequencies(what: str, probabilities: Floats, counts: Floats) -> tuple[str, str]:
    """What was expected and what was got, for a person: how often each token is drawn as `what`."""
    expected = numbers(probabilities / probabilities.sum(), 20)
    got = numbers(counts / max(1, counts.sum()), 20)
    return f"about these frequencies for {what} (token 0, 1, …): {expected}", f"these frequencies: {got}"


def check_draws_alone(test: GPT2Test, model: TableModel, prompt: Ids, k: int) -> None:
    """`sample` also follows the distribution of the next token after a single prompt, (1, T)."""
    call = SampleCall(model, prompt, k, 1, times=SINGLE_DRAWS)
    counts = counts_alone(test, call)
    logits = model.logits(prompt)[0, -1]
    probabilities = np.exp(log_softmax(top_k(logits, k)))
    if fits(counts, probabilities):
        return
    mistakes = diagnose_draws(counts, DrawsCase(logits, k))
    if tuple(mistakes) == (SHARED_DRAW,):  # there is only one prompt
        mistakes = (REPEATED_DRAW,)
    expected, got = frequencies("the new token", probabilities, counts)
    test.lose(call.description, expected, got, mistakes, "the draws have the wrong distribution")


def counts_alone(test: GPT2Test, call: SampleCall) -> Floats:
    """How often `sample` draws each token after a single prompt, (V,), in `call.times` calls."""
    drawn = [int(sampled(test, call)[0, -1]) for _ in range(call.times)]
    return np.bincount(drawn, minlength=call.model.vocab_size).astype(np.float64)


def check_feeding(test: GPT2Test, model: TableModel, prompts: Ids, length: int, k: int) -> None:
    """After the prompts, `sample` feeds the model exactly the new token, with the `past` that it returned."""
    call = SampleCall(model, prompts, k, length)
    ids = sampled(test, call)
    start, fed = prompts.shape[1], 0
    input = f"{call.description}, which records what it is fed"
    expected = (
        "one call of the model for each new token: first with the prompts, then with the newest tokens alone and the "
        "`past` that the model returned before"
    )
    for step, asked in enumerate(model.asked, start=1):
        size = asked.ids.shape[1]
        if not _continues(asked, ids, fed) or fed + size > max(start, fed + 1):  # the prompts may come in pieces
            mistakes = diagnose_feeding(asked, ids[:, : fed + 1]) if fed >= start else ()
            past = "no past" if asked.past is None else f"a past of {_count(asked.past.shape[1], 'token')}"
            got = f"call {step} had token ids of shape {asked.ids.shape} and {past}"
            test.lose(input, expected, got, mistakes, "the model is not fed what it should be")
        fed += size
    if not 0 <= fed - (start + length - 1) <= 1:
        got = f"{_count(len(model.asked), 'call')} of the model, with {fed} of the {start} + {length} tokens"
        test.lose(input, expected, got, reason="the model is called too often or too rarely")


def _continues(asked: Asked, ids: Ids, fed: int) -> bool:
    """Whether the model was asked about what comes in `ids` after the first `fed`, with exactly these as its past."""
    if not np.array_equal(asked.ids, ids[:, fed : fed + asked.ids.shape[1]]):
        return False
    if asked.past is None:
        return fed == 0
    return fed > 0 and np.array_equal(asked.past, ids[:, :fed])


def check_gpt2_samples(test: GPT2Test, texts: Sequence[str], tokens: int, length: int) -> None:
    """With the bundled GPT-2, all tokens that `sample` draws are in the top k after what comes before them."""
    prompts = np.stack([ids[:tokens] for ids in test.encode(texts)])
    k = test.config.top_k
    call = SampleCall(test.gpt2, prompts, k, length)
    ids = sampled(test, call)
    logits = test.gpt2.logits(ids)[:, tokens - 1 : -1]  # (B, length, V)
    drawn = np.take_along_axis(logits, ids[:, tokens:, None], axis=-1)[..., 0]
    kth_largest = np.sort(logits, axis=-1)[..., -k]
    outside = int((drawn < kth_largest - 1e-2).sum())
    if outside:
        mistakes = (UNFILTERED,) if outside < drawn.size / 2 else ()
        if (ids[:, tokens:] == ids[0, tokens:]).all():
            mistakes = (SHARED_DRAW,)
        expected, got = f"each new token to be one of the top {k}", f"{outside} of {drawn.size} tokens are not"
        test.lose(call.description, expected, got, mistakes, "tokens outside of the top k were drawn")


def draws_rightly(test: GPT2Test, model: TableModel, prompts: Ids, k: int) -> bool:
    """Whether `sample`, in a fresh process, draws rightly without a temperature: what this part is about, no other."""
    test.start_afresh()
    try:
        check_draws(test, model, prompts, k)
        check_draws_alone(test, model, prompts[:1], k)
    except PointsLost:
        return False
    return True
