"""The diffusion checks' expected values, and whether each known mistake is recognised from what it leads to."""

import numpy as np
import pytest

from src.hw10.checks.diffusion import Process, _first_wrong
from src.hw10.hints.diffusion import SAMPLE_STAGES, Case, diagnose_sample, outcomes, same
from src.hw10.hints.posterior import POSTERIOR_STAGES, diagnose_posterior


def value_of(stages, case, path=()):
    """What the stages lead to; `path` says which way to take, stage by stage, 0 being the right one."""
    value = None
    for i, stage in enumerate(stages):
        value = stage[path[i] if i < len(path) else 0][1](case, value)
    return value


def a_case(seed, t=(3, 0, 5, 1)):
    rng = np.random.default_rng(seed)
    x_0, other = rng.standard_normal((2, len(t), 2, 4, len(t)))
    return Case(x_0, other, np.array(t), rng.uniform(0.05, 0.45, 7))


def single_mistakes(stages):
    """Each way with one mistake: the place of its stage, of the way, and the mistake."""
    return [
        pytest.param(i, j, ways[0], id=f"{ways[0].name} {j}")
        for i, stage in enumerate(stages)
        for j, (ways, _) in enumerate(stage)
        if len(ways) == 1
    ]


@pytest.mark.parametrize(("stage", "way", "mistake"), single_mistakes(SAMPLE_STAGES))
def test_mistakes_of_q_sample(stage, way, mistake):
    case = a_case(stage * 100 + way)
    got, _ = value_of(SAMPLE_STAGES, case, [0] * stage + [way])
    right, _ = value_of(SAMPLE_STAGES, case)
    assert [m.name for m in diagnose_sample(got, right, case)] == [mistake.name]


@pytest.mark.parametrize(("stage", "way", "mistake"), single_mistakes(POSTERIOR_STAGES))
def test_mistakes_of_posterior(stage, way, mistake):
    """At t = 0, some of them lead to NaN, so these are seen at later steps."""
    case = a_case(stage * 100 + way, t=(3, 0, 5, 1) if stage == 0 else (3, 2, 5, 1))
    got = value_of(POSTERIOR_STAGES, case, [0] * stage + [way])
    right = value_of(POSTERIOR_STAGES, case)
    assert [m.name for m in diagnose_posterior(got, right, case)] == [mistake.name]


@pytest.mark.parametrize("seed", range(20))
def test_random_values_have_no_explanation(seed):
    case, rng = a_case(seed), np.random.default_rng(1000 + seed)
    right = value_of(SAMPLE_STAGES, case)[0]
    assert not diagnose_sample(rng.standard_normal(right.shape), right, case)
    both = value_of(POSTERIOR_STAGES, case)
    assert not diagnose_posterior([rng.standard_normal(right.shape), rng.random(right.shape)], both, case)
    assert not diagnose_sample(right, right, case)
    assert not diagnose_posterior(both, both, case)


def test_own_noise_is_recognised():
    case = a_case(1)
    own = Case(case.x_0, np.random.default_rng(9).standard_normal(case.x_0.shape), case.t, case.beta)
    right, got = (value_of(SAMPLE_STAGES, each)[0] for each in (case, own))
    assert [m.name for m in diagnose_sample(got, right, case)] == ["own noise"]


def test_separate_mistakes_in_mean_and_variance():
    case = a_case(2, t=(3, 2, 5, 1))
    right = value_of(POSTERIOR_STAGES, case)
    with np.errstate(all="ignore"):
        led_to = {m[0].name: value for m, value in outcomes(POSTERIOR_STAGES, case) if len(m) == 1}
    got = led_to["coefficients swapped"][0], led_to["deviation for variance"][1]
    found = diagnose_posterior(got, right, case)
    assert {m.name for m in found} == {"coefficients swapped", "deviation for variance"}


def test_an_image_that_is_wrong_is_shown():
    right = np.ones((4, 2, 2))
    got = right.copy()
    got[2:, 1] = 3
    assert _first_wrong(got, right) == 2


def test_steps_add_up_to_the_closed_form():
    """The checks' loop over the steps, and its simulation, against the formula that students derive."""
    process, rng = Process.random(np.random.default_rng(3), 9), np.random.default_rng(4)
    for t in (0, 4, 8):
        mean, variance = process.walked(np.array([2.0]), t)
        share = float(np.prod(1 - process.beta[: t + 1].astype(np.float64)))
        assert mean == pytest.approx([2 * share**0.5])
        assert variance == pytest.approx(1 - share)
        drawn = process.simulated(rng, np.full(40_000, 2.0), t)
        assert abs(drawn.mean() - mean[0]) < 5 * (variance / 40_000) ** 0.5
        assert abs(drawn.var() / variance - 1) < 5 * (2 / 40_000) ** 0.5


def test_bayes_on_a_grid_is_exact():
    """Against the closed form that students derive."""
    process, rng = Process.random(np.random.default_rng(5), 9), np.random.default_rng(6)
    x_0 = rng.standard_normal(30)
    for t in range(9):
        x_t = process.simulated(rng, x_0, t)
        case = Case(x_0[None], x_t[None], np.array([t]), process.beta.astype(np.float64))
        mean, variance = value_of(POSTERIOR_STAGES, case)
        got = process.bayes(x_0, x_t, t)
        np.testing.assert_allclose(got[0], mean[0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(got[1], variance[0], rtol=1e-9, atol=1e-9)


def test_comparison_forgives_float32_alone():
    values = np.linspace(-3, 3, 50)
    assert same(values.astype(np.float32).astype(np.float64), values)
    assert not same(values * 1.001, values)
    assert not same(values[:-1], values)
