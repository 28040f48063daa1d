"""Scores: as Gradescope's results.json, which is on disk at every moment, and as a table for a person."""

import json
import math
import sys
import textwrap
import time
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gradescope_utils.autograder_utils.json_test_runner import JSONTestResult

from src.artifacts import write_file
from src.grading.assignment import Part, PointsLost

UNFINISHED = "The grading did not come to its end; what is listed here was graded before it stopped."


class Report(JSONTestResult):
    """Runs a suite and reports each test as soon as it is done.

    The scores come from gradescope-utils' decorators. Of a hidden test (one with `hide_errors`) the output says what
    the decorator says, and the hint.
    """

    def __init__(self, json_file: Path | None, total_seconds: float | None = None):
        self.tests: list[dict[str, Any]] = []
        super().__init__(None, True, 1, self.tests, [], "")
        self._json_file = json_file
        self._began = time.monotonic()
        Part.impatience = 1.0
        Part.end_of_all = self._began + total_seconds if total_seconds else math.inf
        self._write(UNFINISHED)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        if sys.stderr.isatty():
            print(f"\r\x1b[K{self.getNumber(test)} {test.shortDescription()}", end="", file=sys.stderr, flush=True)

    def getOutput(self) -> str:
        return ""

    def buildResult(self, test: unittest.TestCase, err: Any = None) -> dict[str, Any]:
        result = super().buildResult(test, err)
        error, hidden = err[1] if err else test.lost_some, self.getHideErrors(test)
        result.pop("output", None)
        if isinstance(error, PointsLost):
            result["details"] = error.shown()
            result["output"] = f"{hidden}\n{error.hidden()}".rstrip() if hidden else error.shown()
        elif error is not None:
            result["details"] = f"{type(error).__name__}: {error}"
            result["output"] = "the grader itself failed here, which is not your fault; please tell the staff"
        result["part"] = type(test).part
        return result

    def processResult(self, test: unittest.TestCase, err: Any = None) -> None:
        super().processResult(test, err)
        self._write(UNFINISHED)

    def finish(self, notes: Sequence[str] = ()) -> None:
        """Write the final results.json."""
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self._write("\n".join(notes))

    def _write(self, output: str) -> None:
        if self._json_file is not None:
            write_file(self._json_file, json.dumps(self.as_json(output), indent=2).encode() + b"\n")

    def as_json(self, output: str) -> dict[str, Any]:
        """All results so far, as Gradescope wants them."""
        return {
            "score": round(sum(test["score"] for test in self.tests), 2),
            "execution_time": round(time.monotonic() - self._began, 2),
            "output": output,
            "output_format": "text",
            "stdout_visibility": "hidden",
            "tests": [
                {name: value for name, value in test.items() if name not in ("part", "details")} for test in self.tests
            ],
        }

    def all_points(self) -> bool:
        """Whether no test lost anything."""
        return all(test["score"] == test["max_score"] for test in self.tests)

    def lines(self) -> Iterator[str]:
        """What the person at the terminal reads: the points of each part, and all about the lost ones."""
        for test in self.tests:
            if test["status"] == "failed":
                earned = f": {test['score']:g} of {test['max_score']:g}" if test["max_score"] else ""
                yield f"{test['number']} {test['name']}{earned}"
                yield textwrap.indent(test.get("details", ""), "    ") + "\n"
        yield f"{'part':<8}{'points':>10}{'':4}{'tests':>9}"
        parts = list(dict.fromkeys(test["part"] for test in self.tests if test["max_score"]))
        for part in parts:
            tests = [test for test in self.tests if test["part"] == part]
            passed = sum(test["status"] == "passed" for test in tests)
            yield f"{part:<8}{_points(tests):>10}{'':4}{passed} of {len(tests)}"
        bonus = [test for test in self.tests if test["part"] in BONUS]
        regular = [test for test in self.tests if test not in bonus]
        yield f"{'total':<8}{_points(regular):>10}" + (f" + {_points(bonus)} extra" if bonus else "")


BONUS = ("6.7",)


def _points(tests: Sequence[dict[str, Any]]) -> str:
    return f"{sum(t['score'] for t in tests):g} / {sum(t['max_score'] for t in tests):g}"


def suite(parts: Sequence[type[Part]]) -> unittest.TestSuite:
    """All tests of these classes, by number; the hidden ones last, so that no visible one can tell of them."""
    tests = [test for part in parts for test in unittest.defaultTestLoader.loadTestsFromTestCase(part)]

    def order(test: Part) -> tuple[bool, str]:
        method = getattr(test, test._testMethodName)
        return hasattr(method, "__hide_errors__"), method.__number__

    return unittest.TestSuite(sorted(tests, key=order))
