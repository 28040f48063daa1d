"""The tests of `classification`: does it tell random letters from written text?"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight

from src.errors import PointsLost
from src.files import ROOT
from src.grading.part_test import hint_of
from src.hw1.checks.base import GPT2Test
from src.hw1.checks.likelihood import SENTENCE, LikelihoodTest
from src.hw1.dataset import DATASETS, NEURIPS, RANDOM, SHAKESPEARE, Dataset, read_pieces
from src.hw1.hints.classifier import NOT_A_BOOL, NOT_A_DECISION, diagnose_decisions
from src.hw1.messages import Ids, RightLikelihoods
from src.hw1.oracle import log_likelihood


class ClassifierTest(GPT2Test):
    """`classification` returns True for random letters and False for plays and abstracts.

    It calls your `log_likelihood`. Where that earns less than all points, a right `log_likelihood` takes the place of
    yours for another try, and the better result counts: a mistake in `log_likelihood` costs no points here.
    """

    part = "6.5"
    seconds = 40.0

    @number("6.5.1")
    @weight(2.5)
    def test_pieces(self) -> None:
        """Tells random letters from plays and abstracts"""
        earn_by_decisions(self, {dataset: read_pieces(ROOT / "data" / dataset.file)[::12] for dataset in DATASETS})

    @number("6.5.2")
    @weight(1)
    def test_type(self) -> None:
        """Returns True or False, and leaves the model as it was"""
        check_type(self, SENTENCE)


@dataclass(frozen=True)
class _Attempt:
    """What the decisions on all texts earned."""

    share: float  # of the points, 0 to 1
    lost: PointsLost | None  # why not all of them


def earn_by_decisions(test: GPT2Test, texts: Mapping[Dataset, Sequence[str]]) -> None:
    """Earn a share of the test's points by the decisions on `texts`.

    It is the share of the random letters that were found, minus the share of plays or of abstracts, whichever is
    larger, that were taken for random: nothing for calling all texts the same. See `ClassifierTest` for the
    `log_likelihood` that is used.
    """
    labelled = [(dataset, text) for dataset, of_dataset in texts.items() for text in of_dataset]
    secrets.SystemRandom().shuffle(labelled)  # an order that nobody can know
    kinds = [dataset for dataset, _ in labelled]
    ids = test.encode([text for _, text in labelled])
    attempt = _decide(test, kinds, ids, None)
    if attempt.share < 1:
        test.start_afresh()  # the classifier has imported the student's function already
        attempt = _better(attempt, _decide(test, kinds, ids, _right_likelihoods(test, ids)))
    test.partly_lost = attempt.lost
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


def _decide(
    test: GPT2Test, kinds: Sequence[Dataset], ids: Sequence[Ids], stand_in: RightLikelihoods | None
) -> _Attempt:
    counts = ", ".join(f"{kinds.count(dataset)} of {dataset.label}" for dataset in DATASETS)
    input = f"`classification` of {len(kinds)} texts, {counts}{_note(stand_in)}"
    written = f"{SHAKESPEARE.label} and {NEURIPS.label}"
    expected = f"True for {RANDOM.label}, False for {written}"
    decisions: dict[Dataset, list[bool]] = {dataset: [] for dataset in DATASETS}
    for dataset, text in zip(kinds, ids, strict=True):
        arguments = (test.gpt2.reference, text[None])
        try:
            returned = test.call(input, "classifier.py", "classification", *arguments, stand_in=stand_in)
        except PointsLost as lost:
            return _Attempt(0.0, lost)
        value = returned.number()
        if value not in (0.0, 1.0):
            hint, reason = NOT_A_DECISION.hint, "classification must return True or False"
            return _Attempt(0.0, PointsLost(input, expected, returned.description(), hint, reason))
        decisions[dataset].append(value == 1.0)
    shares = {dataset: float(np.mean(of_dataset)) for dataset, of_dataset in decisions.items()}
    share = max(0.0, shares[RANDOM] - max(shares[SHAKESPEARE], shares[NEURIPS]))
    if share == 1:
        return _Attempt(share, None)
    got = "True for " + ", ".join(f"{shares[dataset]:.0%} of {dataset.label}" for dataset in DATASETS)
    hint = hint_of(diagnose_decisions(shares))
    return _Attempt(share, PointsLost(input, expected, got, hint, "some decisions are wrong"))


def _note(stand_in: RightLikelihoods | None) -> str:
    """What the student has to know about `log_likelihood` in such a call."""
    if stand_in is None:
        return ""
    own = f"yours ({LikelihoodTest.part})"
    return f"; a right `log_likelihood` took the place of {own}, so that a mistake there costs nothing here"


def _right_likelihoods(test: GPT2Test, texts: Sequence[Ids]) -> RightLikelihoods:
    """What takes the place of the student's `log_likelihood`."""
    values = [log_likelihood(test.gpt2.logits(ids[None])[0], ids) for ids in texts]
    return RightLikelihoods(tuple(tuple(ids.tolist()) for ids in texts), tuple(values))


def check_type(test: GPT2Test, text: str) -> None:
    """`classification` returns True or False themselves, and leaves the model as it was."""
    (ids,) = test.encode([text])
    try:
        _check_decision(test, ids, None)
    except PointsLost as own:  # perhaps only because of the student's own `log_likelihood`
        test.start_afresh()
        try:
            _check_decision(test, ids, _right_likelihoods(test, [ids]))
        except PointsLost as lost:
            raise (own if _is_same(own, lost) else lost) from None


def _check_decision(test: GPT2Test, ids: Ids, stand_in: RightLikelihoods | None) -> None:
    input, arguments = f"`classification` of one text{_note(stand_in)}", (test.gpt2.reference, ids[None])
    returned = test.call(input, "classifier.py", "classification", *arguments, stand_in=stand_in, watch=True)
    if returned.model_changed:
        test.lose(input, "the model to stay as it was", "the model was changed", reason="the model was changed")
    if not (returned.kind == "plain" and type(returned.value) is bool):
        mistakes = (NOT_A_BOOL,) if returned.number() in (0.0, 1.0) else (NOT_A_DECISION,)
        test.lose(input, "a Python bool", returned.description(), mistakes, "the result is not a Python bool")
