"""The students' files are made from the reference answers, and need nothing of src/."""

import json
import subprocess
import sys

import pytest

from src.files import ROOT
from src.hw10.parts import HOMEWORK, MODELS, experiment_of
from staff.declaration import solution_folder
from staff.make_stubs import END, START, part_numbers, stubs

SOLUTION, QUESTIONS = solution_folder(HOMEWORK), HOMEWORK.home / "questions"
STUBS = stubs(SOLUTION)


@pytest.mark.parametrize("name", HOMEWORK.all_files)
def test_stubs_are_the_answers_without_their_blocks(name):
    assert (QUESTIONS / name).read_text(encoding="utf-8") == STUBS[name], "run: make stubs HOMEWORK=hw10"


def test_each_part_has_a_block_of_1_to_7_lines():
    for name in HOMEWORK.all_files:
        for block in (SOLUTION / name).read_text(encoding="utf-8").split(START)[1:]:
            assert 1 <= block.split(END)[0].strip().count("\n") + 1 <= 7, name
    parts = [number for name in HOMEWORK.all_files for number in part_numbers(SOLUTION / name)]
    assert tuple(sorted(parts)) == HOMEWORK.all_numbers


@pytest.mark.parametrize("name", HOMEWORK.question_files)
def test_the_button_of_an_editor_says_what_runs_the_file(name):
    model = next(experiment_of(part) for part in HOMEWORK.parts if part.file == name)
    process = subprocess.run([sys.executable, QUESTIONS / name], capture_output=True, text=True, check=False)
    assert process.stderr == f"experiment.py runs this file; try: python experiment.py --model {model}\n"


def test_questions_import_nothing_of_src():
    names = [name.removesuffix(".py") for name in HOMEWORK.all_files]
    imports = "; ".join(f"import questions.{name}" for name in names)
    code = f"{imports}; import sys; sys.exit(any(m.split('.')[0] in ('src', 'staff') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=HOMEWORK.home).returncode == 0


def test_the_program_finds_src_from_any_folder(tmp_path):
    for program in ("experiment.py", "grader.py"):
        command = [sys.executable, HOMEWORK.home / program, "--help"]
        process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
        assert str(ROOT) not in process.stdout


def test_vs_code_starts_programs_that_are_there():
    launch = json.loads((HOMEWORK.home / ".vscode" / "launch.json").read_text(encoding="utf-8"))
    programs = [each["program"].removeprefix("${workspaceFolder}/") for each in launch["configurations"]]
    assert all((HOMEWORK.home / name).exists() for name in programs)
    assert launch["inputs"][0]["options"] == list(MODELS)
