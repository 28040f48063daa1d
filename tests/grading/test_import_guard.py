"""Student code can import nothing of the grader."""

import builtins
import subprocess
import sys

import pytest

from src.errors import CallFailed
from src.files import ROOT
from src.grading.import_guard import forbid_in_student_code
from src.grading.sandbox import sandbox as sandbox_module
from src.grading.sandbox.sandbox import Sandbox
from src.hw1.parts import HOMEWORK
from src.model.config import BUNDLED

REFUSAL = "the grader's code cannot be imported by your answers"
STATEMENTS = (
    "import src.hw1.oracle",
    "import src.hw1.oracle as right",
    "from src.hw1 import oracle",
    "from src.hw1.oracle import log_likelihood",
    "from src import hw1",
    "from src.grading.sandbox import messages",
    "from src.grading import student_code",
    "import staff.release",
)
ALLOWED = (
    "import src.model.gpt2",
    "from src.model.codec import Codec",
    "from src.errors import UserError",
    "import math",
)


@pytest.fixture
def guarded(monkeypatch):
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)  # to be restored
    forbid_in_student_code(HOMEWORK.closed_packages)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_students_import_statement_is_refused(guarded, statement):
    with pytest.raises(ImportError, match=REFUSAL):
        exec(statement, {"__name__": "questions.likelihood"})


@pytest.mark.parametrize("statement", ALLOWED)
def test_a_student_may_import_the_model(guarded, statement):
    exec(statement, {"__name__": "questions.likelihood"})


@pytest.mark.parametrize("name", ["src.hw1.run", "questionsable", "__main__"])
def test_other_code_may_import_the_grader(guarded, name):
    exec(STATEMENTS[0], {"__name__": name})


def in_a_closed_process(code: str) -> None:
    """Run `code` in a process that has loaded the grader's code, and is closed to it since."""
    beginning = (
        "import src.hw1.worker, src.hw1.checks.base\n"
        "from src.grading import import_guard\n"
        f"import_guard.forbid_in_process({HOMEWORK.closed_packages})\n"
    )
    subprocess.run([sys.executable, "-c", beginning + code], cwd=ROOT, check=True)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_closed_process_imports_nothing_of_the_grader(statement):
    in_a_closed_process(
        f"try:\n    {statement}\nexcept ImportError as error:\n    assert {REFUSAL!r} in str(error) or 'hw1' in str(error)\n"
        "else:\n    raise SystemExit('imported')"
    )


def test_a_closed_process_imports_the_model():
    in_a_closed_process("\n".join(ALLOWED))


@pytest.mark.parametrize("forks", [True, False])
def test_a_worker_refuses_in_one_line(tmp_path, monkeypatch, forks):
    """Also where processes cannot fork, and call after call is answered by the same one."""
    if not forks:
        monkeypatch.setattr(sandbox_module, "can_limit", lambda: False)
    (tmp_path / "likelihood.py").write_text(
        "def log_likelihood(model, text):\n    return 1.0\n\n\n"
        "def imports(model, text):\n    from src.hw1.oracle import close\n"
    )
    with Sandbox(HOMEWORK, tmp_path, BUNDLED) as box:
        for _ in range(2):
            worker = box.start()
            with pytest.raises(CallFailed) as failed:
                worker.run("likelihood.py", "imports", None, None, seconds=60)
            assert failed.value.details.splitlines()[-1] == f"ImportError: src.hw1: {REFUSAL}"
            assert worker.run("likelihood.py", "log_likelihood", None, None, seconds=60).value == 1.0
            box.release(worker)
