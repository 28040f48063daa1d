"""What calls of the model cost, without a decoding loop around them, and what rounding changes in its output."""

import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from src.files import ROOT
from src.grading.student_code import load_function
from src.hw1.dataset import DATASETS, Dataset, read_pieces
from src.model import checkpoint
from src.model.codec import Codec, load_codec
from src.model.config import BUNDLED, Config, model_config
from src.model.gpt2 import GPT2
from staff.bench import implementations
from staff.bench.implementations import SMALL, SOLUTION, Ours
from staff.bench.intervals import ratio
from staff.bench.measurements import Measurements
from staff.bench.timing import in_turn


@torch.inference_mode()
def lookahead(measurements: Measurements, rounds: int) -> None:
    """A look ahead from one past at 40 candidates for the next token."""
    model, config = implementations.ours(SMALL)
    scale = load_function(SOLUTION, "sample.py", "temperature_scale")
    top_k = load_function(SOLUTION, "sample.py", "top_k_logits")
    token, candidates = torch.zeros(1, 1, dtype=torch.long), torch.arange(config.top_k).unsqueeze(1)
    _, past = model(torch.randint(config.vocab_size, (1, 24)))  # as long as main.py's prompts

    def step() -> Tensor:
        nonlocal past
        logits, past = model(token, past=past)
        return logits

    def step_only() -> None:
        step()

    def look_ahead() -> None:
        model(candidates, past=past)

    def step_of_horizon2() -> None:
        logits = top_k(step()[:, -1], config.top_k)
        logits = scale(logits, model, past, config, 0.95, 2)
        torch.multinomial(torch.softmax(logits, dim=-1), 1)

    jobs = {"step": step_only, "ahead": look_ahead, "horizon 2": step_of_horizon2}
    times = in_turn(jobs, 4 * rounds, "looking ahead")
    ahead, horizon2 = (ratio(times[job], times["step"]) for job in ("ahead", "horizon 2"))
    note = f"a step takes {times.median('step') * 1e3:.1f} ms"
    measurements.add_ratio("40 candidates from one past / one step", ahead, "times", -4, note)
    measurements.add_ratio("a whole step of horizon 2 / one step", horizon2, "times", -5.5)


@torch.inference_mode()
def likelihood(measurements: Measurements, rounds: int) -> None:
    """The log-likelihoods of a quarter of the histograms' texts, with the reference answer."""
    model = Ours(SMALL)
    codec = _codec(model.config)
    texts = [codec.encode(text) for dataset in DATASETS for text in _pieces(dataset)[::4]]
    library = implementations.transformers(model.config)
    log_likelihood = load_function(SOLUTION, "likelihood.py", "log_likelihood")

    def all_texts(call: Callable[[Tensor], tuple[Tensor, Any]]) -> None:
        for text in texts:
            log_likelihood(call, text)

    jobs: dict[str, Callable[[], float | None]] = {
        "ours": lambda: all_texts(model.model),
        "transformers": lambda: all_texts(lambda ids: (library(ids).logits, None)),
        "products": lambda: sum(model.products(1, 0, text.size(1)) for text in texts),
    }
    times = in_turn(jobs, rounds, "likelihoods")
    compared, products = ratio(times["transformers"], times["ours"]), ratio(times["products"], times["ours"])
    note = f"{times.median('ours') / len(texts) * 1e3:.1f} ms a text"
    measurements.add_ratio("log-likelihoods: transformers / ours", compared, "times", 1.1, note)
    measurements.add_ratio("log-likelihoods: only the products / ours", products, "", 0.85)


@torch.inference_mode()
def rounding(measurements: Measurements, rounds: int) -> None:
    """How far bfloat16 and int8 are from float32 with the bundled model and the histograms' texts; nothing is timed."""
    model, config = implementations.ours(BUNDLED)
    codec = _codec(config)
    texts = [codec.encode(text) for dataset in DATASETS for text in _pieces(dataset)]
    log_likelihood = load_function(SOLUTION, "likelihood.py", "log_likelihood")
    for dtype, bounds in (("bfloat16", (None, None)), ("int8", (-0.02, -0.5))):
        rounded, _ = implementations.ours(BUNDLED, dtype)
        moved = [abs(log_likelihood(rounded, ids) - log_likelihood(model, ids)) for ids in texts]
        total = torch.cat([_total_variation(model(ids)[0], rounded(ids)[0]) for ids in texts[::5]])
        what = f"{BUNDLED}: total variation between {dtype} and float32,"
        measurements.add(f"{what} mean", total.mean().item(), "", bounds[0])
        measurements.add(f"{what} 99% below", total.quantile(0.99).item(), "")
        what = f"{BUNDLED}: largest change of a text's log-likelihood by {dtype}"
        measurements.add(what, float(max(moved)), "nats", bounds[1], f"{len(moved)} texts")


def _total_variation(logits: Tensor, others: Tensor) -> Tensor:
    return (logits[0].softmax(-1) - others[0].softmax(-1)).abs().sum(-1) / 2


def _codec(config: Config) -> Codec:
    files = checkpoint.locate(config)
    return load_codec(files.encoder, files.merges)


def _pieces(dataset: Dataset) -> list[str]:
    return read_pieces(ROOT / "data" / dataset.file)


@torch.inference_mode()
def growth(measurements: Measurements, rounds: int) -> None:
    """How the cost of a call grows with its sizes; the exponent is that between the two largest sizes."""
    model, _ = implementations.ours(SMALL)
    step, add = functools.partial(_step, model), functools.partial(_add_growth, measurements, rounds)
    late = in_turn({n: step(1, n) for n in (100, 880)}, 4 * rounds, "late tokens")
    measurements.add_ratio(
        f"{SMALL}: a token after 880 others / after 100", ratio(late[880], late[100]), "times", -1.25
    )
    add("a token after so many", {n: step(1, n) for n in (64, 128, 256, 512, 1000)})
    add("a text of so many tokens", {n: _text(model, n) for n in (64, 128, 256, 512, 1024)})
    add("a step of so many prompts", {n: step(n, 64) for n in (1, 4, 16, 64)})
    add("a look ahead at so many candidates", {n: step(1, 100, n) for n in (1, 4, 16, 40, 100, 300, 1000)})
    mini = model_config(BUNDLED)
    sizes = {}
    for shape in ((mini.n_layer, mini.n_embd, mini.n_head), (12, 768, 12), (24, 1024, 16)):
        other = implementations.of_shape(*shape)
        sizes[sum(p.numel() for p in other.parameters()) // 10**6] = _step(other, 1, 100)
    add("a step of so many million parameters", sizes)


@torch.inference_mode()
def threads(measurements: Measurements, rounds: int) -> None:
    """What a second thread saves."""
    model, _ = implementations.ours(SMALL)
    usual = torch.get_num_threads()

    def with_threads(number: int, job: Callable[[], float]) -> float:
        torch.set_num_threads(number)
        try:
            return job()
        finally:
            torch.set_num_threads(usual)

    jobs = {
        "a step, batch 1": _step(model, 1, 100),
        "a step, batch 5": _step(model, 5, 100),
        "a text of 512 tokens": _text(model, 512),
    }
    both = {(what, n): functools.partial(with_threads, n, jobs[what]) for what in jobs for n in (1, 2)}
    times = in_turn(both, 2 * rounds, "threads")
    for what in jobs:
        note = f"{times.median((what, 1)) * 1e3:.1f} ms / {times.median((what, 2)) * 1e3:.1f} ms"
        compared = ratio(times[what, 1], times[what, 2])
        measurements.add_ratio(f"{what}: one thread / two threads", compared, "times", None, note)


def _step(model: GPT2, batch: int, context: int, candidates: int | None = None) -> Callable[[], float]:
    """A job: seconds of a step of `batch` prompts after `context` tokens, or of a look ahead at `candidates`."""

    def run() -> float:
        _, past = model(torch.zeros(batch, context, dtype=torch.long))
        ids = torch.zeros(1, 1, dtype=torch.long).expand(candidates or batch, 1)
        times = []
        for _ in range(4):
            began = time.perf_counter()
            _, longer = model(ids, past=past)
            times.append(time.perf_counter() - began)
            past = past if candidates else longer
        return statistics.median(times[1:])

    return run


def _text(model: GPT2, tokens: int) -> Callable[[], float]:
    """A job: seconds of one call on a text of `tokens` tokens."""

    def run() -> float:
        began = time.perf_counter()
        model(torch.zeros(1, 1, dtype=torch.long).expand(1, tokens))
        return time.perf_counter() - began

    return run


def _add_growth(measurements: Measurements, rounds: int, what: str, jobs: Mapping[int, Callable[[], float]]) -> None:
    times = in_turn(jobs, rounds, what)
    milliseconds = {n: times.median(n) * 1e3 for n in jobs}
    measurements.add_curve("growth", what, milliseconds)
    (n0, t0), (n1, t1) = list(milliseconds.items())[-2:]
    note = ", ".join(f"{n}: {t:.3g}" for n, t in milliseconds.items()) + " ms"
    measurements.add(f"{what}: exponent at the end", math.log(t1 / t0) / math.log(n1 / n0), "", None, note)
