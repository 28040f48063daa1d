"""The search for functions of the starter that are answers."""

import dataclasses
from functools import cached_property

import numpy as np
import pytest

from src.hw1 import oracle
from src.hw1.oracle import log_softmax
from src.hw1.parts import HOMEWORK
from staff.leaks import answers_in, probes_of


def of_a_table(logits, ids):
    log_p = log_softmax(logits)
    return sum(log_p[i, token] for i, token in enumerate(ids[1:]))


@dataclasses.dataclass(frozen=True)
class InAClass:
    ids: np.ndarray
    logits: np.ndarray

    @cached_property
    def right(self):
        return of_a_table(self.logits, self.ids)


def of_two_tokens(log_first, log_second, temperature):
    return np.exp((log_first[:, None] + log_second) / temperature).sum(axis=1)


def scaled(logits, temperature):
    return logits / temperature + 7


@pytest.mark.parametrize(
    ("leak", "part"), [(of_a_table, "6.4"), (InAClass, "6.4"), (of_two_tokens, "6.7"), (scaled, "6.6")]
)
def test_an_answer_is_found_by_what_it_does(monkeypatch, leak, part):
    monkeypatch.setattr(leak, "__module__", oracle.__name__)
    monkeypatch.setattr(oracle, leak.__name__, leak, raising=False)
    found = answers_in(oracle.__name__, probes_of(HOMEWORK))
    assert found == [f"{oracle.__name__}.{leak.__name__}: answers {part}"]


def test_no_function_of_the_starter_is_an_answer():
    assert answers_in(HOMEWORK.package, probes_of(HOMEWORK)) == []
