"""A homework by its name, and whether all of its pieces are there: answers, tests and hints for each declared part."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

from src.errors import HomeworkError
from src.files import ROOT, shown
from src.grading.homework import Homework, Part
from src.grading.part_test import PartTest
from src.grading.results import test_classes
from staff.make_stubs import part_numbers


def known_homeworks() -> list[str]:
    """The names of all homeworks that are declared."""
    return sorted(path.parent.name for path in (ROOT / "src").glob("*/parts.py"))


def load_homework(name: str) -> Homework:
    """The homework called `name`, as declared in `src/NAME/parts.py`.

    Raises:
        HomeworkError: there is none.
    """
    known = known_homeworks()
    if name not in known:
        raise HomeworkError(f"--homework {name}: there is no such homework; known are {', '.join(known)}")
    homework = importlib.import_module(f"src.{name}.parts").HOMEWORK
    assert isinstance(homework, Homework)
    return homework


def solution_folder(homework: Homework) -> Path:
    """Where the reference answers are."""
    return ROOT / "staff" / homework.name / "solution"


def own_folder(homework: Homework, name: str) -> Path:
    """The project's folder `name`, for the homework at the project's top level; for another, one of its own in it."""
    return ROOT / name if homework.home == ROOT else ROOT / name / homework.name


def missing_answers(homework: Homework) -> list[str]:
    """Which reference answers do not fit the declaration, a line each that names the file."""
    found = list(_undeclared_blocks(homework))
    for number in homework.all_numbers:
        found += _missing_answer(homework, homework.part(number))
    return found


def missing_pieces(homework: Homework) -> list[str]:
    """What was forgotten, a line each that names the file; empty for a complete homework.

    Raises:
        HomeworkError: a test belongs to no part.
    """
    classes = test_classes(homework)
    found = missing_answers(homework)
    for number in homework.all_numbers:
        found += _missing_tests(homework, homework.part(number), [cls for cls in classes if cls.part == number])
    return found


def check_complete(homework: Homework) -> None:
    """Check that nothing was forgotten.

    Raises:
        HomeworkError: something was; names each piece.
    """
    if found := missing_pieces(homework):
        raise HomeworkError("\n".join(found))


def _undeclared_blocks(homework: Homework) -> Iterator[str]:
    for path in sorted(solution_folder(homework).glob("*.py")):
        for number in part_numbers(path):
            if number not in homework.all_numbers:
                place = f"src/{homework.name}/parts.py"
                yield f"{shown(path)}: the block of {number} belongs to no part; declare it in {place}"


def _missing_answer(homework: Homework, part: Part) -> Iterator[str]:
    path = solution_folder(homework) / part.file
    if not path.exists():
        yield f"part {part.number}: {shown(path)} is missing; write the reference answer there"
    elif part.number not in part_numbers(path):
        yield f"part {part.number}: {shown(path)} has no block under `# TODO {part.number}`"
    elif part.function not in _functions(path):
        yield f"part {part.number}: {shown(path)} has no function {part.function}"


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_bytes())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def _missing_tests(homework: Homework, part: Part, classes: list[type[PartTest]]) -> Iterator[str]:
    checks, hidden = f"src/{homework.name}/checks", f"staff/{homework.name}/hidden_tests.py"
    visible = [cls for cls in classes if cls.__module__.startswith("src.")]
    if not visible:
        yield f'part {part.number}: has no visible test; add a class with `part = "{part.number}"` to {checks}/'
    elif not any(_imports_hints(homework, Path(inspect.getfile(cls))) for cls in visible):
        file = shown(Path(inspect.getfile(visible[0])))
        yield f"part {part.number}: {file} gives no hints; add the expected mistakes to src/{homework.name}/hints/"
    if len(visible) == len(classes) and not part.optional:
        yield f'part {part.number}: has no hidden test; add a class with `part = "{part.number}"` to {hidden}'


def _imports_hints(homework: Homework, path: Path) -> bool:
    imports = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.ImportFrom)]
    names = [f"{node.module}.{alias.name}" for node in imports for alias in node.names]
    return any(name.startswith(f"src.{homework.name}.hints") for name in names)
