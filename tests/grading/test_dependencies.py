"""The check that main.py and grader.py begin with: which Python, and which packages."""

import ast
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from src.files import ROOT
from src.grading import dependencies

OLD = ("3.6", "3.7", "3.8", "3.9", "3.10")
STARTS_WITH_THE_CHECK = ("main.py", "grader.py")
DEPENDENCIES = Path(dependencies.__file__)


def python(version: str) -> str:
    """An interpreter of this version: pyenv's, or the one on the PATH."""
    candidates = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for candidate in [*map(str, candidates), shutil.which(f"python{version}")]:
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.skip(f"Python {version} is not installed")


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def too_old(version: str) -> str:
    return (
        f"error: Python {version} is too old for this homework; install Python 3.11 to 3.14 (python.org/downloads), "
        "then run make run again, or make run PYTHON=python3.14\n"
    )


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder with dependencies.py alone, so that its requirements.txt can say anything."""
    (tmp_path / "src" / "grading").mkdir(parents=True)
    shutil.copy(DEPENDENCIES, tmp_path / "src" / "grading")
    return tmp_path


@pytest.fixture
def asks_for(tmp_path, monkeypatch):
    """Let requirements.txt have these lines."""

    def write(*lines: str) -> None:
        (tmp_path / "requirements.txt").write_text("\n".join(lines))
        monkeypatch.setattr(dependencies, "REQUIREMENTS", tmp_path / "requirements.txt")

    return write


@pytest.mark.parametrize("version", OLD)
@pytest.mark.parametrize("script", STARTS_WITH_THE_CHECK)
def test_an_old_python_gets_one_line(script, version):
    process = run(python(version), "-B", script)
    assert (process.stderr, process.stdout, process.returncode) == (too_old(version), "", 1)


@pytest.mark.parametrize("path", [DEPENDENCIES, *(ROOT / name for name in STARTS_WITH_THE_CHECK)], ids=lambda p: p.name)
def test_python_3_6_can_parse_it(path):
    """The same as above as far as a newer Python can tell, for machines without old ones."""
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize("name", STARTS_WITH_THE_CHECK)
def test_the_check_comes_before_all_other_imports(name):
    statements = ast.parse((ROOT / name).read_text(encoding="utf-8")).body
    first = [ast.unparse(statement) for statement in statements[1:3]]  # after the docstring
    assert first == ["from src.grading import dependencies", "dependencies.check()"]


def test_it_imports_the_standard_library_alone():
    names = re.findall(r"^\s*(?:import|from) (\w+)", DEPENDENCIES.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(names) <= sys.stdlib_module_names


def test_missing_packages_are_named_in_one_line(project):
    (project / "requirements.txt").write_text("# comment\nnot-to-be-had==1.0\npyyaml==0.1\nnor-this==2.0\n")
    process = run(sys.executable, "-c", "from src.grading.dependencies import check; check()", cwd=project)
    assert process.stderr == (
        f"error: not-to-be-had, nor-this missing in {sys.executable}; run `make run`, then use .venv/bin/python; "
        "or pip install -r requirements.txt\n"
    )
    assert process.returncode == 1


def make_environment(project: Path, python: Path) -> None:
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").symlink_to(python)
    (project / "requirements.txt").write_text("not-to-be-had==1.0\n")


def test_another_python_than_that_of_the_environment(project):
    make_environment(project, Path(sys.executable))
    process = run(sys.executable, "-c", "from src.grading.dependencies import check; check()", cwd=project)
    says = f"error: not-to-be-had missing in {sys.executable}; use .venv/bin/python, or activate .venv first\n"
    assert process.stderr == says


def test_an_environment_whose_python_is_gone(project):
    make_environment(project, Path("/nonexistent/python3"))
    process = run(sys.executable, "-c", "from src.grading.dependencies import check; check()", cwd=project)
    assert "the Python that made .venv is gone: delete .venv and run `make run`" in process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_a_python_that_is_too_new_for_the_packages(asks_for, monkeypatch):
    asks_for("not-to-be-had==1.0")
    monkeypatch.setattr(dependencies, "NEWEST", (3, 10))
    for refuses in (dependencies.check, dependencies.interpreter):
        with pytest.raises(
            SystemExit, match=r"^error: Python 3\.\d+ is too new for this homework \(its packages have no"
        ):
            refuses()


def test_a_newer_python_with_all_packages_is_used(asks_for, monkeypatch, capsys):
    asks_for("pytest==0.1")
    monkeypatch.setattr(dependencies, "NEWEST", (3, 10))
    dependencies.check()
    assert re.fullmatch(r"note: the homework was tested with .* to 3\.10, not with 3\.\d+\n", capsys.readouterr().err)


def test_where_all_is_installed_the_check_loads_nothing_slow():
    code = "import sys; from src.grading.dependencies import check; check(); sys.exit('email' in sys.modules)"
    assert run(sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path}; {code}").returncode == 0


def test_packages_of_another_version_pass_the_check(asks_for):
    asks_for("pytest==0.1")
    dependencies.check()


def test_differing_says_what_is_missing_or_of_another_version(asks_for):
    here = metadata.version("pytest")
    asks_for("pytest==0.1", f"hypothesis=={metadata.version('hypothesis')}", "not-to-be-had==1.0")
    assert dependencies.differing() == [f"pytest {here} instead of 0.1", "no not-to-be-had"]


def test_a_build_of_the_same_version_does_not_differ(asks_for, monkeypatch):
    asks_for("torch==2.13.0")
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0+cpu")
    assert dependencies.differing() == []


def test_without_requirements_nothing_is_required(monkeypatch, tmp_path):
    monkeypatch.setattr(dependencies, "REQUIREMENTS", tmp_path / "requirements.txt")
    assert dependencies.required() == {}


def test_importing_it_neither_checks_nor_exits(project):
    (project / "requirements.txt").write_text("not-to-be-had==1.0\n")
    assert run(sys.executable, "-c", "import src.grading.dependencies", cwd=project).returncode == 0


def test_an_environment_and_its_base_are_one_interpreter():
    base = Path(sys.base_prefix) / ("python.exe" if sys.platform == "win32" else "bin/python3")
    process = run(base, "-c", "from src.grading.dependencies import interpreter; print(interpreter())")
    assert process.stdout.strip() == dependencies.interpreter()


def test_another_installation_is_another_interpreter(monkeypatch):
    here = dependencies.interpreter()
    monkeypatch.setattr(sys, "base_prefix", "/opt/another")
    assert dependencies.interpreter() != here
