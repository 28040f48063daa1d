"""Mistakes in question 7's functions: the weighted loss, the weights with a horizon, and the acceptance probability."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from src.grading.part_test import Mistake, Mistakes
from src.hw1.hints.compose import Way, agreed, outcomes_of_all, stage
from src.hw1.hints.shared import NOT_A_NUMBER
from src.hw1.oracle import Floats

# --- in all of them ---

ONE_MISSING = Mistake(
    "one is missing",
    "this has 1/T where 1/T - 1 belongs: the texts are drawn from p, so one factor p(x) is there already",
    (lambda case, log_ratio: log_ratio / case.temperature,),
)
SHARPER_IS_FLATTER = Mistake(
    "exponent's sign",
    "the exponent has the opposite sign: at T < 1, a likelier text needs a larger weight",
    (lambda case, log_ratio: -(1 / case.temperature - 1) * log_ratio,),
)
OTHER_EXPONENT = Mistake(
    "other exponent",
    "the exponent is something else than 1/T - 1; derive it from p(x)^(1/T) / p(x)",
    (
        lambda case, log_ratio: (case.temperature - 1) * log_ratio,
        lambda case, log_ratio: (1 - case.temperature) * log_ratio,
        lambda case, log_ratio: case.temperature * log_ratio,
    ),
)
NO_EXPONENT = Mistake(
    "temperature unused",
    "the temperature plays no part in this",
    (lambda case, log_ratio: log_ratio,),
)
LOG_LEFT = Mistake(
    "log not undone",
    "this is still in log space: a weight or a probability is exp of it",
    (lambda case, exponents: exponents,),
)
NORMALISED = Mistake(
    "weights normalised",
    "the weights are divided by their sum or mean, which stands for Z(T); but that drops out, and this makes it biased",
    (
        lambda case, exponents: np.exp(exponents) / np.exp(exponents).sum(),
        lambda case, exponents: np.exp(exponents) / np.exp(exponents).mean(),
        lambda case, exponents: np.exp(exponents) / np.exp(exponents).sum(axis=-1, keepdims=True),
    ),
)
UNWEIGHTED = Mistake(
    "unweighted",
    "every text counts the same here; p and p_T differ by the weights",
    (lambda case, exponents: np.ones_like(exponents),),
)
NOT_DETACHED = Mistake(
    "not detached",
    "gradients flow through the weights; they are constants, so p's log-probabilities need a `.detach()`",
)
NO_GRADIENT = Mistake(
    "no gradient",
    "no gradient reaches log q, so q cannot learn: no `.item()`, `.detach()` or `torch.no_grad()` on its way",
)
FACTORS = (ONE_MISSING, SHARPER_IS_FLATTER, OTHER_EXPONENT, NO_EXPONENT)


def _scaled(case: "LossCase | WeightsCase | AcceptCase", log_ratio: Floats) -> Floats:
    return (1 / case.temperature - 1) * log_ratio


def _exp(case: object, exponents: Floats) -> Floats:
    return np.exp(exponents)


# --- the loss ---


@dataclass(frozen=True)
class LossCase:
    """Texts with log p and log q, (B,) each, and the temperature."""

    log_p: Floats
    log_q: Floats
    temperature: float


SIGN = Mistake(
    "loss upside down",
    "the sign is flipped: minimising this makes likely texts less likely under q",
    (lambda case, value: -value,),
)
Q_FOR_P = Mistake(
    "q for p",
    "the weights are made of log q; which model were the texts drawn from, and which one does p_T scale?",
    (lambda case, _: case.log_q,),
)
P_FOR_Q = Mistake(
    "p for q",
    "log q plays no part in what is weighted; which model is trained?",
    (lambda case, weights: weights * case.log_p, lambda case, weights: weights),
)
NOT_LOG = Mistake("q itself", "this has q(x) where log q(x) belongs", (lambda case, w: w * np.exp(case.log_q),))
SUMMED = Mistake(
    "sum for the mean",
    "this is the sum over the batch; an expectation is estimated by the mean",
    (lambda case, v: -v.sum(),),
)
NOT_REDUCED = Mistake(
    "no mean", "there is a number for each text; the loss is one number, their mean", (lambda case, values: -values,)
)
LOSS_STAGES = (
    stage(lambda case, _: case.log_p, Q_FOR_P),
    stage(_scaled, *FACTORS),
    stage(_exp, LOG_LEFT, NORMALISED, UNWEIGHTED),
    stage(lambda case, weights: weights * case.log_q, P_FOR_Q, NOT_LOG),
    stage(lambda case, values: -values.mean(), SUMMED, NOT_REDUCED),
    stage(lambda case, value: value, SIGN),
)


# --- the weights ---


@dataclass(frozen=True)
class WeightsCase:
    """log p of each token of some texts, (B, n), the temperature and the horizon."""

    log_p: Floats
    temperature: float
    horizon: int

    def windows(self, first: int, length: int) -> Floats:
        """For each token, the sum over `length` tokens from the one `first` places after it, (B, n)."""
        size, found = self.log_p.shape[1], np.empty_like(self.log_p)
        for i in range(size):
            start, end = np.clip([i + first, i + first + length], 0, size)
            found[:, i] = self.log_p[:, start:end].sum(axis=1)
        return found


BACKWARDS = Mistake(
    "window backwards",
    "the window looks at the tokens before; it begins at token i and looks ahead",
    (lambda case, _: case.windows(1 - case.horizon, case.horizon), lambda case, _: case.log_p.cumsum(axis=1)),
)
OFF_BY_ONE = Mistake(
    "window off by one",
    "the window is off by one: it holds h tokens, of which token i is the first",
    (
        lambda case, _: case.windows(0, case.horizon + 1),
        lambda case, _: case.windows(0, case.horizon - 1),
        lambda case, _: case.windows(1, case.horizon),
        lambda case, _: case.windows(1, case.horizon - 1),
    ),
)
NO_HORIZON = Mistake(
    "horizon unused",
    "the horizon plays no part in this: each weight looks at one token, at the whole text, or at all that follows",
    (
        lambda case, _: case.log_p,
        lambda case, _: np.repeat(case.log_p.sum(axis=1, keepdims=True), case.log_p.shape[1], axis=1),
        lambda case, _: case.windows(0, case.log_p.shape[1]),
    ),
)
AVERAGED = Mistake(
    "window averaged",
    "this is the mean of log p over the window; the probability of several tokens is a product, so its log is a sum",
    (
        lambda case, _: case.windows(0, case.horizon) / case.horizon,
        lambda case, _: case.windows(0, case.horizon) / _of_ones(case).windows(0, case.horizon),
    ),
)
OVER_THE_TEXTS = Mistake(
    "over the texts",
    "the window runs over the texts of the batch; the tokens of a text are the last axis",
    (lambda case, _: WeightsCase(case.log_p.T, case.temperature, case.horizon).windows(0, case.horizon).T,),
)
WINDOWS_CUT = Mistake(
    "last windows missing",
    "there must be a weight for each token, (B, n): where the text ends, a window is shorter",
)
WEIGHTS_STAGES = (
    stage(lambda case, _: case.windows(0, case.horizon), BACKWARDS, OFF_BY_ONE, NO_HORIZON, AVERAGED, OVER_THE_TEXTS),
    stage(_scaled, *FACTORS),
    stage(_exp, LOG_LEFT, NORMALISED, UNWEIGHTED),
)


def _of_ones(case: WeightsCase) -> WeightsCase:
    return WeightsCase(np.ones_like(case.log_p), case.temperature, case.horizon)


# --- the acceptance probability ---


@dataclass(frozen=True)
class AcceptCase:
    """log p of proposed and of current texts, (B,) each, and the temperature."""

    log_p_new: Floats
    log_p_old: Floats
    temperature: float


OLD_FOR_NEW = Mistake(
    "old for new",
    "the two texts are swapped, or the exponent's sign is: at T < 1, a move to a likelier text is always made",
    (lambda case, _: case.log_p_old - case.log_p_new,),
)
NOT_A_RATIO = Mistake(
    "not a ratio of probabilities",
    "p(x') / p(x) is the exponential of a difference of logs",
    (
        lambda case, _: case.log_p_new / case.log_p_old,
        lambda case, _: case.log_p_new,
        lambda case, _: np.exp(case.log_p_new) - np.exp(case.log_p_old),
    ),
)
SYMMETRIC = Mistake(
    "proposal left out",
    "this leaves the proposals' own distribution out, as if it were symmetric; they are drawn from p, so p(x) / p(x') "
    "is a factor, too",
    ONE_MISSING.variants,
)
NO_MIN = Mistake(
    "min is missing", "some of these are above 1; a probability is at most that", (lambda case, ratio: ratio,)
)
MAX = Mistake("max for min", "this is max(1, ...), not min(1, ...)", (lambda case, ratio: np.maximum(ratio, 1),))
DECIDED = Mistake("decided", "return the probability of the move; the caller draws whether it is made")
ACCEPT_STAGES = (
    stage(lambda case, _: case.log_p_new - case.log_p_old, OLD_FOR_NEW, NOT_A_RATIO),
    stage(_scaled, SYMMETRIC, OTHER_EXPONENT, NO_EXPONENT),
    stage(_exp, LOG_LEFT),
    stage(
        lambda case, ratio: np.minimum(ratio, 1),
        NO_MIN,
        MAX,
        LOG_LEFT.with_variants(lambda case, ratio: np.minimum(np.log(ratio), 0)),
    ),
)


def same(got: Floats, expected: Floats) -> bool:
    """Whether these are the same numbers, but for what float32 arithmetic loses."""
    return got.shape == expected.shape and bool(np.allclose(got, expected, rtol=3e-4, atol=1e-9, equal_nan=True))


@np.errstate(all="ignore")  # what a mistake leads to does not have to be finite
def diagnose(
    stages: Sequence[Sequence[Way]], got: Sequence[Floats], right: Sequence[Floats], cases: Sequence[object]
) -> Mistakes:
    """The mistakes that explain all of `got`, one a case; empty where nothing known does."""
    found = []
    for mistakes, led_to in outcomes_of_all(stages, cases):
        values = [np.asarray(value, np.float64) for value in led_to]
        if not all(map(same, values, right)) and all(map(same, got, values)):
            found.append(mistakes)
    if not found and not all(np.isfinite(value).all() for value in got):
        return (NOT_A_NUMBER,)
    return agreed(found)
