"""A call through the harness: what it measures comes back, and what a function returns otherwise is described."""

from types import SimpleNamespace

import numpy as np
import pytest

from src.errors import ProtocolError
from src.grading.sandbox.messages import Call, Foreign, Raised, Reference
from src.grading.sandbox.worker import MAX_ITEMS, run_call
from src.hw10.messages import Through
from src.hw10.worker import load


@pytest.fixture
def plugin():
    return load("bundled")


def call(plugin, tmp_path, source, *arguments, through=None):
    """What comes back of `answer` in a student's file with this source."""
    (tmp_path / "vae.py").write_text(source, encoding="utf-8")
    reference = Through(through) if through else None
    order = Call("vae.py", "answer", arguments, seed=1, fresh=True, watch=False, stand_in=None, through=reference)
    return run_call(order, plugin, tmp_path, None)


def measured(function, x):
    """A harness: the value, and how the function changes with `x`."""
    x.requires_grad_()
    value = function(x)
    value.backward()
    return value, x.grad, 7


@pytest.fixture
def with_harness(plugin):
    plugin._modules["sums"] = SimpleNamespace(measured=measured)
    return plugin


def test_what_the_harness_measures_comes_back(with_harness, tmp_path):
    source = "def answer(x):\n    return (x * x).sum()\n"
    returned = call(with_harness, tmp_path, source, np.array([1.0, 3.0]), through="sums.measured")
    value, gradient, number = returned.items
    assert (float(value), number) == (10.0, 7)
    assert gradient.tolist() == [2.0, 6.0]


def test_an_error_under_the_harness_is_the_students(with_harness, tmp_path):
    source = "def answer(x):\n    return x.nothing\n"
    raised = call(with_harness, tmp_path, source, np.array([1.0]), through="sums.measured")
    assert isinstance(raised, Raised)
    assert "vae.py" in raised.text
    assert "AttributeError" in raised.error


@pytest.mark.parametrize(("value", "items"), [("(1, 2.5)", (1, 2.5)), ("[True, None]", (True, None)), ("()", ())])
def test_a_tuple_comes_back_item_by_item(plugin, tmp_path, value, items):
    returned = call(plugin, tmp_path, f"def answer():\n    return {value}\n")
    assert (returned.kind, returned.items) == ("several", items)
    assert returned.description().endswith(f"of {len(items)}")


@pytest.mark.parametrize("value", [f"[0] * {MAX_ITEMS + 1}", "{1: 2}", "type('T', (tuple,), {})()"])
def test_other_collections_are_only_named(plugin, tmp_path, value):
    returned = call(plugin, tmp_path, f"def answer():\n    return {value}\n")
    assert returned.kind == "other"
    assert isinstance(returned.value, Foreign)
    assert not returned.items


def test_nested_values_are_only_named(plugin, tmp_path):
    returned = call(plugin, tmp_path, "def answer():\n    return ((1, 2), object())\n")
    assert returned.items == (Foreign("tuple"), Foreign("object"))


def test_a_reference_that_is_no_harness_is_an_error(plugin):
    with pytest.raises(ProtocolError, match="nothing stands behind Reference"):
        plugin.resolve(Reference(), None)
