"""Make what goes out: the students' starter and Gradescope's autograder, in dist/.

    python -m staff.release

It refuses when a stub has drifted from its reference answer, when the reference answers don't get full points, when a
stub gets any, or when a line of the answers or of the hidden tests, or the labels, stand somewhere in the starter.
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

from src.artifacts import write_file
from src.config import ROOT
from src.errors import UserError
from src.submission import ZIP
from staff.make_stubs import END, START, stub

STARTER_ZIP = ZIP.replace(".zip", ".starter.zip")
STARTER = (
    "src", "questions", "data", "checkpoints/gpt2-mini", "docs", "main.py", "grader.py", "config.yml",
    "environment.yml", "environment_cuda.yml", "requirements.txt", "make_submission.sh", "Makefile", "README.md",
    "LICENSE", ".gitignore",
    ".gitattributes",
)  # fmt: skip
AUTOGRADER = (
    "src", "data", "checkpoints/gpt2-mini", "config.yml", "grader.py", "requirements.txt", "LICENSE",
    "staff/hidden_tests.py", "staff/labels",
)  # fmt: skip
_FOR_STAFF = re.compile(r"(# )?<!-- staff -->.*?<!-- /staff -->\n?", re.DOTALL)  # in README.md and Makefile


class ReleaseError(UserError):
    """Why nothing was released."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where it goes (%(default)s)")
    parser.add_argument("--cpu-index", default="", metavar="URL", help="PyTorch's package index of CPU builds")
    args = parser.parse_args()
    check_stubs()
    check_points()
    starter = args.out / "starter"
    shutil.rmtree(starter, ignore_errors=True)
    copy_tree(STARTER, starter)
    for name in ("README.md", "Makefile"):
        write_file(starter / name, _FOR_STAFF.sub("", (starter / name).read_text(encoding="utf-8")).encode())
    try:
        check_leaks(starter)
    except ReleaseError:
        shutil.rmtree(starter)
        raise
    write_zip(starter, args.out / STARTER_ZIP, STARTER_ZIP.removesuffix(".starter.zip"))
    with tempfile.TemporaryDirectory() as folder:
        autograder = Path(folder)
        copy_tree(AUTOGRADER, autograder)
        for script in (ROOT / "staff" / "gradescope").iterdir():
            shutil.copy2(script, autograder)
        setup = autograder / "setup.sh"
        text = setup.read_text(encoding="utf-8").replace("extra_index=''", f"extra_index='{args.cpu_index}'")
        setup.write_text(text, encoding="utf-8")
        write_zip(autograder, args.out / "autograder.zip")
    for path in (args.out / STARTER_ZIP, args.out / "autograder.zip"):
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if not args.cpu_index:
        print(
            "note: without CPU_INDEX, Gradescope may install PyTorch for Nvidia cards, gigabytes; see staff/README.md"
        )


def check_stubs() -> None:
    """See that `questions/` is what `make stubs` makes.

    Raises:
        ReleaseError: it is not.
    """
    for solution in sorted((ROOT / "staff" / "solution").glob("*.py")):
        path = ROOT / "questions" / solution.name
        if not path.exists() or path.read_text(encoding="utf-8") != stub(solution.read_text(encoding="utf-8")):
            raise ReleaseError(f"questions/{solution.name}: is not the stub of staff/solution/; run: make stubs")


def check_points() -> None:
    """Grade the reference answers and the stubs.

    Raises:
        ReleaseError: the ones lose a point, or the others get one.
    """
    for folder, all_points in (("staff/solution", True), ("questions", False)):
        with tempfile.TemporaryDirectory() as results:
            path = Path(results) / "results.json"
            command = [sys.executable, "grader.py", "--submission", folder, "--json", str(path)]
            print(f"grading {folder}")
            subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
            tests = json.loads(path.read_text(encoding="utf-8"))["tests"]
        hidden = [test for test in tests if "visibility" in test]
        if not tests or not hidden:
            raise ReleaseError(f"{folder}: could not be graded; run: python grader.py --submission {folder}")
        for test in tests:
            if test["score"] != (test["max_score"] if all_points else 0):
                raise ReleaseError(
                    f"{folder}: gets {test['score']:g} of {test['max_score']:g} in {test['number']} {test['name']}"
                )


def secret_lines() -> set[str]:
    """The lines that no student may find: those of the answers' blocks, and those of the hidden tests' cases."""
    lines = set()
    for solution in (ROOT / "staff" / "solution").glob("*.py"):
        for block in re.findall(f"{START}\n(.*?){END}", solution.read_text(encoding="utf-8"), re.DOTALL):
            lines |= {code for line in block.splitlines() if len(code := line.split("  # ")[0].strip()) >= 8}
    hidden = (ROOT / "staff" / "hidden_tests.py").read_text(encoding="utf-8")
    body = [line.strip() for line in hidden[hidden.index("class ") :].splitlines()]
    return lines | {line for line in body if len(line) >= 30 and not line.startswith(("@", "def ", "class "))}


def check_leaks(starter: Path) -> None:
    """Search `starter` for what students must not have.

    Raises:
        ReleaseError: it was found; names the file and the line.
    """
    secrets = secret_lines()
    labels = "".join((ROOT / "staff" / "labels" / "snippets.json").read_text(encoding="utf-8").split())[:400]
    for path in sorted(path for path in starter.rglob("*") if path.is_file()):
        shown = path.relative_to(starter).as_posix()
        if "staff" in path.relative_to(starter).parts or "hidden" in path.name or path.suffix == ".pyc":
            raise ReleaseError(f"{shown}: must not be in the starter")
        text = path.read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip() and any(secret in line for secret in secrets):
                raise ReleaseError(f"{shown}:{number}: a line of the answers or of the hidden tests is in the starter")
        if labels in "".join(text.split()):
            raise ReleaseError(f"{shown}: the snippets' labels are in the starter")


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
