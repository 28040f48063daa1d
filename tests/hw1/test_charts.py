"""The charts that the checks of homework 1 leave: the same numbers as in the texts, for right answers and wrong ones."""

import numpy as np
import pytest

from src.files import write_file
from src.grading import results
from src.grading.chart import Chart, Histogram
from src.grading.intake import Submission
from src.grading.part_test import Grading, derived_seed
from src.grading.record import begin_record, part_record, record_part
from src.grading.results import SUBMIT, Recorder, suite
from src.grading.sandbox.sandbox import Sandbox
from src.hw1.artifacts import pickled
from src.hw1.dataset import DATASETS
from src.hw1.parts import HOMEWORK, LIKELIHOODS, config_record
from src.model.config import BUNDLED, model_config
from tests.answers import varied


def outcomes(questions, parts):
    """Number → what came of each test of these parts."""
    recorder = Recorder(lambda results: None)
    with Sandbox(HOMEWORK, None, BUNDLED, derived_seed(1, "student code")) as sandbox:
        sandbox.take(questions)
        submission = Submission(questions, questions.parent / "submit", ())
        suite(results.test_classes(HOMEWORK), Grading(HOMEWORK, submission, sandbox, 1), parts).run(recorder)
    return {test.number: test for test in recorder.finish([]).tests}


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    return outcomes(varied(tmp_path_factory.mktemp("right") / "questions", "sample.py"), HOMEWORK.numbers)


def test_right_answers_have_charts_of_what_was_looked_at(right):
    charts = {number: test.chart for number, test in right.items() if test.chart and not test.is_hidden}
    assert set(charts) == {"6.3.1", "6.4.1", "6.5.1", "6.6.1", "6.7.1"}
    for chart in charts.values():
        assert isinstance(chart, Chart)
        assert len(chart.labels) == len(chart.expected) == len(chart.got) > 0
        assert chart.got == pytest.approx(chart.expected, abs=0.2, rel=1e-3)
    assert sum(charts["6.3.1"].got) == pytest.approx(1)


def test_a_wrong_likelihood_is_charted_as_it_came(tmp_path):
    folder = varied(tmp_path / "questions", "likelihood.py", (".sum().item()", ".mean().item()"))
    lost = outcomes(folder, ("6.4",))["6.4.1"]
    assert lost.mistakes == ("mean",)
    lengths = [int(label.split()[0]) for label in lost.chart.labels]
    means = [value / (length - 1) for value, length in zip(lost.chart.expected, lengths, strict=True)]
    assert lost.chart.got == pytest.approx(means)
    assert lost.chart.unit == "nats"


def test_an_incomplete_submit_is_drawn_as_far_as_it_is_right(tmp_path):
    folder, out, values = (
        varied(tmp_path / "questions", "likelihood.py"),
        tmp_path / "submit",
        np.linspace(-400, -200, 100),
    )
    files = {artifact.name: pickled(values) for artifact in LIKELIHOODS[:2]}
    for name, content in {**files, LIKELIHOODS[2].name: b"no pickle"}.items():
        write_file(out / name, content)
    begin_record(out)
    made_with = {"model": BUNDLED, "config": config_record(model_config(BUNDLED))}
    record_part(out, "6.4", part_record(HOMEWORK, HOMEWORK.part("6.4"), made_with, folder, files))
    lost = outcomes(folder, (SUBMIT,))["7.1"]
    assert f"{LIKELIHOODS[2].name}: is damaged; run: python main.py" in lost.got
    assert isinstance(lost.chart, Histogram)
    assert [series.label for series in lost.chart.series] == [dataset.label for dataset in DATASETS[:2]]
    assert lost.chart.series[0].values == tuple(values.tolist())
