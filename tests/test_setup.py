"""What holds the set-up together: one list of dependencies, one place for each thing, a tidy tree."""

import re
import subprocess
import sys

import pytest
import yaml
from conftest import SHARED

from src.checkpoint import load, locate
from src.config import ROOT, model_config

REQUIREMENTS = dict(
    re.fullmatch(r"([\w.-]+)==(\S+)", line).groups()
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


@pytest.mark.parametrize(
    ("file", "build"), [("environment.yml", "pytorch-cpu"), ("environment_cuda.yml", "pytorch-gpu")]
)
def test_conda_takes_pytorch_from_conda_forge_and_the_rest_from_the_one_list(file, build):
    environment = yaml.safe_load((ROOT / file).read_text())
    assert environment["channels"] == ["conda-forge"]
    *conda, last = environment["dependencies"]
    assert conda == ["python=3.11", "pip", f"{build}={REQUIREMENTS['torch']}"]
    assert last == {"pip": ["-r requirements.txt"]}


def test_what_src_and_the_scripts_import_is_in_the_list():
    distribution = {"yaml": "pyyaml", "gradescope_utils": "gradescope-utils"}
    imported = set()
    for path in [*ROOT.glob("*.py"), *ROOT.glob("src/**/*.py"), *ROOT.glob("staff/solution/*.py")]:
        imported |= set(re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(encoding="utf-8"), re.M))
    outside = imported - set(sys.stdlib_module_names) - {"src", "questions", "staff"}
    assert {distribution.get(name, name) for name in outside} == set(REQUIREMENTS)


def test_the_rooms_import_only_what_they_may():
    def imports(path):
        return set(re.findall(r"^\s*(?:import|from) ([\w.]+)", path.read_text(encoding="utf-8"), re.M))

    for path in (ROOT / "src").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"questions", "main", "grader", "staff"}, path
    own = {name for name in imports(ROOT / "src" / "gpt2.py") if name.split(".")[0] not in sys.stdlib_module_names}
    assert own == {"torch", "torch.nn.functional", "src.config"}


def test_the_code_is_as_ruff_wants_it():
    for command in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        process = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True
        )
        assert process.returncode == 0, process.stdout


def test_the_bundled_models_held_out_losses_are_those_on_its_card():
    from staff.train_mini import nats_per_character, read_corpus

    files = {"abstracts": SHARED / "corpora" / "abstracts.jsonl.gz", "plays": SHARED / "corpora" / "shakespeare.txt"}
    if not all(path.exists() for path in files.values()):
        pytest.skip(f"the corpora are not here: {SHARED / 'corpora'} is missing")
    config = model_config("gpt2-mini")
    model, codec = load(config, locate(config))
    card = (ROOT / "checkpoints" / "gpt2-mini" / "README.md").read_text(encoding="utf-8")
    for name, path in files.items():
        stated = float(re.search(rf"\| {name} \|.*\| ([\d.]+) \|$", card, re.M).group(1))
        held_out = read_corpus(path).held_out[::4]  # a quarter is enough to see that the card speaks of these weights
        assert nats_per_character(model, codec, held_out, config.n_ctx) == pytest.approx(stated, abs=0.05)
