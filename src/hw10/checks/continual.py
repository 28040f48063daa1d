"""The tests of question 5: the Fisher information, EWC's penalty, and the memory of rehearsal.

What is right comes from gradients by hand, in float64, and from the probability of each example to be in the memory.
"""

import math
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from numpy.typing import NDArray

from src.grading.chart import Chart
from src.grading.mistakes import NOTHING
from src.grading.part_test import Mistakes, numbers
from src.grading.sandbox.messages import Returned
from src.hw10.checks.base import Floats, HW10Test, arrays
from src.hw10.counts import log_tail
from src.hw10.hints.fisher import (
    KEEPS_A_GRAPH,
    MODEL_SPOILED,
    NOT_ALL_TENSORS,
    STALE_GRADIENTS,
    FisherCase,
    diagnose_fisher,
    diagnose_shapes,
    is_close,
    right_fisher,
)
from src.hw10.hints.penalty import (
    ARGUMENTS_CHANGED,
    GRADIENT_PARTLY_CUT,
    NO_GRADIENT_OF_PENALTY,
    NOT_SUMMED,
    PenaltyCase,
    diagnose_penalty,
    right_gradients,
    right_penalty,
)
from src.hw10.hints.reservoir import (
    BEYOND_CAPACITY,
    COMES_BACK,
    NOT_EXAMPLES,
    NOT_FULL,
    NOT_IN_PLACE,
    diagnose_kept,
)
from src.hw10.small_classifier import SmallClassifier

FILE = "continual.py"
FALSE_ALARM = 1e-8  # of each call of `check_streams` and of `check_long_streams`, at most
Shape = tuple[int, ...]


class FisherTest(HW10Test):
    """`fisher_information` is the mean over the examples of their squared gradients of log p(label | image)."""

    part = "5b"

    @number("5b.1")
    @weight(1)
    def test_value(self) -> None:
        """Is the mean of the squared gradients of each example"""
        check_fisher(self, 6, (4,))
        check_fisher(self, 9, (5, 3))

    @number("5b.2")
    @weight(1)
    def test_model(self) -> None:
        """Leaves the model as it was, keeps no graph, and does not mind gradients of an earlier step"""
        check_model(self, 5, (4, 3))


class PenaltyTest(HW10Test):
    """`ewc_penalty` is half the sum of F (θ - θ*)²."""

    part = "5c"

    @number("5c.1")
    @weight(1)
    def test_value(self) -> None:
        """Is ½ Σ F (θ - θ*)² over all tensors, and sends its gradient to the parameters"""
        check_penalty(self, [((3, 2), (3,)), ((2, 2, 2), (4,), (1, 5)), ((2,), (2,), (3,), (1, 2))])


class MemoryTest(HW10Test):
    """`update_memory` keeps each of the examples so far with the same probability."""

    part = "5d"
    seconds = 40.0  # some ten thousand calls: code may draw a permutation at each

    @number("5d.1")
    @weight(1)
    def test_size(self) -> None:
        """Fills the memory with the first examples, and never holds more than `capacity`"""
        check_size(self, 6, (1, 3, 6, 7, 40))
        check_size(self, 1, (1, 2, 9))

    @number("5d.2")
    @weight(1)
    def test_uniform(self) -> None:
        """Keeps each example with the probability capacity / seen"""
        capacity = int(self.rng.integers(4, 7))
        check_streams(self, capacity, 2000, (capacity + 1, 2 * capacity, 3 * capacity))


# --- 5b ---


def fisher_case(test: HW10Test, count: int, sizes: Sequence[int]) -> FisherCase:
    """`count` images of 2 x 3 pixels, and a model whose last layers have `sizes` units; classes are the last."""
    model = SmallClassifier.drawn(test.rng, (6, *sizes))
    images = test.rng.normal(0, 1, (count, 6)).astype(np.float32).astype(np.float64)
    case = FisherCase(model, images, test.rng.integers(0, sizes[-1], count))
    case.labels[0] = case.probabilities[0].argmin()  # not what the model would say
    return case


def check_fisher(test: HW10Test, count: int, sizes: Sequence[int]) -> None:
    """`fisher_information` of `count` examples is right for a small random network."""
    case = fisher_case(test, count, sizes)
    input = f"`fisher_information` of {count} images, with {_network(sizes)}"
    _, _, *found = _fisher_of(test, input, case, is_trained=False)
    _compare_fisher(test, input, found, case)


def check_model(test: HW10Test, count: int, sizes: Sequence[int]) -> None:
    """`fisher_information` changes nothing in the model, keeps no graph, and does not mind gradients that are there."""
    case = fisher_case(test, count, sizes)
    input = f"`fisher_information` of {count} images, with {_network(sizes)}"
    is_spoiled, requires_grad, *found = _fisher_of(test, input, case, is_trained=False)
    _compare_fisher(test, input, found, case)
    if is_spoiled:
        got = "parameters that have changed or require no gradient"
        test.lose(input, "the model as it was", got, (MODEL_SPOILED,), "the model was changed")
    if requires_grad:
        expected = "tensors that require no gradient"
        test.lose(input, expected, "some that do", (KEEPS_A_GRAPH,), "the result requires a gradient")
    input += ", in which the gradients of a training step are still stored"
    _, _, *found = _fisher_of(test, input, case, is_trained=True)
    _compare_fisher(test, input, found, case, (STALE_GRADIENTS,))


def _network(sizes: Sequence[int]) -> str:
    kind = "softmax regression" if len(sizes) == 1 else f"a network with {len(sizes) - 1} hidden layer"
    return kind + ("s" if len(sizes) > 2 else "")


def _fisher_of(test: HW10Test, input: str, case: FisherCase, is_trained: bool) -> list[Floats]:
    """Whether the model was changed, whether a result requires a gradient, and the tensors, of the right shapes."""
    images = case.images.astype(np.float32).reshape(-1, 1, 2, 3)
    returned = test.measure(
        input, FILE, "fisher_information", "continual.fisher", images, case.labels, is_trained, *case.model.arrays
    )
    shapes = [each.shape for each in case.model.weights]
    found = arrays(returned, (), (), *shapes)
    if found is None:
        _lose_for_shapes(test, input, returned, shapes, case)
    return found


def _lose_for_shapes(
    test: HW10Test, input: str, returned: Returned, shapes: Sequence[Shape], case: FisherCase
) -> NoReturn:
    expected, values = f"a list of tensors of the shapes {_listed(shapes)}", returned.items[2:]
    if returned.kind == "several" and values and all(isinstance(each, np.ndarray) for each in values):
        got = [each.shape for each in values if isinstance(each, np.ndarray)]
        test.lose(input, expected, f"shapes {_listed(got)}", diagnose_shapes(got, case), "wrong shapes")
    mistake = NOTHING if returned.is_nothing else NOT_ALL_TENSORS
    test.lose(input, expected, returned.description(), (mistake,), "the result is not a list of tensors")


def _listed(shapes: Sequence[Shape], at_most: int = 6) -> str:
    return ", ".join(map(str, shapes[:at_most])) + (", …" if len(shapes) > at_most else "")


def _compare_fisher(
    test: HW10Test, input: str, got: Sequence[Floats], case: FisherCase, mistakes: Mistakes = ()
) -> None:
    """Lose the points where `got` is wrong, for these `mistakes` or those that explain it; else leave a chart."""
    right = right_fisher(case)
    names = tuple(f"bias {i + 1}" for i in range(len(right[-1])))
    chart = Chart("F of the last layer's biases", "", names, tuple(right[-1].tolist()), tuple(got[-1].tolist()))
    if is_close(got, right):
        test.chart = chart
        return
    wrong = next(i for i in range(len(right)) if not is_close([got[i]], [right[i]]))
    expected, shown = (f"F[{wrong}] = {numbers(each[wrong])}" for each in (right, got))
    explained = mistakes or diagnose_fisher(got, case)
    test.lose(input, expected, shown, explained, "the values are wrong", chart)


# --- 5c ---


def check_penalty(test: HW10Test, shapes: Sequence[Sequence[Shape]]) -> None:
    """`ewc_penalty` and its gradient are right for tensors of each of these lists of shapes."""
    cases = [_penalty_case(test, each) for each in shapes]
    inputs = [f"`ewc_penalty` of tensors of the shapes {_listed(each)}" for each in shapes]
    found = [_penalty_of(test, input, case) for input, case in zip(inputs, cases, strict=True)]
    right, got = [right_penalty(case) for case in cases], [float(each[1]) for each in found]
    input, labels = "; ".join(inputs), tuple(f"{len(each)} tensors" for each in shapes)
    chart = Chart("The penalty", "", labels, tuple(right), tuple(got))
    if not np.allclose(got, right, rtol=1e-4, atol=0):  # float32 sums of so few positive terms are off by 1e-6
        mistakes = diagnose_penalty(got, cases)
        test.lose(input, numbers(right), numbers(got), mistakes, "the values are wrong", chart)
    for input, case, (is_changed, _, *gradients) in zip(inputs, cases, found, strict=True):
        if is_changed:
            got_ = "some of them are changed"
            test.lose(input, "arguments as they were", got_, (ARGUMENTS_CHANGED,), "the arguments were changed")
        expected = right_gradients(case)
        if not is_close(gradients, expected):
            wrong = next(i for i in range(len(expected)) if not is_close([gradients[i]], [expected[i]]))
            one, other = (f"gradient of parameters[{wrong}] = {numbers(each[wrong])}" for each in (expected, gradients))
            test.lose(input, one, other, (GRADIENT_PARTLY_CUT,), "the gradient is wrong")
    test.chart = chart


def _penalty_case(test: HW10Test, shapes: Sequence[Shape]) -> PenaltyCase:
    def drawn(values: Sequence[Floats]) -> list[Floats]:
        return [each.astype(np.float32).astype(np.float64) for each in values]

    anchors = drawn([test.rng.normal(0, 1, shape) for shape in shapes])
    parameters = drawn([each + test.rng.normal(0, 0.7, each.shape) for each in anchors])
    return PenaltyCase(parameters, anchors, drawn([test.rng.uniform(0.2, 3, shape) for shape in shapes]))


def _penalty_of(test: HW10Test, input: str, case: PenaltyCase) -> list[Floats]:
    """Whether the arguments were changed, the penalty, and its gradients."""
    given = [each.astype(np.float32) for each in (*case.parameters, *case.anchors, *case.fisher)]
    returned = test.measure(input, FILE, "ewc_penalty", "continual.penalty", *given)
    found = arrays(returned, (), (), *(each.shape for each in case.parameters))
    if found is None:
        mistakes, got = _of_penalty(returned), returned.description()
        test.lose(input, "a scalar that requires a gradient", got, mistakes, "not a scalar with a gradient")
    return found


def _of_penalty(returned: Returned) -> Mistakes:
    if returned.is_nothing:
        return (NOTHING,)
    if returned.number() is not None:
        return (NO_GRADIENT_OF_PENALTY,)
    is_unsummed = isinstance(returned.value, np.ndarray) or (returned.kind == "several" and returned.items)
    return (NOT_SUMMED,) if is_unsummed else ()


# --- 5d ---


def check_size(test: HW10Test, capacity: int, lengths: Sequence[int]) -> None:
    """The memory holds all examples while there is room, then `capacity` of them, after so many examples."""
    kept = _streams(test, capacity, 20, lengths)
    for i, length in enumerate(lengths):
        if length <= capacity and (np.sort(kept[0, i])[-length:] != np.arange(1, length + 1)).any():
            input = f"`update_memory` of {length} examples, capacity = {capacity}"
            expected = f"the examples {numbers(range(1, length + 1))}"
            test.lose(input, expected, numbers(kept[0, i]), (NOT_EXAMPLES,), "the memory holds something else")


def check_streams(test: HW10Test, capacity: int, repeats: int, lengths: Sequence[int]) -> None:
    """After streams of so many examples, each of them is in the memory equally often, and so is each pair of them."""
    kept = _streams(test, capacity, repeats, lengths)
    comparisons = sum(n + n * (n - 1) // 2 for n in lengths)
    least = math.log(FALSE_ALARM / comparisons)
    for i, length in enumerate(lengths):
        is_kept = np.zeros((repeats, length + 1))
        np.put_along_axis(is_kept, kept[:, i], 1, axis=1)
        together = np.einsum("ri,rj->ij", is_kept[:, 1:], is_kept[:, 1:])
        input = f"`update_memory` in {repeats} streams of {length} examples, capacity = {capacity}"
        single, share = np.diag(together), capacity / length
        chart = _chart_of(single / repeats, share)
        if log_tail(single, repeats, share).min() < least:
            expected = f"each example is in the memory in {share:.1%} of the streams"
            got = f"in these shares of them: {numbers(single / repeats, 12)}"
            mistakes = diagnose_kept(kept, lengths)
            test.lose(input, expected, got, mistakes, "the examples are not equally likely to be kept", chart)
        of_pair = share * (capacity - 1) / (length - 1)
        pairs = together[np.triu_indices(length, 1)]
        if log_tail(pairs, repeats, of_pair).min() < least:
            expected = f"each pair of examples is in the memory in {of_pair:.1%} of the streams"
            got = f"in shares from {pairs.min() / repeats:.1%} to {pairs.max() / repeats:.1%}"
            test.lose(
                input, expected, got, diagnose_kept(kept, lengths), "examples are kept or dropped together", chart
            )
        test.chart = chart


def check_long_streams(test: HW10Test, capacity: int, repeats: int, length: int) -> None:
    """Each tenth of a long stream has the same share of the memory."""
    kept = _streams(test, capacity, repeats, (length,))
    counts = np.histogram(kept, bins=10, range=(0.5, length + 0.5))[0]
    if log_tail(counts, repeats * length // 10, capacity / length).min() < math.log(FALSE_ALARM / 10):
        input = f"`update_memory` in {repeats} streams of {length} examples, capacity = {capacity}"
        got = f"these shares of its tenths: {numbers(counts / counts.sum(), 10)}"
        test.lose(input, "10% of the memory from each tenth of the stream", got, (), "the memory is not uniform")


def _chart_of(shares: Floats, expected: float) -> Chart:
    labels = tuple(f"example {i + 1}" for i in range(len(shares)))
    title = f"How often each of {len(shares)} examples is in the memory at the end"
    return Chart(title, "", labels, (expected,) * len(shares), tuple(shares.tolist()))


def _streams(test: HW10Test, capacity: int, repeats: int, lengths: Sequence[int]) -> NDArray[np.int64]:
    """Which examples the memory holds after so many of them, from 1 on: (repeats, lengths, capacity)."""
    input = f"`update_memory` of up to {max(lengths)} examples, capacity = {capacity}"
    returned = test.measure(input, FILE, "update_memory", "continual.streams", capacity, repeats, *lengths)
    found = arrays(returned, (), (), (), (repeats, len(lengths), capacity))
    if found is None or not np.isfinite(found[:3]).all():  # only code that replaces the harness gets here
        test.lose(input, "a memory of examples", returned.description(), (), "the memory cannot be read")
    most, odd, returns_list = (int(each) for each in found[:3])
    kept = found[3].astype(np.int64)
    if most > capacity:
        got = f"{most} after {odd} of them"
        test.lose(input, f"at most {capacity} examples in the memory", got, (BEYOND_CAPACITY,), "the memory grows")
    if odd or kept.min() < 0 or kept.max() > max(lengths):
        got = f"something else, or one of them twice, after {odd} of them"
        test.lose(input, "examples of the stream, each once", got, (NOT_EXAMPLES,), "not the examples are kept")
    sizes, full = (kept != 0).sum(axis=2), np.minimum(lengths, capacity)
    if (sizes != full).any():
        stream, i = np.argwhere(sizes != full)[0]
        mistake = NOT_FULL if sizes.any() else NOT_IN_PLACE
        got = f"{sizes[stream, i]}" + (", and a list is returned" if returns_list else "")
        expected = f"{full[i]} examples in the memory after {lengths[i]} of them"
        test.lose(input, expected, got, (mistake,), "the memory holds too few examples")
    if has_returned(kept, lengths):
        expected, got = "examples that were there before, or came since", "others that came earlier"
        test.lose(input, expected, got, (COMES_BACK,), "the memory gets back what it had dropped")
    return kept


def has_returned(kept: NDArray[np.int64], lengths: Sequence[int]) -> bool:
    """Whether an example is in some memory that was dropped from it before; see `_streams`."""
    for i, length in enumerate(lengths[:-1]):
        earlier, later = kept[:, i, None, :], kept[:, i + 1, :, None]  # (repeats, 1, capacity), (repeats, capacity, 1)
        if ((later > 0) & (later <= length) & (later != earlier).all(axis=2, keepdims=True)).any():
            return True
    return False
