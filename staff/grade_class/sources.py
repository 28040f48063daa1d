"""What the result of a part depends on: a hash of the grader, the tests of that part, the model and the data.

The tests of a part are a few classes. Counted are the text of each class, what its module has outside of classes, and,
followed through all imports, the modules of this project that these use. So a change of one part's test changes the
hash of that part alone, and a change of the sandbox that of all.
"""

import ast
import functools
import hashlib
import importlib.metadata
import inspect
import platform
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from src.files import ROOT
from src.grading.homework import Homework
from src.grading.part_test import PartTest
from src.grading.results import SUBMIT, test_classes

_PACKAGES = ("torch", "numpy", "tiktoken")
_ASKS = re.compile(r"\.reasons_of\(")


def part_hashes(homework: Homework, model: str) -> dict[str, str]:
    """Part that is graded → the hash of all that its results depend on, but for the submission and the seed."""
    shared = _shared_hash(homework, model)
    classes: dict[str, list[type[PartTest]]] = {}
    for cls in test_classes(homework):
        if cls.part not in (*homework.numbers, SUBMIT):
            continue  # an optional part, which counts for nothing
        classes.setdefault(cls.part, []).append(cls)
    own = {part: sorted({text for cls in of_part for text in _texts_of(cls)}) for part, of_part in classes.items()}
    found = {}
    for part in classes:
        asks = any(_ASKS.search(text) for text in own[part])  # what the parts lost whose functions it runs, too
        needed = homework.part(part).needs if asks and part in homework.numbers else ()
        texts = [text for each in (part, *needed) for text in own.get(each, ())]
        found[part] = _hash([shared, *texts])
    return found


def base_hash(homework: Homework, model: str) -> str:
    """The hash of what all parts share."""
    return _shared_hash(homework, model)


def versions() -> dict[str, str]:
    """The packages on whose version a result may depend, and that version."""
    return {package: importlib.metadata.version(package) for package in _PACKAGES}


def _shared_hash(homework: Homework, model: str) -> str:
    """The grading core, the homework's worker, the model, the data, and the versions of what computes."""
    name = homework.package.rpartition(".")[2]
    roots = (
        "src.grading.command",
        f"{homework.package}.worker",
        f"{homework.package}.parts",
        "staff.grade_class.worker",
    )
    files = [_file(module) for module in _closure(roots)]
    folders = (homework.home / "data", *map(ROOT.joinpath, homework.readable(model)), ROOT / "staff" / name / "labels")
    files += [
        path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix != ".pyc" and path.is_file()
    ]
    packages = [f"{package} {version}" for package, version in versions().items()]
    python = platform.python_version()
    return _hash([python, *packages, *(f"{path.relative_to(ROOT)} {_file_hash(path)}" for path in files)])


def _texts_of(cls: type[PartTest]) -> Iterator[str]:
    """The text of a class, and of all modules that it uses."""
    module = inspect.getmodule(cls)
    assert module is not None
    tree = ast.parse(inspect.getsource(module))
    used: list[ast.AST] = [
        node for node in tree.body if not isinstance(node, (ast.ClassDef, ast.Import, ast.ImportFrom))
    ]
    used += [node for node in tree.body if isinstance(node, ast.ClassDef) and not _is_test(module, node.name)]
    used += [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    names = {node.id for each in used for node in ast.walk(each) if isinstance(node, ast.Name)}
    yield from (ast.unparse(node) for node in used)
    imported = [module for bound, module in _imports(tree.body) if bound in names]
    yield from (_file(name).read_text(encoding="utf-8") for name in _closure(imported))


def _is_test(module: object, name: str) -> bool:
    value = getattr(module, name, None)
    return inspect.isclass(value) and issubclass(value, PartTest) and bool(getattr(value, "part", ""))


def _closure(modules: Iterable[str]) -> list[str]:
    """These modules of the project, and all that they import, however deep; of a package, all of its modules."""
    found: set[str] = set()
    waiting = [module for name in modules if (module := _module(name))]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            file = _file(module)
            waiting += [name for _, name in _imports(ast.walk(ast.parse(file.read_bytes())))]
            if file.stem == "__init__":
                waiting += [f"{module}.{path.stem}" for path in file.parent.glob("*.py") if path != file]
    return sorted(found)


def _imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """The name that each import among `nodes` binds, and the module of this project that it comes from."""
    for node in nodes:
        if isinstance(node, ast.Import):
            pairs = [(alias.asname or alias.name.partition(".")[0], alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            pairs = [(alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names]
        else:
            continue
        yield from ((bound, module) for bound, name in pairs if (module := _module(name)))


@functools.cache
def _module(name: str) -> str | None:
    """The module of this project that `name` is, or is in; None for what does not belong to it."""
    while name.partition(".")[0] in ("src", "staff"):
        if _file(name).is_file():
            return name
        name = name.rpartition(".")[0]
    return None


def _file(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _hash(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


@functools.cache
def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
