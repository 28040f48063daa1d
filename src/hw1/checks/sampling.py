"""The tests of `sample`: does it draw what it should, and does it feed the model what it should?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from src.errors import PointsLost
from src.grading.chart import Chart
from src.grading.mistakes import NOTHING
from src.grading.part_test import Mistakes, numbers
from src.grading.sandbox.messages import Returned
from src.hw1.checks.base import GPT2Test, LanguageModel
from src.hw1.evidence import Draws, Evidence, fits
from src.hw1.hints.sampling import (
    FOLLOWING_MISTAKES,
    NOT_IDS,
    REPEATED_DRAW,
    SHARED_DRAW,
    UNFILTERED,
    diagnose_all,
    diagnose_draws,
    diagnose_feeding,
    diagnose_shape,
)
from src.hw1.hints.shared import first_that_applies
from src.hw1.messages import Ids
from src.hw1.oracle import Asked, Floats, TableModel
from src.hw1.trials import FEW, SMALL, Trial, contexts, followers, prompts_for, repeat_each_other, trials

SHOWN = 24  # of the frequencies
FED = 7  # tokens, to see what `sample` feeds the model: few enough for it if each call has the whole text and a past
ENOUGH = 20  # texts after each prompt, to find a mistake
WRONG_DRAWS = "the draws have the wrong distribution"
WRONG_DRAWS_ALONE = "the draws after a single prompt have the wrong distribution"


class SamplingTest(GPT2Test):
    """`sample` continues each prompt with tokens drawn from the model's distribution."""

    part = "6.3"

    @number("6.3.1")
    @weight(2)
    def test_draws(self) -> None:
        """Draws each token from the top k, with the model's probabilities"""
        check_draws(self, trials(self.rng))

    @number("6.3.2")
    @weight(2)
    def test_feeding(self) -> None:
        """Feeds the model the new token alone, with the past that it returned"""
        model = TableModel(int(self.rng.choice(SMALL)), int(self.rng.integers(2**32)))
        check_feeding(self, model, prompts_for(self.rng, model, count=3), length=6, k=5)


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
        is_tensor = returned.kind == "tensor"
        mistakes = [NOT_IDS] if is_tensor else [NOTHING] if returned.is_nothing else []
        test.lose(call.description, expected, returned.description(), mistakes, "sample must return a LongTensor")
    if ids.shape != (rows, tokens + call.length):
        of_shape = diagnose_shape(ids, call.prompts, call.length)
        test.lose(call.description, expected, returned.description(), of_shape, "sample returns the wrong shape")
    return ids


def _call_of(trial: Trial) -> SampleCall:
    """The call of `sample` in a trial; of many, the first."""
    prompts = trial.prompts[:1] if trial.alone else np.repeat(trial.prompts, trial.repeats, axis=0)
    times = len(trial.prompts) * trial.repeats if trial.alone else 1
    return SampleCall(trial.model, prompts, trial.k, trial.length, trial.temperature, times=times)


def check_draws(test: GPT2Test, trials: Sequence[Trial]) -> None:
    """`sample` draws each token from the top k, with the model's probabilities.

    The trials end as soon as it is clear whether the draws are right. If the first one has few tokens, the counts of
    all first and second tokens after its prompts are looked at, too.
    """
    evidence, firsts, draws = Evidence(), [], []
    for trial in trials:
        ids = _continued(test, trial)
        if trial.prompts is trials[0].prompts:
            firsts.append(ids)
        draws.append(trial.draws(ids))
        evidence.add(draws[-1], trial.model.seed)
        if evidence.is_too_much:
            _lose_by_draws(test, trial, ids, _diagnosed(test, trials[0], trial, ids, draws))
        if evidence.is_settled:
            break
    if trials[0].model.vocab_size > FEW:
        return
    pairs = trials[0].pairs(np.concatenate(firsts))
    tables = [(counts.sum(axis=1), p.sum(axis=1)) for counts, p in pairs]
    tables += [(counts.reshape(-1), p.reshape(-1)) for counts, p in pairs]
    looks = len(trials) if trials[0].alone else 1  # when to look depends on the draws, if they go on
    if not all(fits(counts, p, len(tables) * looks) for counts, p in tables):
        ids = np.concatenate(firsts)
        _lose_by_draws(test, trials[0], ids, _diagnosed(test, trials[0], trials[0], ids, draws))
    flattest = min(range(len(pairs)), key=lambda i: float(tables[i][1].max()))  # shows most
    counts, p = tables[flattest]
    test.chart = frequency_chart(_first_after(trials[0].prompts[flattest]), p, counts)


def _continued(test: GPT2Test, trial: Trial) -> Ids:
    """The prompts of a trial, each of them `repeats` times, as `sample` continues them, (n * repeats, T + length)."""
    if not trial.alone:
        return sampled(test, _call_of(trial))
    prompts = np.repeat(trial.prompts, trial.repeats, axis=0)
    return np.concatenate([sampled(test, replace(_call_of(trial), prompts=prompt[None])) for prompt in prompts])


def _lose_by_draws(test: GPT2Test, trial: Trial, ids: Ids, mistakes: Mistakes) -> NoReturn:
    """Say where the draws `ids` of a trial are wrong."""
    draws = trial.draws(ids)
    if trial.model.vocab_size <= FEW:
        _check_pairs(test, trial, ids, mistakes)
    if draws.outside:
        all_kept = f"each new token to be one of the top {trial.k}"
        _lose(test, trial, all_kept, f"{draws.outside:,} of {len(draws.drawn):,} tokens are not", mistakes)
    right, mean = draws.mean_log_p
    about = f"draws whose log-probabilities have a mean of about {right:.3f}"
    _lose(test, trial, about, f"a mean of {mean:.3f} in {len(draws.drawn):,} draws", mistakes)


def _lose(
    test: GPT2Test, trial: Trial, expected: str, got: str, mistakes: Mistakes, chart: Chart | None = None
) -> NoReturn:
    reason = WRONG_DRAWS_ALONE if trial.alone else WRONG_DRAWS
    test.lose(_call_of(trial).description, expected, got, mistakes, reason, chart)


def _first_after(prompt: Ids) -> str:
    return f"the first token after the prompt {prompt.tolist()}"


def _check_pairs(test: GPT2Test, trial: Trial, ids: Ids, mistakes: Mistakes) -> None:
    """Say what is wrong with the first two tokens after each prompt, where that shows."""
    pairs = list(zip(trial.prompts, trial.pairs(ids), strict=True))
    for prompt, (counts, right) in pairs:
        drawn, p = counts.sum(axis=1), right.sum(axis=1)
        if not fits(drawn, p):
            what = _first_after(prompt)
            _lose(test, trial, *frequencies(what, p, drawn), mistakes, frequency_chart(what, p, drawn))
    for prompt, (counts, right) in pairs:
        if not fits(counts.reshape(-1), right.reshape(-1)):
            first = int(np.abs(counts / counts.sum() - right).sum(axis=1).argmax())  # after which it is most wrong
            what = f"the second token, after the prompt {prompt.tolist()} and the first token {first}"
            both = right[first], counts[first]
            _lose(test, trial, *frequencies(what, *both), mistakes, frequency_chart(what, *both))


def _diagnosed(test: GPT2Test, first: Trial, trial: Trial, ids: Ids, seen: Sequence[Draws]) -> Mistakes:
    """The mistake behind wrong draws, the last of which are the `ids` of `trial`."""
    if first.model.vocab_size <= FEW and (trial.alone or trial is not first):
        # Known mistakes differ most where tokens are few and draws are many.
        trial, ids = first, _continued(test, replace(first, repeats=max(first.repeats, ENOUGH)))
    if repeat_each_other(trial, ids):
        return (REPEATED_DRAW if trial.alone else SHARED_DRAW,)
    return (
        _diagnosed_feeding(test, trial)
        or first_that_applies(FOLLOWING_MISTAKES, followers(trial, ids))
        or diagnose_draws(*contexts(trial, ids))
        or diagnose_all(seen, trial.temperature)
    )


def _diagnosed_feeding(test: GPT2Test, trial: Trial) -> Mistakes:
    """The mistake in what `sample` feeds to a model like the trial's that takes notes."""
    model = TableModel(trial.model.vocab_size, trial.model.seed)
    prompts = trial.prompts[:1] if trial.alone else trial.prompts
    try:
        ids = sampled(test, SampleCall(model, prompts, trial.k, FED, trial.temperature))
    except PointsLost:
        return ()
    return _fed_rightly(model.asked, ids, prompts.shape[1])[-1]


def frequencies(what: str, probabilities: Floats, counts: Floats) -> tuple[str, str]:
    """What was expected and what was got, for a person: how often each token is drawn as `what`."""
    expected = numbers(probabilities / probabilities.sum(), SHOWN)
    got = numbers(counts / max(1, counts.sum()), SHOWN)
    return f"about these frequencies for {what} (token 0, 1, …): {expected}", f"these frequencies: {got}"


def frequency_chart(what: str, probabilities: Floats, counts: Floats) -> Chart:
    """The same as a chart."""
    expected, got = probabilities / probabilities.sum(), counts / max(1, counts.sum())
    labels = tuple(f"token {token}" for token in range(len(counts)))
    title = f"How often each token is {what}"
    return Chart(title, "", labels[:SHOWN], tuple(expected[:SHOWN].tolist()), tuple(got[:SHOWN].tolist()))


def check_feeding(test: GPT2Test, model: TableModel, prompts: Ids, length: int, k: int) -> None:
    """After the prompts, `sample` feeds the model exactly the new token, with the `past` that it returned.

    The prompts may come in one batch or one by one, each of them at once or in pieces.
    """
    call = SampleCall(model, prompts, k, length)
    ids = sampled(test, call)
    start = prompts.shape[1]
    fed, calls, mistakes = _fed_rightly(model.asked, ids, start)
    input = f"{call.description}, which records what it is fed"
    expected = (
        "one call of the model for each new token: first with the prompts, then with the newest tokens alone and the "
        "`past` that the model returned before"
    )
    if calls < len(model.asked):
        asked = model.asked[calls]
        past = "no past" if asked.past is None else f"a past of {_count(asked.past.shape[1], 'token')}"
        got = f"call {calls + 1} had token ids of shape {asked.ids.shape} and {past}"
        test.lose(input, expected, got, mistakes, "the model is not fed what it should be")
    if (fed < start + length - 1).any() or (fed > start + length).any():
        got = f"{_count(len(model.asked), 'call')} of the model, with {fed.max()} of the {start} + {length} tokens"
        test.lose(input, expected, got, reason="the model is called too often or too rarely")


def _fed_rightly(calls: Sequence[Asked], ids: Ids, start: int) -> tuple[Ids, int, Mistakes]:
    """How many tokens of each row of `ids` the model was fed rightly, in how many calls, and the mistake in the next.

    Args:
        start: the length of the prompts
    """
    fed, rows = np.zeros(len(ids), int), list(range(len(ids)))
    for right, asked in enumerate(calls):
        size, before = asked.ids.shape[1], rows
        rows = _rows_of(asked, ids, fed)
        if not rows or (fed[rows] + size > np.maximum(start, fed[rows] + 1)).any():
            seen = int(fed[before[0]])
            return fed, right, diagnose_feeding(asked, ids[before, : seen + 1]) if seen >= start else ()
        fed[rows] += size
    return fed, len(calls), ()


def _rows_of(asked: Asked, ids: Ids, fed: Ids) -> list[int]:
    """Which rows of `ids` go on with what was asked after the tokens that were `fed`; empty if one of them does not."""
    found: list[int] = []
    for i, new in enumerate(asked.ids):
        past = new[:0] if asked.past is None else asked.past[i if len(asked.past) > 1 else 0]
        known = np.concatenate((past, new))
        fitting = (j for j, row in enumerate(ids) if j not in found and np.array_equal(row[: len(known)], known))
        row = next((j for j in fitting if fed[j] == len(past)), None)
        if row is None:
            return []
        found.append(row)
    return found


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
