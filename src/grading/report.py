"""The results of a grading, rendered: as Gradescope's results.json, and as a table for the terminal."""

import json
import textwrap
from collections.abc import Iterator, Sequence

from src.grading.homework import Homework
from src.grading.results import Results, TestResult
from src.grading.sandbox.client import NOT_WRITTEN

MAX_OUTPUT = 6_000  # characters of one test's output in results.json, which bounds the size of the file


def results_json(results: Results) -> bytes:
    """results.json in the format that Gradescope documents for autograders."""
    content = {
        "score": round(sum(test.score for test in results.tests), 2),
        "execution_time": results.seconds,
        "output": results.output[:MAX_OUTPUT],
        "output_format": "text",
        "stdout_visibility": "hidden",
        "tests": [_test_json(test) for test in results.tests],
    }
    return json.dumps(content, indent=2).encode() + b"\n"


def _test_json(test: TestResult) -> dict[str, object]:
    content: dict[str, object] = {
        "name": test.name,
        "score": test.score,
        "max_score": test.max_score,
        "status": "passed" if test.passed else "failed",
    }
    if test.visibility:
        content["visibility"] = test.visibility
    content["number"] = test.number
    if test.output:
        content["output"] = test.output[:MAX_OUTPUT]
    return content


def terminal_lines(homework: Homework, results: Results) -> Iterator[str]:
    """What the person at the terminal reads: everything about lost points, then a table of each part's points."""
    optional = [part.number for part in homework.parts if part.optional]
    unwritten = [
        test for test in results.tests if test.part in optional and test.reason == f"{test.part}: {NOT_WRITTEN}"
    ]
    for test in results.tests:
        if not test.passed and test not in unwritten:
            earned = f": {test.score:g} of {test.max_score:g}" if test.max_score else ""
            yield f"{test.number} {test.name}{earned}"
            yield textwrap.indent(test.details, "    ") + "\n"
    for file in dict.fromkeys(homework.part(test.part).file for test in unwritten):
        numbers = dict.fromkeys(test.part for test in unwritten if homework.part(test.part).file == file)
        yield f"not written yet in {file}: {', '.join(numbers)}\n"
    yield f"{'part':<8}{'points':>10}{'':4}{'tests':>9}"
    for part in dict.fromkeys(test.part for test in results.tests if test.max_score or test.part in optional):
        tests = [test for test in results.tests if test.part == part]
        points = "none" if part in optional else _points(tests)
        yield f"{part:<8}{points:>10}{'':4}{sum(test.passed for test in tests)} of {len(tests)}"
    bonus_parts = [part.number for part in homework.parts if part.bonus]
    bonus = [test for test in results.tests if test.part in bonus_parts]
    regular = [test for test in results.tests if test.max_score and test not in bonus]
    if regular:
        yield f"{'total':<8}{_points(regular):>10}"
    if bonus:
        yield f"{'bonus':<8}{_points(bonus):>10}{'':4}on top of the total"


def _points(tests: Sequence[TestResult]) -> str:
    return f"{sum(test.score for test in tests):g} / {sum(test.max_score for test in tests):g}"
