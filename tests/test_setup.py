"""The set-up: one list of dependencies, which everything else agrees with, and a Makefile that installs them."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import SHARED

from src.files import ROOT
from src.grading import dependencies
from src.model.checkpoint import load, locate
from src.model.config import BUNDLED, model_config
from staff import requirements

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = dict(line.split("==") for line in PYPROJECT["project"]["dependencies"])
SUPPORTED = [f"3.{minor}" for minor in range(11, 15)]


# --- versions ---


def test_requirements_txt_is_generated_from_pyproject():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert text == requirements.requirements_text(), "requirements.txt is stale; run: make tables"


def test_requirements_txt_is_read_as_pyproject_says():
    assert dependencies.required() == PINS


def test_writing_requirements_txt_writes_its_text(tmp_path, monkeypatch):
    monkeypatch.setattr(requirements, "REQUIREMENTS", tmp_path / "requirements.txt")
    requirements.write()
    assert (tmp_path / "requirements.txt").read_text(encoding="utf-8") == requirements.requirements_text()


def test_every_development_dependency_is_pinned():
    groups = [line for group in PYPROJECT["dependency-groups"].values() for line in group]
    assert [line for line in groups if isinstance(line, str) and "==" not in line] == []


@pytest.mark.parametrize(
    ("file", "build"), [("environment.yml", "pytorch-cpu"), ("environment_cuda.yml", "pytorch-gpu")]
)
def test_conda_takes_pytorch_from_conda_forge_the_rest_from_pip(file, build):
    environment = yaml.safe_load((ROOT / file).read_text())
    assert environment["channels"] == ["conda-forge"]
    python, *conda, last = environment["dependencies"]
    assert python.removeprefix("python=") in SUPPORTED
    assert conda == ["pip", f"{build}={PINS['torch']}"]
    assert last == {"pip": ["-r requirements.txt"]}


def test_what_src_and_the_scripts_import_is_in_the_list():
    distribution = {"yaml": "pyyaml", "gradescope_utils": "gradescope-utils"}
    play = {line.partition("==")[0] for line in PYPROJECT["dependency-groups"]["play"]}
    imported = set()
    for path in [*ROOT.glob("*.py"), *ROOT.glob("src/**/*.py"), *ROOT.glob("staff/*/solution/*.py")]:
        imported |= set(re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(encoding="utf-8"), re.M))
    own = {"src", "questions", "staff", "_typeshed"}  # the last for mypy alone
    outside = imported - set(sys.stdlib_module_names) - own - {"gguf"}  # which homework 10's README has one install
    assert {distribution.get(name, name) for name in outside} == set(PINS) | play


def test_only_the_playground_needs_its_group():
    play = {line.partition("==")[0] for line in PYPROJECT["dependency-groups"]["play"]}
    for path in [*ROOT.glob("*.py"), *ROOT.glob("src/**/*.py")]:
        if "playground" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert not play & set(re.findall(r"^\s*(?:import|from) (\w+)", text, re.M)), path


def test_the_supported_pythons_are_the_same_everywhere():
    classifiers = [c.rpartition(" ")[2] for c in PYPROJECT["project"]["classifiers"] if "Python :: 3." in c]
    setup = (ROOT / "staff" / "gradescope" / "setup.sh").read_text(encoding="utf-8")
    assert PYPROJECT["project"]["requires-python"] == ">=3.11,<3.15"
    assert (dependencies.OLDEST, dependencies.NEWEST) == ((3, 11), (3, 14))
    assert classifiers == SUPPORTED
    assert set(re.findall(r"python(3\.\d+)", setup)) == set(SUPPORTED)
    assert "(3, 11) <= sys.version_info < (3, 15)" in setup


# --- the Makefile ---

# Answers as a Python does to the Makefile, and notes in `log` what it was asked to do.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    -c*) echo python-3.12-NAME; exit ;;
    *"-m venv"*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo NAME venv >> log ;;
    *"pip install"*"requirements.txt") echo NAME install >> log; test ! -e offline ;;
    *"--group play") echo NAME play >> log ;;
    *main.py*) echo NAME main.py >> log ;;
    *"-m src.playground --questions"*) echo NAME playground >> log ;;
esac
"""


class Checkout:
    """A folder with the Makefile and fake Pythons."""

    def __init__(self, folder: Path):
        self.folder = folder
        shutil.copy(ROOT / "Makefile", folder)
        (folder / "requirements.txt").write_text("")

    def python(self, name: str, text: str = FAKE_PYTHON) -> str:
        path = self.folder / name
        path.write_text(text.replace("NAME", name))
        path.chmod(0o755)
        return f"./{name}"

    def make(self, *arguments: str) -> subprocess.CompletedProcess:
        ours = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
        ours["LC_ALL"] = "C"  # its messages are read
        return subprocess.run(
            ["make", *arguments], cwd=self.folder, env=ours, capture_output=True, text=True, check=False
        )

    def log(self) -> list[str]:
        """What was done since the last call."""
        path = self.folder / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return Checkout(tmp_path)


def test_make_run_installs_once(checkout):
    python = f"PYTHON={checkout.python('a')}"
    checkout.make(python)
    assert checkout.log() == ["a venv", "a install", "a main.py"]
    checkout.make(python)
    assert checkout.log() == ["a main.py"]


def test_make_play_installs_its_group_once(checkout):
    (checkout.folder / "pyproject.toml").write_text("")
    python = f"PYTHON={checkout.python('a')}"
    checkout.make("play", python)
    assert checkout.log() == ["a venv", "a install", "a play", "a playground"]
    checkout.make("play", python)
    assert checkout.log() == ["a playground"]


def test_make_takes_another_homework_by_its_name(checkout):
    home = checkout.folder / "homework" / "hw10"
    home.mkdir(parents=True)
    (home / "experiment.py").touch()
    commands = checkout.make("-n", "run", "grade", "HOMEWORK=hw10", f"PYTHON={checkout.python('a')}").stdout
    assert ".venv/bin/python homework/hw10/experiment.py --questions staff/hw10/solution\n" in commands
    assert ".venv/bin/python homework/hw10/grader.py\n" in commands


def test_make_in_its_starter_runs_its_program(checkout):
    makefile = checkout.folder / "Makefile"
    makefile.write_text(re.sub(r"# <!-- staff -->.*?# <!-- /staff -->\n", "", makefile.read_text(), flags=re.DOTALL))
    (checkout.folder / "experiment.py").touch()
    commands = checkout.make("-n", "run", "grade", f"PYTHON={checkout.python('a')}").stdout
    assert ".venv/bin/python experiment.py --questions questions\n" in commands
    assert ".venv/bin/python grader.py\n" in commands


def test_another_python_makes_the_environment_anew(checkout):
    checkout.make("run", f"PYTHON={checkout.python('a')}")
    checkout.log()
    checkout.make("run", f"PYTHON={checkout.python('b')}")
    assert checkout.log() == ["b venv", "b install", "b main.py"]


def test_an_installation_that_failed_is_repeated(checkout):
    python = f"PYTHON={checkout.python('a')}"
    (checkout.folder / "offline").touch()
    assert checkout.make("run", python).returncode != 0
    (checkout.folder / "offline").unlink()
    assert checkout.log() == ["a venv", "a install"]
    checkout.make("run", python)
    assert checkout.log() == ["a install", "a main.py"]


def test_changed_requirements_are_installed(checkout):
    python = f"PYTHON={checkout.python('a')}"
    checkout.make("run", python)
    checkout.log()
    made = (checkout.folder / ".venv" / ".run-ready").stat().st_mtime
    os.utime(checkout.folder / "requirements.txt", (made + 10, made + 10))
    checkout.make("run", python)
    assert checkout.log() == ["a install", "a main.py"]


def test_make_refuses_an_old_python_in_one_line(checkout):
    python = checkout.python("old", "#!/bin/sh\necho 'error: Python 3.10 is too old' >&2; exit 1\n")
    process = checkout.make("run", f"PYTHON={python}")
    assert re.fullmatch(r"Makefile:\d+: \*\*\* Python 3\.10 is too old\.  Stop\.\n", process.stderr)
    assert checkout.log() == []


def test_make_refuses_a_missing_python_in_one_line(checkout):
    process = checkout.make("run", "PYTHON=./no-such-python")
    says = r"Makefile:\d+: \*\*\* \./no-such-python does not work \(.*\); install Python 3\.11 to 3\.14 .*\n"
    assert re.fullmatch(says, process.stderr)


@pytest.mark.parametrize("target", ["help", "clean"])
def test_help_and_clean_need_no_python(checkout, target):
    assert checkout.make(target, "PYTHON=./no-such-python").returncode == 0


def test_make_help_lists_every_target(checkout):
    declared = re.findall(r"^\.PHONY: (.*)$", (checkout.folder / "Makefile").read_text(), re.M)
    described = re.findall(r"^make ([\w-]+)", checkout.make("help").stdout, re.M)
    assert sorted(described) == sorted(" ".join(declared).split())


def test_the_starters_makefile_has_no_target_for_staff(checkout):
    makefile = checkout.folder / "Makefile"
    makefile.write_text(re.sub(r"# <!-- staff -->.*?# <!-- /staff -->\n", "", makefile.read_text(), flags=re.DOTALL))
    targets = re.findall(r"^([a-z][\w-]*):", makefile.read_text(), re.M)
    assert targets == ["run", "grade", "play", "clean", "help"]
    process = checkout.make("test", f"PYTHON={checkout.python('a')}")
    assert "No rule to make target 'test'" in process.stderr.replace("`", "'")


# --- the bundled model ---


def test_the_bundled_models_losses_are_those_on_its_card():
    from staff.train_mini import nats_per_character, read_corpus

    files = {"abstracts": SHARED / "corpora" / "abstracts.jsonl.gz", "plays": SHARED / "corpora" / "shakespeare.txt"}
    if not all(path.exists() for path in files.values()):
        pytest.skip(f"the corpora are not here: {SHARED / 'corpora'} is missing")
    config = model_config(BUNDLED)
    model, codec = load(config, locate(config))
    card = (ROOT / "checkpoints" / BUNDLED / "README.md").read_text(encoding="utf-8")
    for name, path in files.items():
        stated = float(re.search(rf"\| {name} \|.*\| ([\d.]+) \|$", card, re.M).group(1))
        held_out = read_corpus(path).held_out[::4]  # a quarter is enough to see that the card speaks of these weights
        assert nats_per_character(model, codec, held_out, config.n_ctx) == pytest.approx(stated, abs=0.05)
