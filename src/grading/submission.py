"""Check `questions/` and `submit/`, and zip them for the upload: what make_submission.sh does."""

import ast
import hashlib
import io
import zipfile
from pathlib import Path

from src.errors import RecordError, SubmissionError
from src.files import ROOT, write_file
from src.grading.homework import Homework, Part
from src.grading.record import RECORD, PartRecord, Record, code_hash, read_record

_UNREADABLE = (SyntaxError, ValueError, MemoryError, RecursionError)  # what parsing a student's source may raise


def files_to_submit(homework: Homework, root: Path) -> list[Path]:
    """The files of the submission in `root`, relative to it, once all of them have been found right.

    Raises:
        SubmissionError: something is missing, wrong or stale; says what, and the command that makes it.
    """
    questions = root / "questions"
    problems = [problem for name in homework.question_files if (problem := _source_problem(homework, questions / name))]
    problems += artifact_problems(homework, root, root)
    record = None if problems else read_record(root / "submit")
    if record is None:
        raise SubmissionError("\n".join(problems))
    made = [Path("submit", artifact.name) for number in record.parts for artifact in homework.part(number).artifacts]
    sources = [path.relative_to(root) for path in sorted(questions.glob("*.py"))]
    return [*sources, Path("submit", RECORD), *made]


def artifact_problems(homework: Homework, root: Path, configs: Path, questions: str | None = None) -> list[str]:
    """What is missing, wrong or stale in `root`/submit, a line each, with the command that makes it.

    Args:
        configs: the project whose settings count as today's
        questions: the folder in `root` whose code must have made everything; None: the one that run.json names
    """
    try:
        record = read_record(root / "submit")
    except RecordError as error:
        return [str(error)]
    if record is None:
        return [f"submit/{RECORD}: is missing; run: python {homework.program}"]
    settings = homework.settings_problem(record.made_with, configs)
    problems = [f"submit/: {settings}; run: {homework.rerun(record.made_with)}"] if settings else []
    for number in homework.numbers:
        part, entry = homework.part(number), record.parts.get(number)
        if entry is not None or not part.bonus:
            problems += _part_problems(homework, part, record, entry, root, questions)
    return problems


def _part_problems(
    homework: Homework, part: Part, record: Record, entry: PartRecord | None, root: Path, questions: str | None
) -> list[str]:
    folder = questions or (entry.questions if entry else "questions")
    command = homework.rerun(record.made_with) + (f" --questions {folder}" if folder != "questions" else "")
    command += f" --question {part.number}"
    problems = []
    if entry and not _is_current(homework, part, entry, root / folder):
        problems.append(f"submit/{part.artifacts[0].name}: is older than the code in {folder}/; run: {command}")
    for artifact in part.artifacts:
        path = root / "submit" / artifact.name
        problem = _file_problem(homework.program, path, entry) or artifact.problem(path)
        if problem:
            problems.append(f"submit/{artifact.name}: {problem}; run: {command}")
    return problems


def _file_problem(program: str, path: Path, entry: PartRecord | None) -> str | None:
    if not path.is_file():
        return "is missing"
    if entry is None:
        return "is stale: the last run did not make it"
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry.files.get(path.name):
        return f"is not what {program} wrote"
    return None


def _source_problem(homework: Homework, path: Path) -> str | None:
    name, most = f"{path.parent.name}/{path.name}", homework.limits.source_size
    try:
        if path.stat().st_size > most:
            return f"{name}: is larger than {most} bytes, too large for a file of answers"
        ast.parse(path.read_bytes())
    except OSError:
        return f"{name}: is missing; restore it from the starter code"
    except _UNREADABLE as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        return f"{name}{line}: is not valid Python ({getattr(error, 'msg', error)}); fix it"
    return None


def _is_current(homework: Homework, part: Part, entry: PartRecord, folder: Path) -> bool:
    """Whether the code in `folder` is the code that made the part."""
    try:
        return entry.code == {name: code_hash((folder / name).read_bytes()) for name in homework.files_of(part)}
    except (OSError, *_UNREADABLE):
        return False


def make_zip(homework: Homework, root: Path = ROOT) -> Path:
    """Check the submission in `root` and write it there as a zip; an older zip is removed first.

    Raises:
        SubmissionError: see `files_to_submit`.
        OutputError: the zip cannot be written.
    """
    target = root / homework.zip_name
    target.unlink(missing_ok=True)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files_to_submit(homework, root):
            archive.writestr(zipfile.ZipInfo(file.as_posix()), (root / file).read_bytes(), zipfile.ZIP_DEFLATED)
            print(f"  {file.as_posix():<52} {(root / file).stat().st_size:>9,} bytes")
    write_file(target, buffer.getvalue())
    return target


def command(homework: Homework) -> str | int:
    """Make the zip and say what is in it. Returns what `sys.exit` takes."""
    try:
        target = make_zip(homework)
    except SubmissionError as error:
        return f"error: {homework.zip_name} was not made\n{error}"
    record = read_record(ROOT / "submit")
    assert record is not None
    folders = sorted({entry.questions for entry in record.parts.values()} - {"questions"})
    print(f"made with the model {record.made_with.get('model')}")
    if folders:
        print(f"note: submit/ was made by the code in {', '.join(folders)}, not by the code in questions/")
    for part in homework.parts:
        if part.bonus and part.number not in record.parts:
            print(f"note: the bonus, {part.number}, is not in it")
    print(f"wrote {target.name}: upload it to Gradescope")
    return 0
