"""The tests of `classification`: does it tell random letters from written text?"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from numpy.typing import NDArray

from src.errors import PointsLost
from src.files import ROOT
from src.grading.chart import Chart
from src.grading.part_test import Mistakes, hint_of, names_of
from src.hw1.checks.base import GPT2Test, LanguageModel
from src.hw1.checks.likelihood import SENTENCE, LikelihoodTest
from src.hw1.dataset import DATASETS, NEURIPS, RANDOM, SHAKESPEARE, Dataset, read_pieces
from src.hw1.fated import TOKENS, FatedModel
from src.hw1.hints.classifier import MODEL_NOT_ASKED, NOT_A_BOOL, NOT_A_DECISION, diagnose_decisions
from src.hw1.messages import Ids, RightLikelihood
from src.hw1.oracle import log_likelihood

Decisions = NDArray[np.bool_]

FATED_TEXTS = 40  # of the test model
NO_LUCK = (
    0.6  # a smaller share of right decisions on them could be guessed; a coin gets so much once in 10,000 gradings
)


class ClassifierTest(GPT2Test):
    """`classification` returns True for random letters and False for plays and abstracts.

    It calls your `log_likelihood`. Where that earns less than all points, a right `log_likelihood` takes the place of
    yours for another try, and the better result counts: a mistake in `log_likelihood` costs no points here. It does so
    only for the model and the text that `classification` was given.
    """

    part = "6.5"
    seconds = 40.0

    @number("6.5.1")
    @weight(2.5)
    def test_pieces(self) -> None:
        """Tells random letters from plays and abstracts, by the model's opinion of them"""
        earn_by_decisions(self, {dataset: read_pieces(ROOT / "data" / dataset.file)[::12] for dataset in DATASETS})

    @number("6.5.2")
    @weight(1)
    def test_type(self) -> None:
        """Returns True or False, and leaves the model as it was"""
        check_type(self, SENTENCE)


@dataclass(frozen=True)
class _Texts:
    """What `classification` is asked."""

    description: str
    model: LanguageModel
    ids: Sequence[Ids]  # (T,) each
    log_p: Callable[[], Sequence[float]]  # the log-likelihood of each


@dataclass(frozen=True)
class _Attempt:
    """What the decisions on all texts earned."""

    share: float  # of the points, 0 to 1
    lost: PointsLost | None  # why not all of them
    chart: Chart | None = None


def earn_by_decisions(test: GPT2Test, texts: Mapping[Dataset, Sequence[str]]) -> None:
    """Earn a share of the test's points by the decisions on `texts`, and on texts of a test model.

    Of `texts`, it is the share of the random letters that were found, minus the share of plays or of abstracts,
    whichever is larger, that were taken for random: nothing for calling all texts the same. A test model decides at
    random, in each grading anew, which texts are likely: only who asks it can tell. The smaller share counts. See
    `ClassifierTest` for the `log_likelihood` that is used.
    """
    labelled = [(dataset, text) for dataset, of_dataset in texts.items() for text in of_dataset]
    secrets.SystemRandom().shuffle(labelled)  # an order that nobody can know
    kinds = [dataset for dataset, _ in labelled]
    ids = test.encode([text for _, text in labelled])
    counts = ", ".join(f"{kinds.count(dataset)} of {dataset.label}" for dataset in DATASETS)
    real = _Texts(f"{len(kinds)} texts, {counts}", test.gpt2, ids, lambda: _likelihoods(test.gpt2, ids))
    fated = FatedModel(FATED_TEXTS, test.rng)
    attempt = _decide(test, real, kinds, fated, has_stand_in=False)
    if attempt.share < 1:
        test.start_afresh()  # the classifier has imported the student's function already
        attempt = _better(attempt, _decide(test, real, kinds, fated, has_stand_in=True))
    test.partly_lost, test.chart = attempt.lost, attempt.chart
    if attempt.lost is not None and attempt.share == 0:
        raise attempt.lost
    test.earn(attempt.share)


def _better(own: _Attempt, with_stand_in: _Attempt) -> _Attempt:
    """The attempt that earns more; if both earn the same, the one whose message helps more."""
    if own.share == with_stand_in.share and own.lost and with_stand_in.lost:
        return own if _is_same(own.lost, with_stand_in.lost) else with_stand_in
    return with_stand_in if with_stand_in.share >= own.share else own


def _is_same(own: PointsLost, with_stand_in: PointsLost) -> bool:
    """Whether the same is wrong with both kinds of `log_likelihood`, which then need not be mentioned."""
    return own.got == with_stand_in.got or (own.hint != "" and own.hint == with_stand_in.hint)


def _decide(test: GPT2Test, real: _Texts, kinds: Sequence[Dataset], fated: FatedModel, has_stand_in: bool) -> _Attempt:
    """What the student's decisions earn on `real` texts of these kinds, and on those of a test model."""
    asked = _Texts(
        f"{len(fated.texts)} texts of {TOKENS} random tokens, with {fated.description}", fated, fated.texts,
        lambda: fated.log_p,
    )  # fmt: skip
    try:
        attempt = _earned_by_kind(test, real, kinds, has_stand_in)
        return min(attempt, _earned_by_model(test, asked, fated.unlikely, has_stand_in), key=lambda each: each.share)
    except PointsLost as lost:
        return _Attempt(0.0, lost)


def _earned_by_kind(test: GPT2Test, texts: _Texts, kinds: Sequence[Dataset], has_stand_in: bool) -> _Attempt:
    written = f"{SHAKESPEARE.label} and {NEURIPS.label}"
    expected = f"True for {RANDOM.label}, False for {written}"
    decisions = _decisions(test, texts, expected, has_stand_in)
    shares = {dataset: float(decisions[[kind == dataset for kind in kinds]].mean()) for dataset in DATASETS}
    share = max(0.0, shares[RANDOM] - max(shares[SHAKESPEARE], shares[NEURIPS]))
    labels = tuple(dataset.label for dataset in DATASETS)
    chart = _chart(labels, tuple(float(dataset is RANDOM) for dataset in DATASETS), tuple(shares.values()))
    if share == 1:
        return _Attempt(share, None, chart)
    got = "True for " + ", ".join(f"{shares[dataset]:.0%} of {dataset.label}" for dataset in DATASETS)
    return _attempt(share, _input(texts, has_stand_in), expected, got, diagnose_decisions(shares), chart)


def _earned_by_model(test: GPT2Test, texts: _Texts, unlikely: Decisions, has_stand_in: bool) -> _Attempt:
    expected = "True for all unlikely texts, False for all likely ones"
    decisions = _decisions(test, texts, expected, has_stand_in)
    found, mistaken = float(decisions[unlikely].mean()), float(decisions[~unlikely].mean())
    share = found - mistaken if found - mistaken >= NO_LUCK else 0.0
    chart = _chart(("unlikely texts", "likely texts"), (1.0, 0.0), (found, mistaken))
    if share == 1:
        return _Attempt(share, None, chart)
    got = f"True for {found:.0%} of the unlikely texts and {mistaken:.0%} of the likely ones"
    return _attempt(share, _input(texts, has_stand_in), expected, got, () if share else (MODEL_NOT_ASKED,), chart)


def _attempt(share: float, input: str, expected: str, got: str, mistakes: Mistakes, chart: Chart) -> _Attempt:
    hint, names = hint_of(mistakes), names_of(mistakes)
    lost = PointsLost(input, expected, got, hint, "some decisions are wrong", mistakes=names, chart=chart)
    return _Attempt(share, lost, chart)


def _chart(labels: tuple[str, ...], expected: tuple[float, ...], got: tuple[float, ...]) -> Chart:
    return Chart("For which share of the texts the answer is True", "", labels, expected, got)


def _decisions(test: GPT2Test, texts: _Texts, expected: str, has_stand_in: bool) -> Decisions:
    """The decision on each of `texts`.

    Raises:
        PointsLost: there is none.
    """
    input, reference, decisions = _input(texts, has_stand_in), texts.model.reference, []
    stand_ins = _stand_ins(texts) if has_stand_in else [None] * len(texts.ids)
    for ids, stand_in in zip(texts.ids, stand_ins, strict=True):
        returned = test.call(
            input, "classifier.py", "classification", reference, ids[None], answerer=texts.model.answerer,
            stand_in=stand_in,
        )  # fmt: skip
        value = returned.number()
        if value not in (0.0, 1.0):
            reason = "classification must return True or False"
            test.lose(input, expected, returned.description(), (NOT_A_DECISION,), reason)
        decisions.append(value == 1.0)
    return np.array(decisions)


def _input(texts: _Texts, has_stand_in: bool) -> str:
    return f"`classification` of {texts.description}{_note(has_stand_in)}"


def _note(has_stand_in: bool) -> str:
    """What the student has to know about `log_likelihood` in such a call."""
    if not has_stand_in:
        return ""
    own = f"yours ({LikelihoodTest.part})"
    return f"; a right `log_likelihood` took the place of {own}, so that a mistake there costs nothing here"


def _stand_ins(texts: _Texts) -> list[RightLikelihood]:
    """What takes the place of the student's `log_likelihood`, for each text."""
    values = zip(texts.ids, texts.log_p(), strict=True)
    return [RightLikelihood(texts.model.reference, tuple(ids.tolist()), value) for ids, value in values]


def _likelihoods(model: LanguageModel, texts: Sequence[Ids]) -> list[float]:
    return [log_likelihood(model, ids) for ids in texts]


def check_type(test: GPT2Test, text: str) -> None:
    """`classification` returns True or False themselves, and leaves the model as it was."""
    (ids,) = test.encode([text])
    try:
        _check_decision(test, ids, None)
    except PointsLost as own:  # perhaps only because of the student's own `log_likelihood`
        test.start_afresh()
        (stand_in,) = _stand_ins(_Texts("", test.gpt2, [ids], lambda: _likelihoods(test.gpt2, [ids])))
        try:
            _check_decision(test, ids, stand_in)
        except PointsLost as lost:
            raise (own if _is_same(own, lost) else lost) from None


def _check_decision(test: GPT2Test, ids: Ids, stand_in: RightLikelihood | None) -> None:
    input = f"`classification` of one text{_note(stand_in is not None)}"
    arguments = (test.gpt2.reference, ids[None])
    returned = test.call(input, "classifier.py", "classification", *arguments, stand_in=stand_in, watch=True)
    if returned.model_changed:
        test.lose(input, "the model to stay as it was", "the model was changed", reason="the model was changed")
    if not (returned.kind == "plain" and type(returned.value) is bool):
        mistakes = (NOT_A_BOOL,) if returned.number() in (0.0, 1.0) else (NOT_A_DECISION,)
        test.lose(input, "a Python bool", returned.description(), mistakes, "the result is not a Python bool")
