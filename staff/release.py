"""Make what goes out: the students' starter and Gradescope's autograder, in dist/.

    python -m staff.release [--homework hw1]

In both, the homework's own folder is the top level: what lies in homework/hw10/ here lies beside src/ there.

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
from staff.declaration import check_complete, load_homework, own_folder, solution_folder
from staff.handout.passages import KEY_NOTE, Passages, secret_passages
from staff.handout.source import handout_files, read_source, written_folder
from staff.leaks import answers_in, probes_of
from staff.make_stubs import END, START, stubs
from staff.tables import stale_documents

AUTOGRADER_ZIP = "autograder.zip"
_CORE = ("src/__init__.py", "src/errors.py", "src/files.py", "src/grading", "src/model")
_PLAYGROUND = ("src.playground.numbers", "src.playground.mind", "src.playground.yours")  # what computes something
_COMMON = (
    "requirements.txt", "pyproject.toml", "environment.yml", "environment_cuda.yml", "Makefile", "LICENSE",
    ".gitignore", ".gitattributes",
)  # fmt: skip
_OWN = ("questions", "data", "grader.py", "config.yml", "make_submission.sh", "README.md", ".vscode/launch.json")
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.part", "mnist")  # the last is a download
_FOR_STAFF = re.compile(r"(# )?<!-- staff -->.*?<!-- /staff -->\n?", re.DOTALL)
_MARKS = re.compile(r"^<!-- /?[\w-]+ -->\n|<!-- /?[\w-]+ -->", re.MULTILINE)  # of tables, which only staff write anew
_LINK = re.compile(r"\]\(([^):#]+)\)")


class ReleaseError(UserError):
    """Why nothing was released."""


def starter_files(homework: Homework) -> list[str]:
    """The files and folders of the repository that students get; of docs/, what the README links to, and so on."""
    linked = (path for path in sorted(_linked(homework.home / "README.md")) if path.is_relative_to(ROOT / "docs"))
    own = (homework.home / name for name in (*_OWN, homework.program))
    names = (*_CORE, f"src/{homework.name}", "src/playground", f"checkpoints/{BUNDLED}", *_COMMON)
    return list(dict.fromkeys((*names, *map(shown, own), *handout_files(homework), *map(shown, linked))))


def _linked(readme: Path) -> set[Path]:
    """The files that `readme` links to in what is for students, and those that these link to."""
    found, new = set[Path](), {readme}
    while new:
        found |= new
        texts = {path: _FOR_STAFF.sub("", path.read_text(encoding="utf-8")) for path in new if path.suffix == ".md"}
        new = {(path.parent / link).resolve() for path, text in texts.items() for link in _LINK.findall(text)} - found
    return found


def autograder_files(homework: Homework) -> list[str]:
    """The files and folders of the repository that Gradescope gets."""
    staff = ROOT / "staff" / homework.name
    own = (homework.home / name for name in ("data", "config.yml", "grader.py"))
    model = homework.readable(homework.find_model("bundled"))
    hidden = (path for path in (staff / "hidden_tests.py", staff / "labels") if path.exists())
    names = (*_CORE, f"src/{homework.name}", *model, "requirements.txt", "LICENSE", *map(shown, (*own, *hidden)))
    return list(dict.fromkeys(names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homework", default="hw1", help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="where it goes (dist, or dist/NAME)")
    parser.add_argument("--cpu-index", default="", metavar="URL", help="PyTorch's package index of CPU builds")
    args = parser.parse_args()
    homework = load_homework(args.homework)
    out = args.out or own_folder(homework, "dist")
    check_complete(homework)
    check_current(homework)
    check_points(homework)
    check_answers(homework)
    release_starter(homework, out)
    release_autograder(homework, out, args.cpu_index)
    for name in (homework.starter_name, AUTOGRADER_ZIP):
        print(f"wrote {out / name} ({(out / name).stat().st_size / 1e6:.1f} MB)")
    if not args.cpu_index:
        print("note: without CPU_INDEX, Gradescope may install PyTorch for Nvidia cards (5 GB); see staff/README.md")


def check_current(homework: Homework) -> None:
    """Check that `questions/` and the documents are what `make stubs` and `make tables` write.

    Raises:
        ReleaseError: they are not.
    """
    for name, content in stubs(solution_folder(homework)).items():
        path = homework.home / "questions" / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            raise ReleaseError(f"{shown(path)}: is not the stub of the reference answer; run: make stubs")
    if stale := stale_documents(homework):
        raise ReleaseError(f"{shown(stale[0])}: its tables are stale; run: make tables")


def check_points(homework: Homework) -> None:
    """Grade the reference answers and the stubs.

    Raises:
        ReleaseError: the reference answers lose a point, or the stubs earn one.
    """
    for path, all_points in ((solution_folder(homework), True), (homework.home / "questions", False)):
        folder = shown(path)
        with tempfile.TemporaryDirectory() as results:
            path = Path(results) / "results.json"
            grader = shown(homework.home / "grader.py")
            command = [sys.executable, grader, "--submission", folder, "--json", str(path)]
            print(f"grading {folder}")
            subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
            tests = json.loads(path.read_text(encoding="utf-8"))["tests"] if path.exists() else []
        if not any("visibility" in test for test in tests):
            raise ReleaseError(f"{folder}: could not be graded; run: python {grader} --submission {folder}")
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
    copy_tree(homework, starter_files(homework), starter)
    if homework.home != ROOT:  # GPT-2 small's config.yml would be where the homework's own one is
        write_file(starter / "checkpoints" / "gpt2" / "config.yml", (ROOT / "config.yml").read_bytes())
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
        copy_tree(homework, autograder_files(homework), autograder)
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


def copy_tree(homework: Homework, names: Iterable[str], target: Path) -> None:
    """Copy the files and folders of the repository called `names` to `target`, without the pieces for staff.

    What lies in the homework's own folder goes to the top of `target`, and links follow.
    """
    for source in (ROOT / name for name in names):
        is_own = source.is_relative_to(homework.home)
        place = target / source.relative_to(homework.home if is_own else ROOT)
        if source.is_dir():
            shutil.copytree(source, place, ignore=_NOT_COPIED)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place)
    up = "](" + "../" * len(homework.home.relative_to(ROOT).parts)
    for path in (path for path in target.rglob("*") if path.is_file()):
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        shipped = _FOR_STAFF.sub("", text)
        if path.suffix == ".md":
            shipped = _MARKS.sub("", shipped)
            shipped = shipped.replace(up, "](") if up != "](" and path.parent == target else shipped
        if shipped != text:
            path.write_bytes(shipped.encode("utf-8", "surrogateescape"))


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
