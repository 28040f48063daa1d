"""Debuggers and print() in student code: with `grader.py --debug`, and without it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from src.files import ROOT
from src.grading.debug import NOTICE
from src.hw1.parts import HOMEWORK
from tests.answers import SOLUTION, graded, varied

LAUNCH = json.loads((ROOT / ".vscode" / "launch.json").read_text(encoding="utf-8"))
WRONG = (".sum().item()", ".mean().item()")


def debugged(*arguments, stdin: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "grader.py", "--debug", "--seed", "5", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def answer_with(folder: Path, line: str) -> Path:
    """The reference answers with `line` in `log_likelihood`, where `text` and `logits` are known."""
    old = "        log_probs = "
    return varied(folder, "likelihood.py", (old, f"        {line}\n{old}"))


# --- with --debug ---


def test_a_breakpoint_stops_in_ones_own_file(tmp_path):
    """Not in a copy; and nothing but the debugger writes to the terminal."""
    old = "            next_token = "
    folder = varied(tmp_path / "questions", "sample.py", (old, f"            breakpoint()\n{old}"))
    process = debugged("sample.py", "--submission", folder, stdin="p logits.shape\nq\n")
    assert NOTICE in process.stdout
    assert re.search(rf"> {re.escape(str(folder))}/sample\.py\(\d+\)sample\(\)\n", process.stdout)
    assert re.search(r"^\(Pdb\) torch\.Size\(\[\d+, \d+\]\)$", process.stdout, re.M)
    assert process.stderr.strip() == "stopped in the debugger"
    assert process.returncode == 130


def test_debug_says_what_the_sandbox_says_and_hides_hidden_tests(tmp_path):
    folder = varied(tmp_path / "questions", "likelihood.py", WRONG)
    process = debugged("6.4", "6.6", "--submission", folder)
    assert process.returncode == 1
    assert re.findall(r"^\d\.\d\.\d", process.stdout, re.M) == ["6.4.1", "6.4.2", "6.6.1", "6.6.2"]
    assert "debug: 3 of 4 tests pass" in process.stdout
    (wrong, *_) = graded(folder, tmp_path / "results.json", "6.4", seed=5)["tests"]
    assert "hint: this is the mean" in wrong["output"]
    for line in wrong["output"].splitlines():
        assert line in process.stdout


def test_debug_refuses_imports_of_the_grader_as_grading_does(tmp_path):
    process = debugged("6.4", "--submission", answer_with(tmp_path / "questions", "import src.hw1.oracle"))
    assert "the grader's code cannot be imported by your answers" in process.stdout


def test_debug_passes_for_the_reference_answers():
    process = debugged("--submission", SOLUTION)
    assert process.returncode == 0, process.stdout
    assert "9 of 9 tests pass" in process.stdout


def test_debug_shows_the_frames_that_the_students_code_called(tmp_path):
    process = debugged("6.4", "--submission", answer_with(tmp_path / "questions", "model(text.repeat(1, 999))"))
    assert "likelihood.py" in process.stdout
    assert "in forward" in process.stdout
    assert "part_test.py" not in process.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--submission", "my.zip"), "--debug --submission my.zip: name a folder of your own code"),
        (("--json", "results.json"), "--debug gives no points and has no time limit; leave --json"),
        (("nothing.py",), "there is no part nothing.py; known are 6.3, 6.4, 6.5, 6.6, 6.7, and sample.py, "),
    ],
)
def test_what_cannot_be_debugged_is_one_line(arguments, says):
    process = debugged(*arguments)
    assert process.returncode != 0
    assert says in process.stderr
    assert "Traceback" not in process.stderr


# --- without it ---


@pytest.mark.parametrize(
    ("line", "name"),
    [("breakpoint()", "breakpoint()"), ("import pdb; pdb.set_trace()", "breakpoint()"), ("input('go?')", "input()")],
)
def test_what_needs_a_terminal_names_debug(line, name, tmp_path):
    folder = answer_with(tmp_path / "questions", line)
    (first, *_) = graded(folder, tmp_path / "results.json", "6.4")["tests"]
    says = f"got: {name} does not work in the grader's sandbox; run: python grader.py --debug 6.4"
    assert first["output"].split("\nyour code printed:")[0] == says


def test_what_a_visible_test_printed_is_shown_if_it_fails(tmp_path):
    folder = varied(tmp_path / "questions", "likelihood.py", WRONG)
    path = folder / "likelihood.py"
    source = path.read_text().replace(
        "        log_probs =", "        print('seen', tuple(logits.shape))\n        log_probs ="
    )
    path.write_text(source)
    results = graded(folder, tmp_path / "results.json", "6.4")
    wrong, right, *hidden = results["tests"]
    assert "\nyour code printed:\n  seen (1, 4, 12)\n  seen (1, 9, 12)" in wrong["output"]
    assert "output" not in right
    assert not any("seen" in test["output"] for test in hidden)
    assert "seen" not in results["stdout"].split("6.4.3")[1]


def test_what_is_shown_of_what_was_printed_is_bounded(tmp_path):
    folder = answer_with(tmp_path / "questions", "[print(n, 'x' * 150) for n in range(10_000)]; 1 / 0")
    (first, *_) = graded(folder, tmp_path / "results.json", "6.4")["tests"]
    printed = first["output"].split("your code printed:")[1]
    assert 1000 < len(printed) < 2200
    assert printed.endswith("… (and more)")


def test_a_breakpoint_works_in_main(tmp_path):
    folder = answer_with(tmp_path / "questions", "breakpoint()")
    command = [sys.executable, ROOT / "main.py", "--model", "bundled", "--question", "6.4", "--questions", folder]
    process = subprocess.run(
        [*command, "--out", tmp_path / "submit"],
        input="p logits.dim()\nq\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"> {folder}/likelihood.py(" in process.stdout
    assert "(Pdb) 3\n" in process.stdout


# --- VS Code ---


def test_the_starters_vs_code_configurations_are_accepted():
    """Each names a program that is there, and arguments that it takes."""
    programs = {}
    for configuration in LAUNCH["configurations"]:
        program = configuration["program"].removeprefix("${workspaceFolder}/")
        assert (ROOT / program).is_file()
        assert configuration["console"] == "integratedTerminal"
        programs[configuration["name"]] = [program, *configuration["args"]]
    assert [program for program, *_ in programs.values()] == ["main.py", "grader.py", "grader.py"]
    for program, *arguments in programs.values():
        for file in HOMEWORK.question_files:
            filled = [argument.replace("${fileBasename}", file) for argument in arguments]
            process = subprocess.run(
                [sys.executable, ROOT / program, *filled, "--help"], capture_output=True, text=True
            )
            assert process.returncode == 0
            assert all(HOMEWORK.numbers_of(part) for part in filled if program == "grader.py" and part[0] != "-")
            assert all(option in process.stdout for option in filled if option.startswith("--"))
