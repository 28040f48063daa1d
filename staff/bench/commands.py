"""How long main.py and the grader take as commands, and how much memory main.py needs."""

import statistics
import tempfile

from src.hw1.parts import HOMEWORK
from src.model.config import BUNDLED
from staff.bench import implementations
from staff.bench.implementations import PLAIN, SMALL, SOLUTION
from staff.bench.intervals import ratio
from staff.bench.measurements import Measurements
from staff.bench.timing import first_result, in_turn, run_python

_LOAD = """
from src.model import checkpoint
from src.model.config import BUNDLED, model_config
config = model_config(BUNDLED)
checkpoint.load(config, checkpoint.locate(config))
"""


def starting(measurements: Measurements, rounds: int) -> None:
    """How long a user waits for the first output."""
    part = next(part.number for part in HOMEWORK.parts if part.function == "log_likelihood")
    jobs = {
        "help": lambda: run_python("main.py", "--help")[0],
        "load": lambda: run_python("-c", _LOAD)[0],
        "part": lambda: first_result("grader.py", part, "--submission", str(SOLUTION)),
        "grader": lambda: run_python("grader.py", "--submission", str(SOLUTION))[0],
    }
    times = in_turn(jobs, rounds, "starting")
    medians = {job: times.median(job) for job in jobs}
    measurements.add("main.py --help", medians["help"], "s", -0.3)
    what, note = f"grader.py {part} to its first result / loading", f"{medians['part']:.2f} s / {medians['load']:.2f} s"
    measurements.add_ratio(what, ratio(times["part"], times["load"]), "times", -1.3, note)
    measurements.add("grader.py whole", medians["grader"], "s", -30.0)


def whole(measurements: Measurements, rounds: int) -> None:
    """main.py from beginning to end, with our model and with the plain one."""
    for name in (SMALL, BUNDLED):
        is_small = name == SMALL
        ours, plain, memory = _whole_runs(name, 1 if is_small else rounds)
        note = f"{statistics.median(ours):.0f} s, {statistics.median(plain):.0f} s"
        bound = 4.0 if is_small else None
        measurements.add_ratio(f"main.py whole, {name}: plain / ours", ratio(plain, ours), "times", bound, note)
        beyond = (memory - _weights_and_cache(name)) / 1e6
        bound, note = -350.0 if is_small else None, f"{memory / 1e6:.0f} MB in all"
        measurements.add(f"main.py, {name}: peak memory beyond weights and cache", beyond, "MB", bound, note)


def _whole_runs(name: str, rounds: int) -> tuple[list[float], list[float], int]:
    """Seconds of main.py with our model and with the plain one in each round; peak memory of ours in bytes."""
    ours, plain, memory = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("--model", name, "--out", folder, "--questions")
        for _ in range(rounds):
            seconds, memory = run_python("main.py", *arguments, str(SOLUTION))
            ours.append(seconds)
            plain.append(run_python("-m", "staff.bench.plain", *arguments, str(PLAIN))[0])
    return ours, plain, memory


def _weights_and_cache(name: str) -> int:
    """The bytes of the weights, and of the cache of the five prompts, in float32."""
    model, config = implementations.ours(name)
    weights = sum(parameter.numel() for parameter in model.parameters())
    cache = 2 * config.n_layer * config.n_embd * 5 * (config.n_ctx // 2 + 24)
    return 4 * (weights + cache)
