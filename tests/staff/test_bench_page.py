"""`staff/bench/`: results as a file, and docs/performance.md, which is made from it."""

from dataclasses import replace

import pytest

from src.files import ROOT
from staff.bench import page
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


def test_the_page_is_what_its_results_and_its_template_give():
    """Nobody has edited a figure by hand, and a change of the template has been applied."""
    stored = from_json((ROOT / "docs" / "performance.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "performance.md").read_text(encoding="utf-8") == page.Page(stored).text()


def test_the_page_shows_a_figure_of_each_line():
    text = page.Page(_run(ahead=Line("what", 1.234, "s"), limits=Line("other", 5.67, "GB/s", 5.0))).text()
    assert "| what | 1.23 s |" in text
    assert "| other | 5.67 GB/s |  | ≥ 5 | met |" in text
    assert "What is not reached" not in text


def test_the_page_explains_what_is_missed():
    missed = Line("gpt2-random, batch 5: float32 / bfloat16", 1.2, "times", 1.5)
    shown = page.Page(_run(decoding=missed))
    assert "**bfloat16.**" in shown.text()
    assert "**bfloat16.**" not in page.Page(_run(decoding=replace(missed, value=1.6))).text()
    assert shown.explained == {missed.what}


def test_the_page_says_when_each_section_was_run():
    run = _run(ahead=Line("what", 1.0, "s"))
    run.sections["limits"] = Measurements("2026-01-03 05:06")
    assert page.Page(run).when == "2026-01-02: ahead 03:04; 2026-01-03: limits 05:06"


def test_the_parts_of_a_step_are_a_table_with_a_sum():
    curves = {"step, float32": {"readout": {1: 1.0, 5: 2.0}, "sampling": {1: 0.5, 5: 0.25}}}
    assert page.table_of_profile(curves).splitlines() == [
        "| milliseconds a token | float32, batch 1 | float32, batch 5 |",
        "| --- | ---: | ---: |",
        "| readout | 1.0 | 2.0 |",
        "| sampling | 0.5 | 0.2 |",
        "| together | 1.5 | 2.2 |",
    ]


def test_what_was_not_measured_is_said_to_be_so():
    assert page.Page(_run()).find("what") == "(not measured)"
    assert page.table_of_profile({}) == ""


def test_the_page_is_written_with_its_results(tmp_path, monkeypatch, capsys):
    missed = Line("what", 1.0, "s", 2.0)
    (tmp_path / "results.json").write_text(to_json(_run(ahead=missed)), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["page", str(tmp_path / "results.json"), "--out", str(tmp_path / "docs")])
    page.main()
    stored = from_json((tmp_path / "docs" / "performance.json").read_text(encoding="utf-8"))
    assert (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8") == page.Page(stored).text()
    warnings = capsys.readouterr().err
    assert "no results of section decoding" in warnings
    assert "not explained in performance.md.jinja: what" in warnings
