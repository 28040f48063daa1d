"""A derived result of any homework: which values are taken, and what is said of the others."""

import numpy as np
import pytest

from src.errors import PointsLost
from src.grading.derivations import Instance, check_result, described
from src.grading.intake import Submission
from src.grading.part_test import Grading, Mistake, PartTest
from src.grading.sandbox.messages import Returned
from tests.grading.test_results import HOMEWORK

DOUBLED = Mistake("doubled", "this is twice the result", (lambda case: 2 * case,))
RIGHT = np.array([1.0, 3.0])


class Toy(PartTest):
    part = "1.1"

    def call(self, input, file, function, *arguments, **options):
        assert (file, function) == ("toy.py", "toy")
        return self.returned

    def runTest(self):
        check_result(self, "toy", [Instance({"x": 2}, self.right, self.right)], (DOUBLED,))


class Explaining(Toy):
    not_finite = (Mistake("not finite", "divided by 0"),)


def lost(value, right=RIGHT, cls=Toy) -> PointsLost | None:
    """Why the points are lost for a value that is returned; None where they are not."""
    test = cls("runTest", Grading(HOMEWORK, Submission(None, None, ()), None, 0))
    kind = "tensor" if isinstance(value, np.ndarray) else "plain"
    test.returned, test.right = Returned(kind, type(value).__name__, value, False, False, ()), right
    try:
        test.runTest()
    except PointsLost as error:
        return error


@pytest.mark.parametrize("value", [RIGHT, RIGHT.astype(np.float32), RIGHT[:, None], RIGHT[None]])
def test_axes_of_size_1_do_not_matter(value):
    assert lost(value) is None
    assert lost(value, RIGHT[:, None]) is None


@pytest.mark.parametrize("value", [2, 2.0, np.array(2.0), np.array([[2.0]]), 2 + 1e-6])
def test_one_number_may_be_of_any_kind(value):
    assert lost(value, 2.0) is None


@pytest.mark.parametrize("value", [RIGHT[:1], np.ones((2, 2)), 1.0, "1.0"])
def test_another_shape_or_kind_is_named(value):
    error = lost(value)
    assert (error.input, error.expected, error.mistakes) == ("`toy` with x = 2", "a tensor of shape (2,)", ())
    assert error.reason == "the result is of another kind or shape"


def test_nothing_gets_a_hint():
    assert lost(None).mistakes == ("nothing",)
    assert lost("2.0", 2.0).mistakes == ()


def test_the_mistake_that_leads_to_a_wrong_value_is_named():
    error = lost(2 * RIGHT)
    assert (error.expected, error.got, error.mistakes) == ("[1, 3]", "[2, 6]", ("doubled",))
    assert lost(5 * RIGHT).mistakes == ()


def test_a_homework_may_explain_what_is_not_finite():
    value = np.array([1.0, np.nan])
    assert lost(value).mistakes == ()
    error = lost(value, cls=Explaining)
    assert (error.reason, error.mistakes) == ("the result is not finite", ("not finite",))


def test_a_call_without_arguments_is_its_name():
    assert described("toy", {}) == "`toy`"
