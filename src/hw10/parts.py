"""The declaration of homework 10: its parts, what each runs and what each leaves in submit/.

Importing it must be quick: no PyTorch and no NumPy, so that --help and mistyped options answer at once.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from src.errors import ConfigError
from src.grading.artifacts import picture
from src.grading.homework import Artifact, Homework, Part, Settings
from src.hw10.tables import table_file

if TYPE_CHECKING:
    from src.hw10.run import Run

Files = Mapping[str, bytes]

MODELS = {  # what --model of experiment.py names → the file with its blocks
    "vae": "vae.py",
    "gan": "gan.py",
    "ddpm": "diffusion.py",
    "continual": "continual.py",
    "prompting": "prompting.py",
}


def _experiment(module: str, function: str) -> Callable[["Run"], Files]:
    """The function of `src.hw10.experiments.MODULE` that makes the files of a part; it is imported when it runs."""

    def run(run: "Run") -> Files:
        files: Files = getattr(importlib.import_module(f"src.hw10.experiments.{module}"), function)(run)
        return files

    return run


def find_model(name: str) -> str:
    """The name of the model that the grader tests with: this homework has none."""
    if name != "bundled":
        raise ConfigError(f"--model {name}: this homework's tests make their own models; leave --model out")
    return name


def describe(made_with: Settings) -> str:
    """The seed, and whatever was set on the command line."""
    chosen = [f"seed {made_with.get('seed')}"]
    if made_with.get("iterations"):
        chosen.append(f"{made_with['iterations']} iterations")
    if made_with.get("lm", "bundled") != "bundled":
        chosen.append(f"the language model {made_with['lm']}")
    if made_with.get("full_mnist"):
        chosen.append("all of MNIST")
    return ", ".join(chosen)


def rerun(made_with: Settings, part: Part) -> str:
    """The command that makes the part's artifacts again, with the same options."""
    iterations = f" --iterations {made_with['iterations']}" if made_with.get("iterations") else ""
    lm = f" --lm {made_with['lm']}" if made_with.get("lm", "bundled") != "bundled" else ""
    full = " --full-mnist" if made_with.get("full_mnist") else ""
    return f"python experiment.py --model {experiment_of(part)}{lm}{full}{iterations}"


def settings_problem(made_with: Settings, root: Path) -> str | None:
    """Any settings will do: results of shorter runs are results as well."""
    return None


def _pictures(*names: str) -> tuple[Artifact, ...]:
    return tuple(picture(f"{name}.png") for name in names)


# The derivations' results, in the order of theory.py: the grader checks them, and nothing runs or counts them.
THEORY = tuple(
    Part(number, title, "theory.py", function, optional=True)
    for number, title, function in (
        ("3a", "GAN: the gradient vanishes", "generator_gradient"),
        ("3b", "GAN: the best discriminator", "optimal_discriminator"),
        ("3e", "GAN: what the generator minimises", "value_at_optimum"),
        ("4c", "Diffusion: a product of Gaussians", "product_of_gaussians"),
        ("4d", "Diffusion: how many steps it takes", "steps_to_noise"),
        ("5e", "Continual learning: between two tasks", "ewc_optimum"),
    )
)

HOMEWORK = Homework(
    name="hw10",
    slug="deep-learning.hw10.2026",
    program="experiment.py",
    parts=(
        Part(
            "1b", "Prompting: classification", "prompting.py", "label_log_likelihood",
            _experiment("prompting", "classify"), (*_pictures("prompting"), table_file("prompting.csv")),
        ),
        Part("1c", "Soft prompts: what is trained", "prompting.py", "parameters_to_train"),
        Part(
            "1d", "Soft prompts: the forward pass", "prompting.py", "soft_prompt_logits",
            _experiment("prompting", "soft_prompt"), (*_pictures("soft_prompt"), table_file("soft_prompt.csv")),
            needs=("1c",),
        ),
        Part("2a", "VAE: sampling", "vae.py", "sample_gaussian"),
        Part(
            "2b", "VAE: the loss", "vae.py", "negative_elbo_bound", _experiment("vae", "train"),
            (*_pictures("vae", "vae_curves"), table_file("vae.csv")), needs=("2a",),
        ),
        Part(
            "3c", "GAN: the non-saturating loss", "gan.py", "loss_nonsaturating", _experiment("gan", "train"),
            (*_pictures("gan", "gan_curves"), table_file("gan.csv")),
        ),
        Part(
            "3d", "GAN: the minimax loss", "gan.py", "loss_minimax", _experiment("gan", "vanishing_gradient"),
            _pictures("vanishing_gradient"), needs=("3c",),
        ),
        Part("4a", "Diffusion: adding noise", "diffusion.py", "q_sample"),
        Part(
            "4b", "Diffusion: one step back", "diffusion.py", "posterior", _experiment("ddpm", "train"),
            (*_pictures("ddpm", "ddpm_curves", "ddpm_process"), table_file("ddpm.csv")), needs=("4a",),
        ),
        Part("5b", "Continual learning: Fisher information", "continual.py", "fisher_information"),
        Part(
            "5c", "Continual learning: EWC's penalty", "continual.py", "ewc_penalty", _experiment("continual", "ewc"),
            (*_pictures("continual_ewc", "continual_lambda"), table_file("continual_ewc.csv")), needs=("5b",),
        ),
        Part(
            "5d", "Continual learning: rehearsal", "continual.py", "update_memory",
            _experiment("continual", "rehearsal"),
            (*_pictures("continual_rehearsal", "continual_memory"), table_file("continual_rehearsal.csv")),
        ),
        *THEORY,
    ),
    readable=lambda model: (),
    find_model=find_model,
    settings_problem=settings_problem,
    describe=describe,
    rerun=rerun,
)  # fmt: skip


def experiment_of(part: Part) -> str:
    """What --model of experiment.py calls the experiment of this part."""
    return next(model for model, file in MODELS.items() if file == part.file)
