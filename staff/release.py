"""Make what goes out: the students' starter and Gradescope's autograder, in dist/.

    python -m staff.release [--homework hw1]

It refuses when a piece of the homework is missing, a stub differs from its reference answer, a document is stale, the
reference answers lose a point, the stubs earn one, a function of the starter is an answer, or the starter holds a line
of the answers, of the hidden tests or of the labels, or a sentence, formula or number of the handout's key.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from src.errors import UserError
from src.files import ROOT, shown, write_file
from src.grading.homework import Homework
from src.model.config import BUNDLED
from staff.declaration import check_complete, load_homework, solution_folder
from staff.handout.passages import KEY_NOTE, Passages, secret_passages
from staff.handout.source import handout_files, read_source, written_folder
from staff.leaks import answers_in, probes_of
from staff.make_stubs import END, START, stubs
from staff.tables import stale_documents

AUTOGRADER_ZIP = "autograder.zip"
_CORE = ("src/__init__.py", "src/errors.py", "src/files.py", "src/grading", "src/model")
_PLAYGROUND = ("src.playground.numbers", "src.playground.mind", "src.playground.yours")  # what computes something
_FOR_STAFF = re.compile(r"(# )?<!-- staff -->.*?<!-- /staff -->\n?", re.DOTALL)
_MARKS = re.compile(r"^<!-- /?[\w-]+ -->\n|<!-- /?[\w-]+ -->", re.MULTILINE)  # of tables, which only staff write anew
_WITH_STAFF_PIECES = ("README.md", "Makefile", "pyproject.toml", "data/README.md")


class ReleaseError(UserError):
    """Why nothing was released."""


def starter_files(homework: Homework) -> tuple[str, ...]:
    """The files and folders of the repository that students get."""
    return (
        *_CORE, f"src/{homework.name}", "src/playground", "questions", "data", f"checkpoints/{BUNDLED}",
        "docs/temperature.png", "docs/playground.png",
        "docs/performance.md", "docs/speed.png", "docs/long-horizon.md", "docs/long_horizon.png", "main.py",
        "grader.py", "config.yml", "environment.yml", "environment_cuda.yml", "requirements.txt", "pyproject.toml",
        "make_submission.sh", "Makefile", "README.md", "LICENSE", ".gitignore", ".gitattributes", ".vscode/launch.json",
        *handout_files(homework),
    )  # fmt: skip


def autograder_files(homework: Homework) -> tuple[str, ...]:
    """The files and folders of the repository that Gradescope gets."""
    return (
        *_CORE, f"src/{homework.name}", "data", f"checkpoints/{BUNDLED}", "config.yml", "grader.py",
        "requirements.txt", "LICENSE", f"staff/{homework.name}/hidden_tests.py", f"staff/{homework.name}/labels",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homework", default="hw1", help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where it goes (%(default)s)")
    parser.add_argument("--cpu-index", default="", metavar="URL", help="PyTorch's package index of CPU builds")
    args = parser.parse_args()
    homework = load_homework(args.homework)
    check_complete(homework)
    check_current(homework)
    check_points(homework)
    check_answers(homework)
    release_starter(homework, args.out)
    release_autograder(homework, args.out, args.cpu_index)
    for name in (homework.starter_name, AUTOGRADER_ZIP):
        print(f"wrote {args.out / name} ({(args.out / name).stat().st_size / 1e6:.1f} MB)")
    if not args.cpu_index:
        print("note: without CPU_INDEX, Gradescope may install PyTorch for Nvidia cards (5 GB); see staff/README.md")


def check_current(homework: Homework) -> None:
    """Check that `questions/` and the documents are what `make stubs` and `make tables` write.

    Raises:
        ReleaseError: they are not.
    """
    for name, content in stubs(solution_folder(homework)).items():
        path = ROOT / "questions" / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            raise ReleaseError(f"questions/{name}: is not the stub of the reference answer; run: make stubs")
    if stale := stale_documents(homework):
        raise ReleaseError(f"{shown(stale[0])}: its tables are stale; run: make tables")


def check_points(homework: Homework) -> None:
    """Grade the reference answers and the stubs.

    Raises:
        ReleaseError: the reference answers lose a point, or the stubs earn one.
    """
    for folder, all_points in ((shown(solution_folder(homework)), True), ("questions", False)):
        with tempfile.TemporaryDirectory() as results:
            path = Path(results) / "results.json"
            command = [sys.executable, "grader.py", "--submission", folder, "--json", str(path)]
            print(f"grading {folder}")
            subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
            tests = json.loads(path.read_text(encoding="utf-8"))["tests"] if path.exists() else []
        if not any("visibility" in test for test in tests):
            raise ReleaseError(f"{folder}: could not be graded; run: python grader.py --submission {folder}")
        for test in tests:
            if test["score"] != (test["max_score"] if all_points else 0):
                scores = f"{test['score']:g} of {test['max_score']:g}"
                raise ReleaseError(f"{folder}: gets {scores} in {test['number']} {test['name']}")


def check_answers(homework: Homework) -> None:
    """Try each function that students get as an answer.

    Raises:
        ReleaseError: one of them is.
    """
    print(f"trying the functions of {homework.package} and of the playground as answers")
    probes = probes_of(homework)
    if found := [line for package in (homework.package, *_PLAYGROUND) for line in answers_in(package, probes)]:
        raise ReleaseError(f"{found[0]}, and students get it; compute the value in another way, or move it to staff/")


def release_starter(homework: Homework, out: Path) -> None:
    """Write the starter as a folder and as a zip to `out`.

    Raises:
        ReleaseError: it holds what students must not have.
    """
    starter = out / "starter"
    shutil.rmtree(starter, ignore_errors=True)
    copy_tree(starter_files(homework), starter)
    for name in _WITH_STAFF_PIECES:
        text = _FOR_STAFF.sub("", (starter / name).read_text(encoding="utf-8"))
        write_file(starter / name, (_MARKS.sub("", text) if name.endswith(".md") else text).encode())
    try:
        check_leaks(homework, starter)
    except ReleaseError:
        shutil.rmtree(starter)
        raise
    write_zip(starter, out / homework.starter_name, homework.slug)


def release_autograder(homework: Homework, out: Path, cpu_index: str) -> None:
    """Write Gradescope's package to `out`."""
    with tempfile.TemporaryDirectory() as folder:
        autograder = Path(folder)
        copy_tree(autograder_files(homework), autograder)
        for script in (ROOT / "staff" / "gradescope").iterdir():
            shutil.copy2(script, autograder)
        setup = autograder / "setup.sh"
        text = setup.read_text(encoding="utf-8").replace("extra_index=''", f"extra_index='{cpu_index}'")
        setup.write_text(text, encoding="utf-8")
        write_zip(autograder, out / AUTOGRADER_ZIP)


def secret_lines(homework: Homework) -> set[str]:
    """The lines that no student may find: those of the answers' blocks, and those of the hidden tests' cases."""
    lines = set()
    for path in solution_folder(homework).glob("*.py"):
        for block in re.findall(f"{START}\n(.*?){END}", path.read_text(encoding="utf-8"), re.DOTALL):
            lines |= {code for line in block.splitlines() if len(code := line.split("  # ")[0].strip()) >= 12}
    hidden = (ROOT / "staff" / homework.name / "hidden_tests.py").read_text(encoding="utf-8")
    body = [line.strip() for line in hidden[hidden.index("class ") :].splitlines()]
    return lines | {line for line in body if len(line) >= 30 and not line.startswith(("@", "def ", "class "))}


def _secret_labels(homework: Homework) -> list[str]:
    paths = sorted((ROOT / "staff" / homework.name / "labels").glob("*.json"))
    return ["".join(path.read_text(encoding="utf-8").split())[:400] for path in paths]


def _secret_key(homework: Homework) -> Passages | None:
    folder = written_folder(homework)
    return secret_passages(read_source(folder)) if folder.is_dir() else None


def check_leaks(homework: Homework, starter: Path) -> None:
    """Search `starter` for what students must not have.

    Raises:
        ReleaseError: it was found; names the file and the line.
    """
    secrets, labels, key = secret_lines(homework), _secret_labels(homework), _secret_key(homework)
    for path in sorted(path for path in starter.rglob("*") if path.is_file()):
        name = path.relative_to(starter).as_posix()
        if "staff" in path.relative_to(starter).parts or "hidden" in path.name or path.suffix == ".pyc":
            raise ReleaseError(f"{name}: must not be in the starter")
        text = path.read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip() and any(secret in line for secret in secrets):
                raise ReleaseError(f"{name}:{number}: a line of the answers or of the hidden tests is in the starter")
        if any(each in "".join(text.split()) for each in labels):
            raise ReleaseError(f"{name}: the snippets' labels are in the starter")
        if KEY_NOTE in text:
            raise ReleaseError(f"{name}: the handout's key is in the starter")
        if key and "\0" not in text and (found := key.found_in(text)):
            raise ReleaseError(f"{name}:{found[0]}: a passage of the handout's key is in the starter: {found[1][:60]}")


def copy_tree(names: Iterable[str], target: Path) -> None:
    """Copy the files and folders of the repository called `names` to `target`, without what Python left there."""
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "*.part"))
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def write_zip(folder: Path, path: Path, top: str = "") -> None:
    """Zip what is in `folder`, below the folder `top`; the same content makes the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            info = zipfile.ZipInfo((Path(top) / file.relative_to(folder)).as_posix())
            info.external_attr = (0o100755 if file.stat().st_mode & 0o100 else 0o100644) << 16
            archive.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: nothing was released: {error}")
