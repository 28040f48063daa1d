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
    yield from _of_long_horizon()
    yield from _of_theory()


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


def _of_long_horizon() -> Iterator[Probe]:
    generator = torch.Generator().manual_seed(2)
    log_p, log_q = -3 * torch.rand(2, 5, generator=generator)
    table = -3 * torch.rand(3, 5, generator=generator)
    for part, given, rest in (
        ("7.1", (log_p, log_q), (TEMPERATURE,)),
        ("7.2", (table,), (TEMPERATURE, 2)),
        ("7.3", (log_p, log_q), (TEMPERATURE,)),
    ):
        is_right = _close_to(_answer(part)(*given, *rest))
        for arguments in (given, [each.numpy() for each in given], [each.double().numpy() for each in given]):
            yield Probe(part, (*arguments, *rest), is_right)
            yield Probe(part, (*map(_exp, arguments), *rest), is_right)
            yield Probe(part, (*rest, *arguments), is_right)


def _close_to(right: Tensor) -> Callable[[Any], bool]:
    """Whether a value has these numbers, or their logarithms."""

    def is_right(value: Any) -> bool:
        got = np.asarray(value, dtype=np.float64).reshape(tuple(right.shape))
        expected = right.double().numpy()
        with np.errstate(all="ignore"):
            return any(np.allclose(values, expected, rtol=1e-4) for values in (got, np.exp(got)))

    return is_right


def _exp(values: Any) -> Any:
    return values.exp() if isinstance(values, Tensor) else np.exp(values)


def _of_theory() -> Iterator[Probe]:
    """The results of the written problems that are no single number or word, which any function may return."""
    rng = np.random.default_rng(1)
    tables = [each / each.sum(axis=1, keepdims=True) for each in rng.uniform(0.2, 1, (2, 3, 4))]
    p_hat, p_theta = tables[0] / 3, tables[1]
    pi, density, mu, x, sigma = tables[0][0], rng.uniform(0.2, 2, 4), rng.normal(size=(4, 3)), rng.normal(size=3), 0.7
    log_p, log_q = np.log(tables[0][0]), np.log(tables[1][0])
    k = np.array([2, 5, 3, 4])
    arguments: dict[str, tuple[Any, ...]] = {
        "objectives": (p_hat, p_theta), "objectives_sum": (p_hat,),
        "kl_minimizer": (np.array([-3.0, -4, -2, -5]), -1.0),
        "log_joint": (x, pi, mu, sigma), "posterior": (pi, density), "logistic_parameters": (pi, mu, sigma),
        "parameters_of_joint": (k,), "parameters_of_network": (k, 2), "reverse_conditional": (pi, density),
        "mean_estimate": (pi, density, 2), "bias_of_log": (pi, density, 2), "partition_terms": (5, 4),
        "kl_terms": (log_p, log_q, TEMPERATURE, 0.3), "importance_weights": (log_p, TEMPERATURE),
        "star_estimate": (log_p, log_q, TEMPERATURE),
    }  # fmt: skip
    for part in (part for part in HOMEWORK.parts if part.function in arguments):
        given = arguments[part.function]
        tensors = tuple(torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in given)
        right = torch.as_tensor(_answer(part.number)(*tensors))
        lists = tuple(each.tolist() if isinstance(each, np.ndarray) else each for each in given)
        for each in (given, tensors, lists):
            yield Probe(part.number, each, _close_to(right))
