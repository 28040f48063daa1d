"""What students have at hand for each part of homework 10, and what is right: for the search for leaked answers."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from src.grading.student_code import load_function
from src.hw10.harness.gan import SmallDiscriminator, SmallGenerator
from src.hw10.harness.prompting import ElmanLM
from src.hw10.parts import HOMEWORK
from src.hw10.small_lm import SmallLM
from staff.declaration import solution_folder
from staff.leaks import Probe


def probes() -> Iterator[Probe]:
    """All of them."""
    generator = torch.Generator().manual_seed(1)
    yield from _of_prompting(generator)
    yield from _of_vae(generator)
    yield from _of_gan(generator)
    yield from _of_diffusion(generator)
    yield from _of_continual(generator)
    yield from _of_memory()
    yield from _of_theory(generator)


def _answer(part: str) -> Callable[..., Any]:
    declared = HOMEWORK.part(part)
    return load_function(solution_folder(HOMEWORK), declared.file, declared.function)


def _each_kind(part: str, is_right: Callable[[Any], bool], *arguments: Any) -> Iterator[Probe]:
    """The probe with these arguments: as they are, in float64, and in NumPy."""
    yield Probe(part, arguments, is_right)
    yield Probe(part, tuple(_changed(each, Tensor.double) for each in arguments), is_right)
    yield Probe(part, tuple(_changed(each, Tensor.numpy) for each in arguments), is_right)


def _changed(argument: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(argument, (list, tuple)):
        return [_changed(each, change) for each in argument]
    is_changed = isinstance(argument, Tensor) and (argument.is_floating_point() or change is Tensor.numpy)
    return change(argument.detach()) if is_changed else argument


def _close_to(right: Any) -> Callable[[Any], bool]:
    """Whether a value, or each of its items, has the numbers of `right`."""
    expected = [_numbers(each) for each in (right if isinstance(right, (tuple, list)) else [right])]

    def is_right(value: Any) -> bool:
        got = list(value) if len(expected) > 1 or isinstance(value, (tuple, list)) else [value]
        pairs = itertools.zip_longest(map(_numbers, got), expected)
        return all(a.size == b.size and np.allclose(a.ravel(), b.ravel(), rtol=1e-4, atol=1e-6) for a, b in pairs)

    return is_right


def _numbers(value: Any) -> np.ndarray:
    return np.asarray(value.detach() if isinstance(value, Tensor) else value, dtype=np.float64)


def _of_prompting(generator: torch.Generator) -> Iterator[Probe]:
    model = ElmanLM(map(torch.from_numpy, SmallLM.drawn(np.random.default_rng(1)).arrays)).requires_grad_(False)
    prompt, label = torch.tensor([[3, 1, 4, 1]]), torch.tensor([[5, 9, 2]])
    right = _answer("1b")(model, prompt, label)
    yield Probe("1b", (model, prompt, label), _close_to(right))
    text = torch.cat((prompt, label), dim=1)
    logits = model(text)
    for table in (logits, logits[0], logits.log_softmax(-1), logits[0].log_softmax(-1)):
        yield from _each_kind("1b", _close_to(right), table, text)
        yield from _each_kind("1b", _close_to(right), table[..., 3:-1, :], label)
        yield from _each_kind("1b", _close_to(right), table, prompt, label)
    soft_prompt = nn.Parameter(torch.randn(4, 6, generator=generator))
    yield Probe("1c", (model.requires_grad_(True), soft_prompt), lambda value: _is_trained(value, model, soft_prompt))
    is_right = _close_to(_answer("1d")(model, soft_prompt, text))
    yield Probe("1d", (model, soft_prompt, text), is_right)
    yield Probe("1d", (model, soft_prompt.detach(), text), is_right)


def _is_trained(value: Any, model: nn.Module, soft_prompt: nn.Parameter) -> bool:
    is_frozen = not any(parameter.requires_grad for parameter in model.parameters())
    model.requires_grad_(True)
    return is_frozen and len(value) == 1 and value[0] is soft_prompt


def _of_vae(generator: torch.Generator) -> Iterator[Probe]:
    m, v = 5 * torch.randn(400, 6, generator=generator), 0.1 + 3 * torch.rand(400, 6, generator=generator)

    def is_sample(value: Any) -> bool:
        noise = (_numbers(value).reshape(400, 6) - _numbers(m)) / _numbers(v.sqrt())
        small, large = (noise[(v < 1) == below] for below in (True, False))
        return all(abs(each.mean()) < 0.2 and abs(each.std() - 1) < 0.2 for each in (small, large))

    yield from _each_kind("2a", is_sample, m, v)
    yield Probe("2a", (*map(_numbers, (m, v)), np.random.default_rng(2)), is_sample)
    x = (torch.rand(5, 8, generator=generator) < 0.5).float()
    weights = torch.randn(3, 8, 2, generator=generator)

    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        # so small a variance that each sample is the mean
        return images @ weights[0], 1e-9 * (1 + (images @ weights[1]) ** 2)

    def decode(z: Tensor) -> Tensor:
        return z @ weights[2].T

    right = _answer("2b")(encode, decode, x)
    qm, qv = encode(x)
    for arguments in ((encode, decode, x), (qm, qv, decode(qm), x), (x, qm, qv, decode(qm)), (x, decode(qm), qm, qv)):
        yield from _each_kind("2b", _within(right), *arguments)


def _within(right: Sequence[Tensor]) -> Callable[[Any], bool]:
    def is_right(value: Any) -> bool:
        return np.allclose(
            [float(_numbers(each)) for each in value], [float(_numbers(each)) for each in right], rtol=1e-3
        )

    return is_right


def _of_gan(generator: torch.Generator) -> Iterator[Probe]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    g = SmallGenerator(normal(3, 16), normal(16))
    d = SmallDiscriminator(normal(16, 5), normal(5), normal(5, 1), normal(1), flat=False)
    x_real, z = normal(6, 1, 4, 4), normal(6, 3)
    real, fake = d(x_real), d(g(z))
    for part in ("3c", "3d"):
        both = _answer(part)(g, d, x_real, z)
        yield Probe(part, (g, d, x_real, z), _close_to(both))
        for table in ((real, fake), (real[:, 0], fake[:, 0])):
            yield from _each_kind(part, _close_to(both), *table)
            yield from _each_kind(part, _close_to(both[0]), *table)
        yield from _each_kind(part, _close_to(both[1]), fake)
        yield from _each_kind(part, _close_to(both[1]), fake[:, 0])


def _of_diffusion(generator: torch.Generator) -> Iterator[Probe]:
    beta = 0.05 + 0.4 * torch.rand(8, generator=generator)
    alpha_bar = (1 - beta).cumprod(0)
    t = torch.tensor([5, 0, 3])
    x_0, x_t = torch.randn(2, 3, 1, 2, 2, generator=generator)
    is_right = _close_to(_answer("4a")(x_0, t, alpha_bar, x_t))
    yield from _each_kind("4a", is_right, x_0, t, alpha_bar, x_t)
    yield from _each_kind("4a", is_right, x_0, x_t, alpha_bar, t)
    yield from _each_kind("4a", is_right, x_0, alpha_bar[t].view(3, 1, 1, 1), x_t)
    mean, variance = _answer("4b")(x_0, x_t, t, beta, alpha_bar)
    step, now = beta[t].view(3, 1, 1, 1), alpha_bar[t].view(3, 1, 1, 1)
    for right in ((mean, variance), mean, variance):
        yield from _each_kind("4b", _close_to(right), x_0, x_t, t, beta, alpha_bar)
        yield from _each_kind("4b", _close_to(right), x_0, x_t, t, beta)
        yield from _each_kind("4b", _close_to(right), x_0, x_t, step, now, now / (1 - step))
        yield from _each_kind("4b", _close_to(right), step, now, now / (1 - step))


def _of_continual(generator: torch.Generator) -> Iterator[Probe]:
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.Tanh(), nn.Linear(4, 3))
    images, labels = torch.randn(5, 1, 3, 3, generator=generator), torch.tensor([0, 2, 1, 1, 0])
    fisher = _answer("5b")(model, images, labels)
    yield Probe("5b", (model, images, labels), _close_to(fisher))
    linear = nn.Linear(9, 3, bias=False)
    is_right = _close_to(_answer("5b")(linear, images.flatten(1), labels))
    yield from _each_kind("5b", is_right, linear.weight, images.flatten(1), labels)
    yield from _each_kind("5b", is_right, linear.weight.T, images.flatten(1), labels)
    parameters = [each.detach() for each in model.parameters()]
    anchors = [torch.randn_like(each) for each in parameters]
    is_right = _close_to(_answer("5c")(parameters, anchors, fisher))
    yield from _each_kind("5c", is_right, parameters, anchors, fisher)
    flat = [torch.cat([each.flatten() for each in tensors]) for tensors in (parameters, anchors, fisher)]
    yield from _each_kind("5c", is_right, *flat)


def _of_memory() -> Iterator[Probe]:
    memory = ["first"]

    def is_right(value: Any) -> bool:
        was_kept = memory == ["first", "second"]
        memory[:] = ["first"]  # for the next function that is tried
        return was_kept

    yield Probe("5d", (memory, "second", 2, 3), is_right)


def _of_theory(generator: torch.Generator) -> Iterator[Probe]:
    """The results that are no single number, or depend on several arguments."""
    logit, weights = torch.randn(4, generator=generator), torch.rand(2, 4, generator=generator) + 0.2
    p_data, p_model = weights / weights.sum(dim=1, keepdim=True)
    theta_a, theta_b = torch.randn(2, 4, generator=generator)
    arguments: dict[str, tuple[Any, ...]] = {
        "3a": (logit,), "3b": (p_data, p_model), "3e": (p_data, p_model), "4c": (0.7, 1.9, -1.2, 0.6),
        "4d": (0.03, 0.02), "5e": (theta_a, p_data, theta_b, p_model, 1.7),
    }  # fmt: skip
    for part, given in arguments.items():
        yield from _each_kind(part, _close_to(_answer(part)(*given)), *given)
