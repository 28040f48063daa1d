"""Grade one submission in a process that has loaded everything already; see `staff/warm.py`.

The intake, the sandbox and the tests are those of grader.py, and with the same seed so is the score, to the digit.
"""

import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.errors import IntakeError, UserError
from src.grading.homework import Homework
from src.grading.part_test import Grading, derived_seed
from src.grading.results import Recorder, suite, test_classes
from src.grading.sandbox.forking import ForkServer
from src.grading.sandbox.reader import unpack_confined
from src.grading.sandbox.sandbox import Sandbox
from src.grading.time_budget import TOTAL, TimeBudget
from staff.grade_class.blocks import blocks_of
from staff.grade_class.store import FAILED, GRADED, REFUSED

BUSY = 0.5  # a smaller share of the time on a processor was not the submission's doing


def graded(
    homework: Homework, server: ForkServer, *, submission: str, seed: int, parts: Sequence[str]
) -> dict[str, Any]:
    """Grade the submission at a path, or some parts of it.

    Returns: status, error, notes, blocks, seconds, the rounded ones that students may see, and what each test says.
    """
    recorder, began, used = Recorder(lambda results: None), time.monotonic(), _processor_seconds(server)
    status, error = GRADED, ""
    notes: list[str] = []
    blocks: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="submission-") as folder:
        try:
            model, student_seed = homework.find_model("bundled"), derived_seed(seed, "student code")
            with Sandbox(homework, None, model, student_seed, server) as sandbox:
                unpacked = unpack_confined(sandbox, Path(submission), Path(folder))
                blocks = blocks_of(homework, unpacked.questions)
                sandbox.take(unpacked.questions)
                budget = TimeBudget(TOTAL * sandbox.slowness, sandbox.slowness)
                suite(test_classes(homework), Grading(homework, unpacked, sandbox, seed, budget), parts).run(recorder)
                if budget.ran_out and _processor_seconds(server) - used < BUSY * (time.monotonic() - began):
                    raise UserError("the machine was too busy to run all tests in time; run this again with --failed")
                notes = [*unpacked.notes, *(f"note: {weakness}" for weakness in sandbox.weaknesses())]
        except IntakeError as refused:
            status, error = REFUSED, str(refused).replace(f"{submission}: ", "")
        except UserError as ours:
            status, error = FAILED, str(ours)
    results = recorder.finish([])
    return {
        "status": status, "error": error, "notes": notes, "blocks": blocks,
        "seconds": round(time.monotonic() - began, 2), "shown_seconds": results.seconds,
        "tests": [dataclasses.asdict(test) for test in results.tests] if status == GRADED else [],
    }  # fmt: skip


def _processor_seconds(server: ForkServer) -> float:
    """What this process, the fork server and its ended workers have used; infinite where nobody can tell."""
    try:
        after_name = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return time.process_time() + sum(map(int, after_name[11:15])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return math.inf
