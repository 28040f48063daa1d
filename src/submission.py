"""Check `questions/` and `submit/`, and pack them for the upload.

python -m src.submission        what make_submission.sh runs
"""

import ast
import dataclasses
import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from src import artifacts
from src.artifacts import BONUS, FILES, MAX_SOURCE, QUESTION_FILES, RECORD, SAMPLES, SAMPLES_TEMPERATURE, SOURCES
from src.config import ROOT, model_config
from src.dataset import HISTOGRAM_PIECES, SNIPPETS
from src.errors import UserError
from src.safe_pickle import read_float_array, read_plain

ZIP = "cs236.hw1.2023.zip"


class SubmissionError(UserError):
    """What keeps a submission from being packed; one line for each thing that is missing, wrong or stale."""


def check(root: Path = ROOT) -> list[Path]:
    """The files that make up the submission in `root`, relative to it, once all of them are found right.

    Raises:
        SubmissionError: something is missing, wrong or stale; says what, and the command that makes it.
    """
    problems = [problem for name in QUESTION_FILES if (problem := _question_problem(root / "questions" / name, root))]
    problems += artifact_problems(root, root)
    if problems:
        raise SubmissionError("\n".join(problems))
    record = artifacts.read_record(root / "submit")
    made = [Path("submit") / name for part in record["parts"] for name in FILES[part]]
    sources = sorted((root / "questions").glob("*.py"))
    return [*(path.relative_to(root) for path in sources), Path("submit") / RECORD, *made]


def artifact_problems(root: Path, configs: Path, questions: str | None = None) -> list[str]:
    """What is missing, wrong or stale in `root`/submit, a line each, with the command that makes it.

    Args:
        configs: where the models' config.yml are
        questions: the folder in `root` whose code must have made it all; None: the one that run.json names
    """
    out = root / "submit"
    try:
        record = artifacts.read_record(out)
    except artifacts.ArtifactError as error:
        return [str(error)]
    if not record:
        return [f"submit/{RECORD}: is missing; run: python main.py"]
    model, problems = str(record["made_with"].get("model")), []
    remake = "python main.py" + (f" --model {model}" if model != "gpt2" else "")
    config = json.loads(json.dumps(dataclasses.asdict(model_config(model, configs))))
    if record["made_with"].get("config") != config:
        problems.append(f"submit/: was made with another config.yml of {model} than the present one; run: {remake}")
    for part, names in FILES.items():
        entry = record["parts"].get(part)
        if entry is None and part == BONUS:
            continue
        folder = questions or (entry["questions"] if entry else "questions")
        command = remake + (f" --questions {folder}" if folder != "questions" else "") + f" --question {part}"
        if entry and not _same_code(part, entry, root / folder):
            problems.append(f"submit/{names[0]}: is older than the code in {folder}/; run: {command}")
        for name in names:
            problem = "is missing" if not (out / name).is_file() else None
            if problem is None and entry is None:
                problem = "is stale: the last run didn't make it"
            elif problem is None and hashlib.sha256((out / name).read_bytes()).hexdigest() != entry["files"].get(name):
                problem = "is not what main.py wrote"
            if problem is None:
                problem = artifact_problem(out / name)
            if problem:
                problems.append(f"submit/{name}: {problem}; run: {command}")
    return problems


def artifact_problem(path: Path) -> str | None:
    """What is wrong with the kind of the artifact at `path`, judged by its name; None where it is right."""
    try:
        if path.suffix == ".png":
            return None if artifacts.is_png(path.read_bytes()) else "is no PNG picture"
        if path.name.endswith("_raw.pkl"):
            values = read_float_array(path)
            return None if len(values) == HISTOGRAM_PIECES else f"holds {len(values)} numbers, not {HISTOGRAM_PIECES}"
        if path.suffix == ".pkl":
            decisions = read_plain(path)
            right = isinstance(decisions, list) and all(type(decision) is bool for decision in decisions)
            return None if right and len(decisions) == SNIPPETS else f"is no list of {SNIPPETS} bools"
        expected = 5 if path.name in (SAMPLES, SAMPLES_TEMPERATURE) else 1
        found = artifacts.count_samples(path.read_text(encoding="utf-8"))
        return None if found == expected else f"holds {found} samples, not {expected}"
    except (UserError, UnicodeDecodeError, OSError) as error:
        return f"cannot be read ({error})"


def _question_problem(path: Path, root: Path) -> str | None:
    shown = path.relative_to(root).as_posix()
    try:
        if path.stat().st_size > MAX_SOURCE:
            return f"{shown}: is larger than {MAX_SOURCE} bytes, far too large for a file of answers"
        ast.parse(path.read_bytes())
    except OSError:
        return f"{shown}: is missing; restore it from the starter code"
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        return f"{shown}{line}: is not valid Python ({getattr(error, 'msg', error)}); mend it"
    return None


def _same_code(part: str, entry: dict[str, Any], folder: Path) -> bool:
    try:
        return entry["code"] == {name: artifacts.code_hash((folder / name).read_bytes()) for name in SOURCES[part]}
    except (OSError, SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def pack(root: Path = ROOT) -> Path:
    """Check the submission in `root` and write it as a zip there; an older zip is removed first.

    Raises:
        SubmissionError: see `check`.
        ArtifactError: the zip cannot be written.
    """
    target = root / ZIP
    target.unlink(missing_ok=True)
    files = check(root)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(zipfile.ZipInfo(file.as_posix()), (root / file).read_bytes(), zipfile.ZIP_DEFLATED)
            print(f"  {file.as_posix():<52} {(root / file).stat().st_size:>9,} bytes")
    artifacts.write_file(target, buffer.getvalue())
    return target


def main() -> None:
    target = pack()
    record = artifacts.read_record(ROOT / "submit")
    folders = sorted({entry["questions"] for entry in record["parts"].values()} - {"questions"})
    print(f"made with the model {record['made_with']['model']}")
    if folders:
        print(f"note: submit/ was made by the code in {', '.join(folders)}, not by that in questions/")
    if BONUS not in record["parts"]:
        print(f"note: the bonus, {BONUS}, is not in it")
    print(f"wrote {target.name}: upload it to Gradescope")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: no {ZIP} was made\n{error}")
