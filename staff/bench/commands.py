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

HALF_OF_BEFORE = 34.0  # seconds: main.py once took 68 s with SMALL on two cores that read 43 GB/s

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
        "help": lambda: run_python("main.py", "--help").seconds,
        "load": lambda: run_python("-c", _LOAD).seconds,
        "part": lambda: first_result("grader.py", part, "--submission", str(SOLUTION)),
    }
    times = in_turn(jobs, 2 * rounds, "starting")
    medians = {job: times.median(job) for job in jobs}
    measurements.add("main.py --help", medians["help"], "s", -0.3)
    what, note = f"grader.py {part} to its first result / loading", f"{medians['part']:.2f} s / {medians['load']:.2f} s"
    measurements.add_ratio(what, ratio(times["part"], times["load"]), "times", -1.1, note)


def grading(measurements: Measurements, rounds: int) -> None:
    """What a whole grading takes, hidden tests included."""
    costs = [run_python("grader.py", "--submission", str(SOLUTION)) for _ in range(rounds + 1)][1:]
    measurements.add("grader.py whole", statistics.median(cost.seconds for cost in costs), "s")
    cpu = statistics.median(cost.cpu for cost in costs)
    measurements.add("grader.py whole: processor seconds of all its processes", cpu, "s", -2.7)


def whole(measurements: Measurements, _: int) -> None:
    """main.py from beginning to end, the faster of two runs; with the bundled model, also with the plain model."""
    for name in (SMALL, BUNDLED):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ("--model", name, "--out", folder, "--questions")
            costs = [run_python("main.py", *arguments, str(SOLUTION)) for _ in range(2)]
            ours = min(cost.seconds for cost in costs)
            measurements.add(f"main.py whole, {name}", ours, "s", -HALF_OF_BEFORE if name == SMALL else None)
            if name == BUNDLED:  # with SMALL, the plain model takes seven minutes
                plain = run_python("-m", "staff.bench.plain", *arguments, str(PLAIN)).seconds
                measurements.add(f"main.py whole, {name}: plain / ours", plain / ours, "times", None, f"{plain:.1f} s")
        memory = max(cost.memory for cost in costs)
        beyond, note = (memory - _weights_and_cache(name)) / 1e6, f"{memory / 1e6:.0f} MB in all"
        bound = -350.0 if name == SMALL else None
        measurements.add(f"main.py, {name}: peak memory beyond weights and cache", beyond, "MB", bound, note)


def _weights_and_cache(name: str) -> int:
    """The bytes of the weights, and of the cache of the five prompts, in float32."""
    model, config = implementations.ours(name)
    weights = sum(parameter.numel() for parameter in model.transformer.parameters())
    cache = 2 * config.n_layer * config.n_embd * 5 * (config.n_ctx // 2 + 24)
    return 4 * (weights + cache)
