"""What students have at hand for each part of homework 1, and what is right: for the search for leaked answers."""

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from src.grading.student_code import load_function
from src.hw1.messages import FILTERED
from src.hw1.oracle import same_distribution
from src.hw1.parts import HOMEWORK
from staff.declaration import solution_folder
from staff.leaks import Probe

VOCABULARY, TOP_K, TEMPERATURE = 7, 4, 0.6


class _Model(nn.Module):
    """A language model from a table [token before last, last token], with the interface of GPT2."""

    def __init__(self, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(VOCABULARY, VOCABULARY, VOCABULARY, generator=generator)

    def forward(self, ids: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        known = ids if past is None else torch.cat((past.expand(len(ids), -1), ids), dim=1)
        before = torch.cat((torch.zeros_like(known[:, :1]), known[:, :-1]), dim=1)
        return self.table[before, known][:, known.size(1) - ids.size(1) :], known


def probes() -> Iterator[Probe]:
    """All of them."""
    model, text = _Model(1), torch.tensor([[3, 1, 4, 1, 5, 2]])
    yield from _of_likelihood(model, text)
    yield from _of_temperature(model, text)
    yield from _of_horizon(model, text)


def _answer(part: str) -> Callable[..., Any]:
    declared = HOMEWORK.part(part)
    return load_function(solution_folder(HOMEWORK), declared.file, declared.function)


def _of_likelihood(model: _Model, text: Tensor) -> Iterator[Probe]:
    right, logits = _answer("6.4")(model, text), model(text)[0]
    log_p = logits.log_softmax(-1)

    def is_right(value: Any) -> bool:
        number = np.asarray(value, dtype=np.float64)
        return number.size == 1 and bool(np.isclose(number, right, rtol=1e-4))

    yield Probe("6.4", (model, text), is_right)
    for table, ids in itertools.product((logits, logits[0], log_p, log_p[0]), (text, text[0])):
        for arguments in ((table, ids), (ids, table), (table.numpy(), ids.numpy()), (ids.numpy(), table.numpy())):
            yield Probe("6.4", arguments, is_right)


def _same(right: Tensor) -> Callable[[Any], bool]:
    """Whether a value defines the distribution of the logits `right`, or is it."""

    def is_right(value: Any) -> bool:
        got = np.asarray(value, dtype=np.float64).reshape(tuple(right.shape))
        with np.errstate(all="ignore"):
            return same_distribution(got, right.numpy()) or same_distribution(np.log(got), right.numpy())

    return is_right


def _of_temperature(model: _Model, text: Tensor) -> Iterator[Probe]:
    logits = model(text)[0][:, -1]
    is_right = _same(logits / TEMPERATURE)
    for table in (logits, logits[0], logits.log_softmax(-1), logits.softmax(-1)):
        for arguments in ((table, TEMPERATURE), (table.numpy(), TEMPERATURE)):
            yield Probe("6.6", arguments, is_right)


def _of_horizon(model: _Model, text: Tensor) -> Iterator[Probe]:
    logits, past = model(text)
    kept = logits[:, -1].topk(TOP_K).values[:, -1:]
    filtered = torch.where(logits[:, -1] < kept, FILTERED, logits[:, -1])
    config = SimpleNamespace(top_k=TOP_K)
    right = _answer("6.7")(filtered, model, past, config, TEMPERATURE, 2)
    candidates = (filtered[0] > FILTERED).nonzero().squeeze(1)
    is_right, of_all = _same(right[0, candidates]), _same(right)
    following = model(candidates.unsqueeze(1), past=past)[0][:, -1]
    second = torch.where(following < following.topk(TOP_K).values[:, -1:], -torch.inf, following).log_softmax(-1)
    first = filtered[0, candidates].log_softmax(-1)
    yield Probe("6.7", (filtered, model, past, config, TEMPERATURE, 2), of_all)
    for given in ((first, second), (filtered[0, candidates], second), (first, following), (first[:, None] + second,)):
        yield Probe("6.7", (*given, TEMPERATURE), is_right)
        yield Probe("6.7", (*(each.numpy() for each in given), TEMPERATURE), is_right)
        yield Probe("6.7", (*(each.exp().numpy() for each in given), TEMPERATURE), is_right)
