"""The declaration of homework 1: its parts, what each runs and what each leaves in submit/.

Importing it must be quick: no PyTorch and no NumPy, so that --help and mistyped options answer at once.
"""

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from src.errors import ConfigError
from src.grading.artifacts import picture
from src.grading.homework import Homework, Part, Settings
from src.hw1.artifacts import decisions_file, likelihoods_file, pickled, samples_file
from src.hw1.dataset import DATASETS, read_pieces, read_snippets
from src.model import config as model_configs

if TYPE_CHECKING:
    from src.hw1.run import Run

DEFAULT_MODEL = "gpt2"
TEMPERATURE = 0.95
PROMPTS = 5
HORIZON2_TOKENS = 100
LONG_HORIZON_POINTS = 0.0  # of each test of question 7
EXTRA_CREDIT = LONG_HORIZON_POINTS > 0  # then question 7 is a bonus, and in all runs and gradings

Files = Mapping[str, bytes]

SAMPLES = samples_file("samples.txt", PROMPTS)
SAMPLES_TEMPERATURE = samples_file("samples_temperature0-95.txt", PROMPTS)
SAMPLES_HORIZON2 = samples_file("samples_temperature0-95_horizon2.txt", 1)
LIKELIHOODS = tuple(map(likelihoods_file, DATASETS))
HISTOGRAMS = tuple(picture(f"{dataset.name}.png") for dataset in DATASETS)
OVERVIEW = picture("histograms.png")
CLASSIFICATION = decisions_file("classification.pkl")
LONG_HORIZON = picture("long_horizon.png")


def write_samples(run: "Run") -> Files:
    """Five abstracts, continued."""
    return {SAMPLES.name: run.sample(run.prompts(PROMPTS), run.config.n_ctx // 2)}


def write_likelihoods(run: "Run") -> Files:
    """The log-likelihood of every text of the three data sets, and their histograms."""
    log_likelihood = run.function("likelihood.py", "log_likelihood")
    texts = {dataset: read_pieces(run.data / dataset.file) for dataset in DATASETS}
    values: dict[str, list[float]] = {dataset.name: [] for dataset in DATASETS}
    pairs = [(dataset.name, text) for dataset in DATASETS for text in texts[dataset]]
    for name, text in run.progress(pairs, "log-likelihoods", "text"):
        value = log_likelihood(run.model, run.encode(text))
        if type(value) is not float or not math.isfinite(value):
            remedy = "; .item() turns a tensor with one element into one" if hasattr(value, "item") else ""
            raise run.wrong_value("likelihood.py", "log_likelihood", value, f"a finite Python float{remedy}")
        values[name].append(value)
    run.release_memory()
    import numpy as np

    from src.hw1 import plots  # matplotlib is slow to import, and only this part draws

    arrays = {name: np.array(of_dataset) for name, of_dataset in values.items()}
    drawn = [plots.histogram(dataset, arrays[dataset.name]) for dataset in DATASETS]
    return {
        **{file.name: pickled(array) for file, array in zip(LIKELIHOODS, arrays.values(), strict=True)},
        **{file.name: content for file, content in zip(HISTOGRAMS, drawn, strict=True)},
        OVERVIEW.name: plots.overview(arrays),
    }


def write_classification(run: "Run") -> Files:
    """For each of the 300 snippets, whether the student's classifier calls it random."""
    classification = run.function("classifier.py", "classification")
    decisions = []
    for text in run.progress(read_snippets(run.data / "snippets.pkl"), "classifying", "text"):
        decision = classification(run.model, run.encode(text))
        if type(decision) is not bool:
            raise run.wrong_value("classifier.py", "classification", decision, "True or False")
        decisions.append(decision)
    if len(set(decisions)) == 1:
        run.remark(
            f"6.5: classification returned {decisions[0]} for all {len(decisions)} texts, but some are random letters "
            f"and some are not; look at {OVERVIEW.name}, which 6.4 makes, and choose a threshold between the bars"
        )
    return {CLASSIFICATION.name: pickled(decisions)}


def write_samples_temperature(run: "Run") -> Files:
    """Five abstracts, continued at a temperature."""
    samples = run.sample(run.prompts(PROMPTS), run.config.n_ctx // 2, TEMPERATURE, horizon=1)
    return {SAMPLES_TEMPERATURE.name: samples}


def write_samples_horizon2(run: "Run") -> Files:
    """One abstract, continued at a temperature with horizon 2."""
    return {SAMPLES_HORIZON2.name: run.sample(run.prompts(PROMPTS)[:1], HORIZON2_TOKENS, TEMPERATURE, horizon=2)}


def write_long_horizon(run: "Run") -> Files:
    """How far long horizons, a trained model and Metropolis-Hastings are from the scaled joint distribution."""
    from src.hw1.long_horizon.report import report

    return {LONG_HORIZON.name: report(run)}


def check_fine_tuning(chosen: Collection[str], model: str, device: str) -> None:
    """Check that the part that adapts the model is among the `chosen` ones, and that it ends in minutes.

    Raises:
        ConfigError: it is not, or does not.
    """
    if "7.1" not in chosen:
        raise ConfigError("--fine-tune belongs to question 7; add --question 7")
    if device == "cpu" and model != model_configs.BUNDLED:
        raise ConfigError(f"--fine-tune would take hours with {model} on a CPU; use --model bundled, or a GPU")


def describe(made_with: Settings) -> str:
    """The model and the seed."""
    return f"{model_configs.option(str(made_with.get('model')))}, seed {made_with.get('seed')}"


def rerun(made_with: Settings, part: Part) -> str:
    """The command that makes the part's artifacts with the same model; with the bundled one where that is gone."""
    model = str(made_with.get("model", DEFAULT_MODEL))
    model = model if model in model_configs.model_names() else model_configs.BUNDLED
    chosen = f" --model {model_configs.option(model)}" if model != DEFAULT_MODEL else ""
    return f"python main.py{chosen} --question {part.number}"


def settings_problem(made_with: Settings, root: Path) -> str | None:
    """How the config of a run differs from that of today, below `root`."""
    model = str(made_with.get("model"))
    if model not in model_configs.model_names(root):
        return f"was made with the model {model}, which is not here"
    try:
        config = model_configs.model_config(model, root)
    except ConfigError as error:
        return f"was made with the model {model}, which cannot be used: {error}"
    if made_with.get("config") == config_record(config):
        return None
    return f"was made with another config.yml of {model} than the present one"


def config_record(config: model_configs.Config) -> object:
    """A config as run.json holds it."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


# The written problems' results, in the order of theory.py: the grader checks them, and nothing runs or counts them.
THEORY = tuple(
    Part(number, title, "theory.py", function, optional=True)
    for number, title, function in (
        ("1a", "Maximum likelihood and KL: both objectives", "objectives"),
        ("1b", "Maximum likelihood and KL: their sum", "objectives_sum"),
        ("1c", "Maximum likelihood and KL: the best classifier", "kl_minimizer"),
        ("2a", "Mixture of Gaussians: the joint density", "log_joint"),
        ("2b", "Mixture of Gaussians: the posterior", "posterior"),
        ("2c", "Mixture of Gaussians: as a logistic regression", "logistic_parameters"),
        ("3.1", "Parameters of a joint distribution", "parameters_of_joint"),
        ("3.2", "Parameters under independence", "fewest_parents"),
        ("3.3", "Parameters of a Bayesian network", "parameters_of_network"),
        ("4a", "Forward and reverse: the counterexample", "forward_model"),
        ("4b", "Forward and reverse: Bayes' rule", "reverse_conditional"),
        ("5a", "Monte Carlo: the mean of A", "mean_estimate"),
        ("5b", "Monte Carlo: the bias of log A", "bias_of_log"),
        ("5c", "Monte Carlo: when log A is biased", "is_biased"),
        ("6.7a", "Joint temperature: the counterexample", "two_token_model"),
        ("7a", "Joint temperature: Z(1)", "partition_at_1"),
        ("7b", "Joint temperature: the terms of Z(T)", "partition_terms"),
        ("7c", "Joint temperature: which T is better", "better_temperature"),
        ("7d", "Joint temperature: sampling", "can_sample"),
        ("7e", "Joint temperature: the divergence", "kl_terms"),
        ("7f", "Joint temperature: importance weights", "importance_weights"),
        ("7g", "Joint temperature: an unbiased estimate", "star_estimate"),
    )
)

# The order of the parts is that of the work: sampling takes the most memory, the classifier and the likelihoods leave
# kernels for each length of text in it, and the likelihoods matplotlib.
HOMEWORK = Homework(
    name="hw1",
    slug="cs236.hw1.2023",
    program="main.py",
    parts=(
        Part("6.3", "Sampling", "sample.py", "sample", write_samples, (SAMPLES,)),
        Part(
            "6.6", "Temperature, horizon 1", "sample.py", "temperature_scale", write_samples_temperature,
            (SAMPLES_TEMPERATURE,), needs=("6.3",),
        ),
        Part(
            "6.7", "Temperature, horizon 2", "sample.py", "temperature_scale", write_samples_horizon2,
            (SAMPLES_HORIZON2,), needs=("6.3",), bonus=True,
        ),
        Part(
            "6.5", "Classifier", "classifier.py", "classification", write_classification, (CLASSIFICATION,),
            needs=("6.4",),
        ),
        Part(
            "6.4", "Log-likelihood", "likelihood.py", "log_likelihood", write_likelihoods,
            (*LIKELIHOODS, *HISTOGRAMS, OVERVIEW),
        ),
        Part(
            "7.1", "Long horizon: the loss", "long_horizon.py", "lhts_loss", write_long_horizon, (LONG_HORIZON,),
            needs=("7.3",), bonus=EXTRA_CREDIT, optional=not EXTRA_CREDIT,
        ),
        Part(
            "7.2", "Long horizon: the weights", "long_horizon.py", "horizon_weights",
            bonus=EXTRA_CREDIT, optional=not EXTRA_CREDIT,
        ),
        Part(
            "7.3", "Long horizon: Metropolis-Hastings", "long_horizon.py", "metropolis_accept",
            bonus=EXTRA_CREDIT, optional=not EXTRA_CREDIT,
        ),
        *THEORY,
    ),
    readable=lambda model: ("src/model", f"checkpoints/{model}"),
    find_model=lambda name: model_configs.model_config(name).name,
    settings_problem=settings_problem,
    describe=describe,
    rerun=rerun,
)  # fmt: skip
