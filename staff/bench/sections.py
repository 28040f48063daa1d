"""What is measured: each section returns the lines of the table that it fills in, and notes what the chart shows."""

import functools
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from src import checkpoint
from src.artifacts import DATASETS
from src.checkpoint import BUNDLED
from src.codec import load_codec
from src.config import ROOT, model_config
from src.dataset import read_pieces
from src.guest import load_function
from staff.bench import contenders, machine
from staff.bench.contenders import QUIET, SMALL, SOLUTION, Apart, CTranslate2, Sampler, Transformers
from staff.bench.machine import in_turn, ratio

CONTEXTS = (10, 100, 350, 600, 900)
MIDDLE = (100, 350, 600)
TOKENS = 24  # decoded at each context
BATCHES = (1, 5, 16, 64)


@dataclass(frozen=True)
class Line:
    """A line of the table: `bound` is the least that it should be (or, with a minus sign, the most), or None."""

    what: str
    value: float
    unit: str
    bound: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.bound is None:
            return None
        return self.value >= self.bound if self.bound > 0 else self.value <= -self.bound


@dataclass
class Findings:
    """What has been measured so far."""

    machine: str
    lines: list[Line] = field(default_factory=list)
    curves: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)  # chart → contender → x → y

    def add(self, *arguments) -> None:
        """Add a `Line`, and print it."""
        line = Line(*arguments)
        self.lines.append(line)
        print(shown(line), flush=True)


def shown(line: Line) -> str:
    """The line as one of text."""
    bound = "" if line.bound is None else f"{'at least' if line.bound > 0 else 'at most'} {abs(line.bound):g}"
    verdict = {None: "", True: "met", False: "MISSED"}[line.met]
    return f"{line.what:<66} {line.value:>9.3g} {line.unit:<10} {bound:<14} {verdict:<7}{line.note}".rstrip()


def limits(found: Findings, rounds: int) -> None:
    """The machine's own limits."""
    multiply = {str(d).removeprefix("torch."): machine.multiplier(d) for d in (torch.float32, torch.bfloat16)}
    times = in_turn({"read": machine.reader(), **multiply}, rounds, "limits")
    for name, seconds in times.items():
        what = "large read" if name == "read" else f"large product, {name}"
        found.add(what, 1e-9 / statistics.median(seconds), "GB/s" if name == "read" else "GFLOP/s")


def _everybody(name: str) -> dict[str, Apart]:
    return {
        "ours": Apart(Sampler, name),
        "ours, bfloat16": Apart(Sampler, name, "bfloat16"),
        "transformers": Apart(Transformers, name),
        "transformers, bfloat16": Apart(Transformers, name, "bfloat16"),
        "CTranslate2": Apart(CTranslate2, name, "float32"),
        "CTranslate2, int8": Apart(CTranslate2, name, "int8"),
        "plain": Apart(Sampler, name, "float32", True),
    }


def decoding(found: Findings, rounds: int, name: str = SMALL) -> None:
    """Time per token at several contexts for one prompt and for five."""
    config, everybody = model_config(name), _everybody(name)
    middle = [c for c in MIDDLE if c + TOKENS <= config.n_positions]
    read = machine.reader()
    for batch in (1, 5):
        contexts = [c for c in CONTEXTS if c + TOKENS <= config.n_positions] if batch == 1 else middle
        alone: dict[int, list[float]] = {c: [] for c in contexts}  # what our model's step takes, sampling left out

        def measure(who: str, context: int, batch: int, alone=alone) -> float:
            prompts = torch.randint(config.vocab_size, (batch, context))
            steps, model_steps = everybody[who]("decode", prompts, TOKENS + 1)
            if who == "ours":
                alone[context].append(float(np.median(model_steps)))
            return float(np.median(steps))

        def limit(context: int, batch: int) -> float:
            time.sleep(QUIET)
            return min(read() for _ in range(3)) * bytes_of_step(config, batch, context + TOKENS / 2)

        def product(context: int, batch: int) -> float:
            return everybody["ours"]("products", batch, context, 1)

        who_decodes = [who for who in everybody if who != "plain" or batch == 1]
        jobs: dict[tuple[str, int], Callable[[], float]] = {}
        for context in contexts:
            for who in who_decodes:
                jobs[who, context] = functools.partial(measure, who, context, batch)
            jobs["limit", context] = functools.partial(limit, context, batch)
            jobs["products", context] = functools.partial(product, context, batch)
        times = in_turn(jobs, rounds, f"decoding {name}, batch {batch}")
        for who in who_decodes:
            points = {c: statistics.median(times[who, c]) * 1e3 for c in contexts}
            found.curves.setdefault(f"{name}, batch {batch}", {})[who] = points
        # Of the model's own steps, the first round doesn't count either.
        share, compared = (
            statistics.fmean(ratio(times[which, c], alone[c][1:]) for c in middle) for which in ("limit", "products")
        )

        what = f"{name}, batch {batch}, context {middle[0]} to {middle[-1]}:"
        milliseconds = 1e3 * statistics.fmean(statistics.median(times["ours", c]) for c in middle)
        found.add(f"{what} a token, sampling included", milliseconds, "ms")
        small = name == SMALL
        if batch == 1:
            found.add(f"{what} memory's limit / the model's step", share, "", 0.9 if small else None)
        else:
            note = f"memory's limit / step {share:.2f}"
            found.add(f"{what} products alone / step", compared, "", 0.85 if small else None, note)
        bounds = {("transformers", 1): 1.15, ("transformers", 5): 1.4, ("ours, bfloat16", 5): -1 / 1.5}
        for who in who_decodes[1:]:  # all but ours
            each = [ratio(times[who, c], times["ours", c]) for c in middle]
            bound = bounds.get((who, batch)) if small else None
            found.add(f"{what} {who} / ours", statistics.fmean(each), "times", bound)
        if batch == 1 and 900 in contexts:
            late = ratio(times["ours", 900], times["ours", 100])
            found.add(f"{name}: a token at position 900 / at 100", late, "times", -1.25)
    for contender in everybody.values():
        contender.end()


def bytes_of_step(config, batch: int, context: float, size: int = 4) -> float:
    """What one step has to read: all weights but the embeddings that are looked up, and the cache."""
    blocks = config.n_layer * (12 * config.n_embd**2 + 13 * config.n_embd)
    readout = config.vocab_size * config.n_embd
    return size * (blocks + readout + 2 * batch * config.n_layer * context * config.n_embd)


def batches(found: Findings, rounds: int) -> None:
    """Tokens a second over the number of prompts."""
    config, everybody = model_config(SMALL), _everybody(SMALL)
    everybody.pop("plain").end()

    def measure(who: str, batch: int) -> float:
        steps, _ = everybody[who]("decode", torch.randint(config.vocab_size, (batch, 100)), 9)
        return float(np.median(steps))

    jobs = {f"{who}/{b}": functools.partial(measure, who, b) for b in BATCHES for who in everybody}
    times = in_turn(jobs, rounds, "batches")
    for who in everybody:
        points = {b: b / statistics.median(times[f"{who}/{b}"]) for b in BATCHES}
        found.curves.setdefault("tokens a second", {})[who] = points
    for batch in BATCHES:
        compared = ratio(times[f"transformers/{batch}"], times[f"ours/{batch}"])
        speed = found.curves["tokens a second"]["ours"][batch]
        found.add(
            f"{SMALL}, batch {batch}: transformers / ours", compared, "times", None, f"{speed:.0f} tokens a second"
        )
    for contender in everybody.values():
        contender.end()


@torch.inference_mode()
def ahead(found: Findings, rounds: int) -> None:
    """Looking ahead: 40 candidates after one past."""
    model, config = contenders.ours(SMALL)
    scale = load_function(SOLUTION, "sample.py", "temperature_scale")
    top_k = load_function(SOLUTION, "sample.py", "top_k_logits")
    token, candidates = torch.zeros(1, 1, dtype=torch.long), torch.arange(config.top_k).unsqueeze(1)
    state = {"ours": model(torch.randint(config.vocab_size, (1, 24)))[1]}  # as main.py begins

    def step() -> None:
        state["logits"], state["ours"] = model(token, past=state["ours"])

    def look_ahead() -> None:
        model(candidates, past=state["ours"])

    def horizon2() -> None:
        step()
        logits = top_k(state["logits"][:, -1], config.top_k)
        logits = scale(logits, model, state["ours"], config, 0.95, 2)
        torch.multinomial(torch.softmax(logits, dim=-1), 1)

    jobs = {"step": step, "ahead": look_ahead, "horizon 2": horizon2}
    times = in_turn(jobs, 4 * rounds, "looking ahead")
    milliseconds = statistics.median(times["step"]) * 1e3
    note = f"a step takes {milliseconds:.1f} ms"
    found.add("40 candidates from one past / one step", ratio(times["ahead"], times["step"]), "times", -4, note)
    found.add("a whole step of horizon 2 / one step", ratio(times["horizon 2"], times["step"]), "times", -5.5)


@torch.inference_mode()
def likelihood(found: Findings, rounds: int) -> None:
    """The histogram's strings through the students' function."""
    sampler = Sampler(SMALL)
    model, config = sampler.model, sampler.config
    files = checkpoint.locate(config)
    codec = load_codec(files.encoder, files.merges)
    texts = [codec.encode(t) for name in DATASETS for t in read_pieces(ROOT / "data" / f"{name}.pkl")[::2]]
    theirs = contenders.transformers(config)
    log_likelihood = load_function(SOLUTION, "likelihood.py", "log_likelihood")

    def through(answer) -> None:
        for text in texts:
            log_likelihood(answer, text)

    times = in_turn(
        {
            "ours": lambda: through(model),
            "transformers": lambda: through(lambda ids: (theirs(ids).logits, None)),
            "products": lambda: sum(sampler.products(1, 0, text.size(1)) for text in texts),
        },
        rounds, "likelihoods",
    )  # fmt: skip
    note = f"{statistics.median(times['ours']) / len(texts) * 1e3:.1f} ms a string"
    found.add("log-likelihoods: transformers / ours", ratio(times["transformers"], times["ours"]), "times", 1.1, note)
    found.add("log-likelihoods: products alone / ours", ratio(times["products"], times["ours"]), "", 0.85)


@torch.inference_mode()
def half(found: Findings, rounds: int) -> None:
    """How far bfloat16's distributions are from float32's, for the bundled model, which has learnt something."""
    (model, config), (half_model, _) = contenders.ours(BUNDLED), contenders.ours(BUNDLED, "bfloat16")
    files = checkpoint.locate(config)
    codec = load_codec(files.encoder, files.merges)
    top_k = load_function(SOLUTION, "sample.py", "top_k_logits")
    distances = []
    for name in DATASETS:
        for text in read_pieces(ROOT / "data" / f"{name}.pkl")[::5]:
            ids = codec.encode(text)
            p, q = (top_k(m(ids)[0][0].float(), config.top_k).softmax(-1) for m in (model, half_model))
            distances.append((p - q).abs().sum(-1) / 2)
    total = torch.cat(distances)
    what = f"{BUNDLED}: total variation between bfloat16 and float32,"
    found.add(f"{what} mean", total.mean().item(), "")
    found.add(f"{what} 99% below", total.quantile(0.99).item(), "")


def starting(found: Findings, rounds: int) -> None:
    """How long one waits for the first result."""
    load = (
        "import torch; from src import checkpoint; from src.config import model_config; "
        f"c = model_config('{BUNDLED}'); checkpoint.load(c, checkpoint.locate(c))"
    )
    jobs = {
        "help": lambda: machine.run("main.py", "--help")[0],
        "load": lambda: machine.run("-c", load)[0],
        "6.4": lambda: _first_result("grader.py", "6.4", "--submission", str(SOLUTION)),
        "grader": lambda: machine.run("grader.py", "--submission", str(SOLUTION))[0],
    }
    times = in_turn(jobs, rounds, "starting")
    found.add("main.py --help", statistics.median(times["help"]), "s", -0.3)
    note = f"{statistics.median(times['6.4']):.2f} s / {statistics.median(times['load']):.2f} s"
    found.add("grader.py 6.4 to its first result / loading", ratio(times["6.4"], times["load"]), "times", -1.3, note)
    found.add("grader.py whole", statistics.median(times["grader"]), "s", -30.0)


def _first_result(*arguments: str) -> float:
    """Seconds until the grader, called with these arguments, has its first test's result in results.json."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        began = time.perf_counter()
        command = [sys.executable, *arguments, "--json", str(file)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                if file.exists() and json.loads(file.read_text(encoding="utf-8"))["tests"]:
                    return time.perf_counter() - began
                time.sleep(0.002)
    raise RuntimeError(f"{' '.join(arguments)} had no result")


@torch.inference_mode()
def growth(found: Findings, rounds: int) -> None:
    """How the cost of a step grows; the exponent is that of the last doubling or so."""
    model, _ = contenders.ours(SMALL)
    token = torch.zeros(1, 1, dtype=torch.long)

    def step_after(which, batch: int, context: int, new: int | None = None) -> Callable[[], float]:
        def run() -> float:
            _, past = which(torch.zeros(batch, context, dtype=torch.long))
            ids = token.expand(new or batch, 1)
            times = []
            for _ in range(4):
                began = time.perf_counter()
                _, later = which(ids, past=past)
                times.append(time.perf_counter() - began)
                past = past if new else later
            return statistics.median(times[1:])

        return run

    def whole_text(tokens: int) -> Callable[[], float]:
        def run() -> float:
            began = time.perf_counter()
            model(token.expand(1, tokens))
            return time.perf_counter() - began

        return run

    _grown(found, rounds, "a token after so many", {n: step_after(model, 1, n) for n in (64, 128, 256, 512, 1000)})
    _grown(found, rounds, "a text of so many tokens", {n: whole_text(n) for n in (64, 128, 256, 512, 1024)})
    _grown(found, rounds, "a step of so many prompts", {n: step_after(model, n, 64) for n in (1, 4, 16, 64)})
    _grown(
        found, rounds, "a look ahead at so many candidates",
        {n: step_after(model, 1, 100, n) for n in (1, 4, 16, 40, 100, 300, 1000)},
    )  # fmt: skip
    mini = model_config(BUNDLED)
    sizes = {}
    for shape in ((mini.n_layer, mini.n_embd, mini.n_head), (12, 768, 12), (24, 1024, 16)):
        other = contenders.of_shape(*shape)
        sizes[sum(p.numel() for p in other.parameters()) // 10**6] = step_after(other, 1, 100)
    _grown(found, rounds, "a step of so many million parameters", sizes)


def _grown(found: Findings, rounds: int, what: str, jobs: dict[int, Callable[[], float]]) -> None:
    times = in_turn({str(n): job for n, job in jobs.items()}, rounds, what)
    milliseconds = {n: statistics.median(times[str(n)]) * 1e3 for n in jobs}
    found.curves.setdefault("growth", {})[what] = milliseconds
    (n0, t0), (n1, t1) = list(milliseconds.items())[-2:]
    note = ", ".join(f"{n}: {t:.3g}" for n, t in milliseconds.items()) + " ms"
    found.add(f"{what}: exponent at the end", math.log(t1 / t0) / math.log(n1 / n0), "", None, note)


def whole(found: Findings, rounds: int) -> None:
    """main.py from beginning to end, with our model and with the plain one; and its memory."""
    with tempfile.TemporaryDirectory() as folder:
        for name, times in ((SMALL, 1), (BUNDLED, rounds)):
            memory = 0
            mine, others = [], []
            arguments = ("--model", name, "--out", folder, "--questions")
            for _ in range(times):
                seconds, memory = machine.run("main.py", *arguments, str(SOLUTION))
                mine.append(seconds)
                others.append(machine.run("-m", "staff.bench.plain", *arguments, str(contenders.PLAIN))[0])
            note = f"{statistics.median(mine):.0f} s, {statistics.median(others):.0f} s"
            bound = 4.0 if name == SMALL else None
            found.add(f"main.py whole, {name}: plain / ours", ratio(others, mine), "times", bound, note)
            config = model_config(name)
            weights = 4 * sum(p.numel() for p in contenders.ours(name)[0].parameters())
            cache = 4 * 2 * config.n_layer * config.n_embd * 5 * (config.n_ctx // 2 + 24)
            found.add(f"main.py, {name}: peak memory beyond weights and cache",
                      (memory - weights - cache) / 1e6, "MB", -350.0 if name == SMALL else None,
                      f"{memory / 1e6:.0f} MB in all")  # fmt: skip


SECTIONS: dict[str, Callable[[Findings, int], None]] = {
    "limits": limits,
    "decoding": decoding,
    "mini": functools.partial(decoding, name=BUNDLED),
    "batches": batches,
    "ahead": ahead,
    "likelihood": likelihood,
    "half": half,
    "starting": starting,
    "growth": growth,
    "whole": whole,
}


def run(names: Collection[str], rounds: int) -> Findings:
    """Run these sections, and print each line as soon as it is known."""
    found = Findings(machine.described())
    if set(names) - {"limits", "mini", "half", "starting"}:
        contenders.make_small()
    for name in names:
        SECTIONS[name](found, rounds)
    return found
