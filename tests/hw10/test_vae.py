"""Problem 2: the networks, what the checks measure, what the hints recognise, and a short training."""

import csv
import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from src.errors import StudentCodeError
from src.files import ROOT
from src.grading.student_code import load_function
from src.hw10.experiments import vae as experiment
from src.hw10.harness import vae as harness
from src.hw10.hints import elbo, gaussian
from src.hw10.hints.elbo import ElboCase, diagnose_gradients, diagnose_values, right_values
from src.hw10.hints.gaussian import SampleCase, diagnose_sample
from src.hw10.networks.vae import VAE
from src.hw10.parts import HOMEWORK
from src.hw10.run import Run
from src.hw10.settings import read_config

SOLUTION = ROOT / "staff" / "hw10" / "solution"
SHAPE = (400, 8)


def answer(name: str):
    return load_function(SOLUTION, "vae.py", name)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


# --- the networks ---


def test_the_encoder_gives_a_mean_and_a_positive_variance():
    mean, variance = VAE().encode(torch.randn(5, 784) * 50)
    assert mean.shape == variance.shape == (5, 64)
    assert (variance > 0).all()
    assert (mean < 0).any()


def test_the_decoder_gives_a_logit_for_each_pixel():
    assert VAE(latents=7).decode(torch.randn(5, 7)).shape == (5, 784)


# --- what students are given ---


def test_kl_normal_is_that_of_torch_distributions(rng):
    m, v, pm, pv = (torch.from_numpy(rng.uniform(0.1, 3, (4, 6))) for _ in range(4))
    q, p = torch.distributions.Normal(m, v.sqrt()), torch.distributions.Normal(pm, pv.sqrt())
    torch.testing.assert_close(answer("kl_normal")(m, v, pm, pv), torch.distributions.kl_divergence(q, p).sum(-1))


def test_log_bernoulli_is_that_of_torch_distributions(rng):
    logits, x = torch.from_numpy(rng.normal(0, 3, (4, 6))), torch.from_numpy(rng.integers(0, 2, (4, 6)) * 1.0)
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(-1)
    torch.testing.assert_close(answer("log_bernoulli_with_logits")(x, logits), expected)


# --- what the harness measures ---


def arguments(rng, batch=6, latents=3) -> list[Tensor]:
    shapes = ((batch, 784), (784, latents), (784, latents), (latents, 784), (batch, latents), (batch, latents))
    arrays = [rng.normal(0, 0.05, shape) for shape in shapes]
    arrays[0] = rng.integers(0, 2, shapes[0])
    return [torch.from_numpy(array.astype(np.float32)) for array in arrays]


def measured_case(given: list[Tensor], z: Tensor) -> ElboCase:
    x, to_mean, to_log_variance, to_logits, *_ = (each.detach().double().numpy() for each in given)
    latents = z.double().numpy()
    return ElboCase(x, x @ to_mean, np.exp(x @ to_log_variance), latents, latents @ to_logits)


def test_the_answer_gets_the_given_sample(rng):
    given = arguments(rng)
    *values, z, _, _, _ = harness.elbo(answer("negative_elbo_bound"), *given)
    assert torch.equal(z, given[4])
    assert elbo.same_values([value.item() for value in values], right_values(measured_case(given, z)))


def test_the_own_sample_gaussian_is_back_after_the_call(rng):
    function = answer("negative_elbo_bound")
    own = function.__globals__["sample_gaussian"]
    harness.elbo(function, *arguments(rng))
    assert function.__globals__["sample_gaussian"] is own


def test_other_samples_come_from_the_own_sample_gaussian(rng):
    given = arguments(rng)

    def function(encode, decode, x):
        mean, variance = encode(x)
        return decode(answer("sample_gaussian")(mean + 1, variance)).sum(), 0.0, 0.0

    function.__module__ = answer("sample_gaussian").__module__
    *_, z, _, _, _ = harness.elbo(function, *given)
    assert not torch.equal(z, given[4])


def test_several_calls_of_the_decoder_are_all_recorded(rng):
    def function(encode, decode, x):
        return sum(decode(row).sum() for row in encode(x)[0]), 0.0, 0.0

    assert harness.elbo(function, *arguments(rng))[3].shape == (6, 3)


@pytest.mark.parametrize("value", [None, 3.0, (1, 2), "abc", torch.zeros(2), torch.zeros(()), [1, 2, 3, 4]])
def test_another_kind_of_value_is_returned_as_it_is(rng, value):
    assert harness.elbo(lambda *_: value, *arguments(rng)) is value
    m = torch.zeros(2, 3)
    assert harness.sample_gradient(lambda *_: value, m, m + 1, m) is value


def test_a_value_without_gradient_has_none(rng):
    *_, a, b, c = harness.elbo(lambda *_: (torch.zeros(()), 1.0, 2.0), *arguments(rng))
    assert (a, b, c) == (None, None, None)
    _, by_m, by_v = harness.sample_gradient(lambda m, v: m.detach() + v.detach(), *torch.ones(3, 2, 2))
    assert (by_m, by_v) == (None, None)


def test_the_gradients_by_hand_are_those_of_autograd(rng):
    """In float64, where z is drawn by the answer itself."""
    given = [each.double() for each in arguments(rng)]
    function = answer("negative_elbo_bound")
    given[5] = (given[4] - (given[0] @ given[1])) / (2 * (given[0] @ given[2]).exp())
    *_, z, to_mean, to_log_variance, to_logits = harness.elbo(function, *given)
    kl, rec = elbo.gradients(measured_case(given, z), given[3].detach().numpy())
    for name, got in zip(elbo.WEIGHTS, (to_mean, to_log_variance, to_logits), strict=True):
        np.testing.assert_allclose(got.numpy(), kl[name] + rec[name], rtol=1e-9, atol=1e-12)


# --- what the hints recognise: samples ---


def sample_case(rng, draw) -> SampleCase:
    m, v = rng.normal(0, 2, SHAPE), np.exp(rng.uniform(-2, 2, SHAPE))
    return SampleCase(draw(m, v, rng.standard_normal(SHAPE)), m, v)


DRAWS = {
    gaussian.DEVIATION: lambda m, v, e: m + v * e,
    gaussian.UNSCALED: lambda m, v, e: m + e,
    gaussian.DIVIDED: lambda m, v, e: m + e / np.sqrt(v),
    gaussian.LOG_VARIANCE: lambda m, v, e: m + np.exp(v / 2) * e,
    gaussian.ROOT_TWICE: lambda m, v, e: m + v**0.25 * e,
    gaussian.SQUARED: lambda m, v, e: m + v**2 * e,
    gaussian.ADDED: lambda m, v, e: m + np.sqrt(v) + e,
    gaussian.MEAN_SIGN: lambda m, v, e: -m + np.sqrt(v) * e,
    gaussian.MEAN_MULTIPLIED: lambda m, v, e: m * np.sqrt(v) * e,
    gaussian.NO_MEAN: lambda m, v, e: np.sqrt(v) * e,
    gaussian.PRIOR: lambda m, v, e: e,
    gaussian.ROLES_SWAPPED: lambda m, v, e: v + m * e,
    gaussian.NO_NOISE: lambda m, v, e: m,
    gaussian.ONE_NUMBER: lambda m, v, e: m + np.sqrt(v) * e[0, 0],
    gaussian.SHARED_BY_BATCH: lambda m, v, e: m + np.sqrt(v) * e[:1],
    gaussian.SHARED_BY_ROW: lambda m, v, e: m + np.sqrt(v) * e[:, :1],
    gaussian.UNIFORM: lambda m, v, e: m + np.sqrt(v) * (np.vectorize(math.erf)(e / math.sqrt(2)) + 1) / 2,
    gaussian.POSITIVE: lambda m, v, e: m + np.sqrt(v) * np.abs(e),
    gaussian.FACTOR: lambda m, v, e: m + np.sqrt(v) * e * 0.7,
    gaussian.OFFSET: lambda m, v, e: m + np.sqrt(v) * (e + 0.5),
    gaussian.NOT_NORMAL: lambda m, v, e: m + np.sqrt(v) * np.sign(e),
    gaussian.SAMPLE_NOT_FINITE: lambda m, v, e: m + np.sqrt(-v) * e,
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("mistake", DRAWS, ids=lambda mistake: mistake.name)
def test_a_wrong_sample_is_explained(rng, mistake):
    assert diagnose_sample(sample_case(rng, DRAWS[mistake])) == (mistake,)


def test_every_mistake_of_samples_is_tried():
    assert {*gaussian.SCALES, *gaussian.PATTERNS} <= set(DRAWS)


def test_two_mistakes_are_explained_together(rng):
    case = sample_case(rng, lambda m, v, e: m + v * e[:1])
    assert diagnose_sample(case) == (gaussian.DEVIATION, gaussian.SHARED_BY_BATCH)


def test_noise_that_repeats_is_explained(rng):
    case = sample_case(rng, lambda m, v, e: m + np.sqrt(v) * e)
    assert diagnose_sample(dataclasses.replace(case, other_noise=case.noise)) == (gaussian.REPEATED,)


def test_a_right_sample_is_not_explained(rng):
    for _ in range(20):
        assert diagnose_sample(sample_case(rng, lambda m, v, e: m + np.sqrt(v) * e)) == ()


# --- what the hints recognise: the three values ---


@pytest.fixture
def case(rng) -> ElboCase:
    z = rng.normal(0, 1, (7, 4))
    x = rng.integers(0, 2, (7, 30)) * 1.0
    return ElboCase(x, rng.normal(0, 1, (7, 4)), np.exp(rng.normal(0, 0.7, (7, 4))), z, z @ rng.normal(0, 1, (4, 30)))


GROUPS = (elbo._KLS, elbo._KL_CHANGES, elbo._RECS, elbo._REC_CHANGES, elbo._REDUCTIONS, elbo._SUMS)


def outcomes(case: ElboCase):
    return [(mistakes, values) for mistakes, values in elbo._outcomes(case) if np.isfinite(values).all()]


def test_each_single_mistake_is_recognised(case):
    singles = [(mistakes, values) for mistakes, values in outcomes(case) if len(mistakes) == 1]
    assert {mistakes[0] for mistakes, _ in singles} == {m for group in GROUPS for m in group} | {elbo.ORDER}
    for mistakes, values in singles:
        assert diagnose_values(values, case) == mistakes


def test_nearly_all_pairs_of_mistakes_are_recognised(case):
    """Some pairs lead to the same values as others."""
    pairs = [(mistakes, values) for mistakes, values in outcomes(case) if len(mistakes) == 2]
    sample = pairs[:: len(pairs) // 30]
    recognised = sum(diagnose_values(values, case) == mistakes for mistakes, values in sample)
    assert recognised >= 0.8 * len(sample)


def test_right_values_are_not_explained(case):
    assert diagnose_values(right_values(case), case) == ()


def test_random_values_are_not_explained(rng, case):
    for _ in range(10):
        assert diagnose_values((rng.normal(0, 30, 3)).tolist(), case) == ()


@pytest.mark.parametrize(
    ("change", "mistake"),
    [((9, 9, 0), elbo.KL_WRONG), ((9, 0, 9), elbo.REC_WRONG), ((9, 0, 0), elbo.TOTAL_WRONG)],
)
def test_what_is_right_helps_to_find_what_is_not(case, change, mistake):
    got = [value + each for value, each in zip(right_values(case), change, strict=True)]
    assert diagnose_values(got, case) == (mistake,)


def test_a_right_first_value_is_not_called_wrong(case):
    total, kl, rec = right_values(case)
    assert diagnose_values([total, kl, -rec], case) == (elbo.REC_SIGN,)


def test_values_that_are_not_finite_are_explained(case):
    assert diagnose_values([math.nan, math.inf, 3.0], case) == (elbo.VALUES_NOT_FINITE,)


# --- what the hints recognise: gradients ---


CUTS = {
    elbo.LOSS_WITHOUT_GRADIENT: lambda kl, rec: {name: 0 * kl[name] for name in kl},
    elbo.Z_DETACHED: lambda kl, rec: kl | {"to_logits": rec["to_logits"]},
    elbo.REC_DETACHED: lambda kl, rec: kl,
    elbo.KL_DETACHED: lambda kl, rec: rec,
    elbo.ENCODER_DETACHED: lambda kl, rec: {name: 0 * kl[name] for name in kl} | {"to_logits": rec["to_logits"]},
    elbo.SPREAD_DETACHED: lambda kl, rec: {
        "to_mean": kl["to_mean"] + rec["to_mean"],
        "to_log_variance": kl["to_log_variance"],
        "to_logits": rec["to_logits"],
    },
}


@pytest.mark.parametrize("mistake", CUTS, ids=lambda mistake: mistake.name)
def test_a_cut_gradient_is_explained(rng, case, mistake):
    kl, rec = elbo.gradients(case, rng.normal(0, 1, (4, 30)))
    assert diagnose_gradients(CUTS[mistake](kl, rec), kl, rec) == (mistake,)


def test_whole_gradients_are_not_explained(rng, case):
    kl, rec = elbo.gradients(case, rng.normal(0, 1, (4, 30)))
    assert diagnose_gradients({name: kl[name] + rec[name] for name in kl}, kl, rec) == ()


# --- a short training ---


def short_run(tmp_path, questions=SOLUTION, iterations=25) -> Run:
    config = read_config(HOMEWORK.home / "config.yml")
    training = dataclasses.replace(config.experiments["vae"], seeds=2, batch_size=50)
    config = dataclasses.replace(config, experiments={**config.experiments, "vae": training})
    return Run(config, questions, HOMEWORK.home / "data", tmp_path, 5, "cpu", iterations)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    run = short_run(tmp_path_factory.mktemp("work"))
    return run.files_of(HOMEWORK.part("2b"))


def test_a_training_leaves_the_declared_files(files):
    assert set(files) == {"vae.csv", "vae_curves.png", "vae.png"}
    assert files["vae.png"].startswith(b"\x89PNG")


def test_the_table_adds_up_and_has_improved(files):
    """An untrained network has 784 log 2 = 543 nats."""
    rows = {row["held-out images"]: row for row in csv.DictReader(io.StringIO(files["vae.csv"].decode()))}
    nelbo, kl, rec = (float(rows[name]["mean"]) for name in experiment.QUANTITIES)
    assert nelbo == pytest.approx(kl + rec, rel=1e-3)  # four digits
    assert nelbo < 400
    assert all(float(row["standard error"]) > 0 and row["seeds"] == "2" for row in rows.values())


def test_the_same_seed_gives_the_same_table(files, tmp_path):
    assert short_run(tmp_path).files_of(HOMEWORK.part("2b"))["vae.csv"] == files["vae.csv"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1.0", "returned 1.0 (of type float), but must return three scalars"),
        ("return x, x, x", "but must return three scalars"),
        ("return None", "returned nothing (None)"),
        ("return 3.0, 1.0, 2.0", "must return a negative ELBO with a gradient"),
        ("z = encode(x)[0].sum() * float('nan'); return z, z, z", "must return a finite negative ELBO"),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path, body, message):
    questions = tmp_path / "questions"
    questions.mkdir()
    (questions / "vae.py").write_text(f"def negative_elbo_bound(encode, decode, x):\n    {body}\n")
    with pytest.raises(StudentCodeError) as caught:
        short_run(tmp_path, questions).files_of(HOMEWORK.part("2b"))
    assert message in str(caught.value)
    assert "negative_elbo_bound" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_poor_result_is_remarked(tmp_path):
    run = short_run(tmp_path)
    rows = experiment._rows(np.array([[300.0, 10, 290], [310.0, 12, 298]]))
    experiment._report(run, rows, 5000)
    assert run.remarks == ["vae.csv: a negative ELBO of 305 nats is too much after 5000 iterations"]
    assert rows[0]["standard error"] == pytest.approx(5)
