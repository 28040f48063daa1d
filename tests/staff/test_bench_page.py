"""`staff/bench/`: results as a file, and docs/performance.md, which is made from it."""

import pytest

from staff.bench.intervals import Ratio, ratio
from staff.bench.measurements import Contest, Entry, Line, Measurements
from staff.bench.results import Results, from_json, joined, to_json


def _run(machine="a machine", **sections):
    """The results of a run, with one line a section."""
    return Results(machine, {name: Measurements("2026-01-02 03:04", 1.5, 4, [line]) for name, line in sections.items()})


def test_results_are_read_as_they_were_written():
    measurements = Measurements("2026-01-02 03:04", 1.5, 4)
    measurements.add_ratio("what", ratio([2.0, 3.0], [1.0, 1.0]), "times", 2.0, "a note")
    measurements.add("other", 1.0, "s")
    entries = Entry("ours", 0.01, 0.011), Entry("them", 0.02, 0.021, Ratio(1.9, 1.8, 2.1, 9), "same")
    measurements.add_contest(Contest("batch 1", entries, (3, 30)))
    measurements.add_curve("chart", "ours", {10: 2.0, 100: 2.5})
    results = Results("a machine", {"decoding": measurements})
    assert from_json(to_json(results)) == results


def test_of_a_section_that_ran_twice_the_later_run_counts():
    old, new = Line("what", 1.0, "s"), Line("what", 2.0, "s")
    both = joined([_run(ahead=old, limits=old), _run(limits=new)], ["limits", "ahead"])
    assert both.lines == [new, old]


def test_runs_on_different_machines_cannot_be_joined():
    with pytest.raises(ValueError, match="different machines: one; two"):
        joined([_run("one"), _run("two")], [])
