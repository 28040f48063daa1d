"""docs/ARCHITECTURE.md holds: who imports whom, where exceptions live, how long functions and files may be."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from src import errors
from src.files import ROOT
from staff.declaration import known_homeworks, load_homework

# "*": also where the checkout belongs to another user, as in some containers.
GIT = ["git", "-c", "safe.directory=*", "ls-files", "*.py"]
TRACKED = subprocess.run(GIT, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
VISIBLE = [name for path in ROOT.rglob("*.py") if (name := path.relative_to(ROOT).as_posix())[0] != "."]
FILES = [name for name in TRACKED or sorted(VISIBLE) if (ROOT / name).exists()]
HOMEWORKS = [load_homework(name) for name in known_homeworks()]
SOURCES = [name for name in FILES if name.startswith("src/")]


def tree_of(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


def imports(name: str) -> Iterator[str]:
    """The modules of this project that the file imports, as "src.model.config"."""
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (m for m in modules if m.split(".")[0] in ("src", "staff", "tests", "questions", "main", "grader"))


def table() -> list[tuple[str, list[str]]]:
    """Room → the rooms that it may import, from the table in ARCHITECTURE.md; the first room that fits counts."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\S+)` \| (.+?) \|$", text.split("<!-- imports -->")[1].split("<!-- /imports -->")[0], re.M
    )
    return [(room, re.findall(r"`(\S+?)`", allowed)) for room, allowed in rows]


def room_of(name: str, rooms: list[str]) -> str:
    fitting = [room for room in rooms if name == room or name.startswith(room.rstrip("/") + "/")]
    return max(fitting, key=len, default="")


@pytest.mark.parametrize("name", [n for n in FILES if not n.startswith("tests/")])
def test_a_room_imports_only_what_the_table_allows(name):
    rules = dict(table())
    room = room_of(name, list(rules))
    assert room, f"{name} lies in no room of docs/ARCHITECTURE.md"
    for module in imports(name):
        path = module.replace(".", "/")
        allowed = [room, *rules[room]]
        fits = any(path.startswith(a.removesuffix(".py").rstrip("/")) for a in allowed)
        assert fits, f"{name} imports {module}; {room} may import {', '.join(rules[room]) or 'nothing'}"


def test_the_core_names_no_homework():
    """Nor a model or data set of one; what it ships besides Python counts, too."""
    for path in [*(ROOT / "src" / "grading").rglob("*.*"), *(ROOT / "src" / "model").glob("*.py")]:
        names = r"\bhw\d" if "model" in path.parts else r"hw\d|gpt-?2|mnist"
        if path.suffix != ".pyc":
            assert not re.search(names, path.read_text(encoding="utf-8"), re.I), path


def test_every_exception_of_src_is_in_the_tree():
    tree = errors.__doc__
    for name in SOURCES:
        for node in ast.walk(tree_of(name)):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            if any(base.endswith(("Error", "Exception", "Lost", "Failed")) for base in bases):
                assert name == "src/errors.py", f"{name}: {node.name} belongs into src/errors.py"
    for value in vars(errors).values():
        if isinstance(value, type) and value.__module__ == errors.__name__:
            assert issubclass(value, errors.CourseworkError)
            assert value.__name__ in tree


@pytest.mark.parametrize("name", FILES)
def test_functions_and_files_are_short(name):
    most = 40 if name.startswith("src/") else 60
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < most, f"{name}: {node.name} has over {most} lines"
    assert (ROOT / name).read_text(encoding="utf-8").count("\n") <= 400, f"{name} has over 400 lines"


def test_names_of_tests_are_short():
    for name in FILES:
        for node in ast.walk(tree_of(name)) if name.startswith("tests/") else ():
            if isinstance(node, ast.FunctionDef):
                assert len(node.name) <= 60, f"{name}: {node.name}"


def test_the_model_is_on_page_one():
    text = (ROOT / "src" / "model" / "gpt2.py").read_text(encoding="utf-8")
    assert text.count("\n") < 200
    first = next(node for node in tree_of("src/model/gpt2.py").body if isinstance(node, ast.ClassDef))
    assert first.name == "GPT2"


def test_part_numbers_stand_only_where_they_are_declared():
    """In the declaration, at the tests, in stubs and answers, and in the audit's cases."""
    declared = {number for homework in HOMEWORKS for number in homework.all_numbers}
    numbers = "|".join(re.escape(number) for number in declared if len(number) > 1)  # "1" is any number
    places = (
        r"(tests|questions|homework/hw\d+/questions)/.*|src/hw\d+/(parts\.py|checks/\w+\.py)"
        r"|staff/hw\d+/((hidden_tests|probes|audit_facts)\.py|solution/\w+\.py)"
    )
    for name in FILES:
        if re.fullmatch(places, name):
            continue
        assert not re.search(f'"({numbers})"', (ROOT / name).read_text(encoding="utf-8")), f"{name} names a part"


@pytest.mark.parametrize("homework", HOMEWORKS, ids=lambda homework: homework.name)
def test_what_a_readme_links_to_exists(homework):
    readme = homework.home / "README.md"
    for path in re.findall(r"\]\(([^):#]+)\)", readme.read_text(encoding="utf-8")):
        assert (readme.parent / Path(path)).exists(), path
