"""Run the programming parts of the homework and leave their results in submit/.

python main.py                          all parts, with GPT-2 small (downloaded once, 548 MB)
python main.py --model bundled          all parts, with the small model that comes with the homework
python main.py --question 6.3 6.6       some parts
"""

from src.grading import dependencies

dependencies.check()  # before any other import: says in one line which Python or which package is missing

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from src.errors import ConfigError, StudentCodeError, run_command
from src.files import ROOT, shown, write_file
from src.grading import import_guard, record, student_code
from src.grading.homework import Part
from src.hw1.parts import DEFAULT_MODEL, HOMEWORK
from src.model.threads import share_processors

if TYPE_CHECKING:
    from src.hw1.run import Run


@dataclass(frozen=True)
class Outcome:
    """What came of one part: a line of the table at the end."""

    part: str
    seconds: float
    state: str
    files: tuple[str, ...]


def parse_arguments() -> argparse.Namespace:
    known = HOMEWORK.numbers
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--question", nargs="+", choices=known, metavar="PART", default=known,
        help=f"the parts to run, of {', '.join(known)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME",
        help="gpt2, bundled, or a folder of checkpoints/ (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--questions", type=Path, default=ROOT / "questions", metavar="DIR", help="where your files are (questions)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "submit", metavar="DIR", help="where results go (submit)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="(%(default)s)")
    parser.add_argument("--seed", type=int, help="instead of the one in config.yml")
    parser.add_argument("--cache", action="store_true", help="only download and check the model's files")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if args.seed is not None and not 0 <= args.seed < 2**63:
        raise ConfigError(f"--seed {args.seed}: must lie between 0 and 2**63 - 1")
    student_code.check_folder(args.questions, HOMEWORK.question_files)
    name = HOMEWORK.find_model(args.model)
    share_processors()
    from src.hw1 import run  # here, so that --help and mistyped options do not wait for PyTorch

    setup = run.prepare(name, args.seed, args.device)
    if args.cache:
        print(f"{name}: all files are in {setup.files.weights.parent}")
        return 0
    record.begin_record(args.out, setup.settings())
    import_guard.forbid_in_student_code(HOMEWORK.closed_packages)
    loaded = setup.load(args.questions, ROOT / "data")
    print(f"model {name} on {setup.device}, questions in {shown(args.questions)}, results to {shown(args.out)}")
    outcomes = [run_part(part, loaded, args.out) for part in HOMEWORK.parts if part.number in args.question]
    print_table(sorted(outcomes, key=lambda outcome: outcome.part))
    return 0 if all(outcome.state == "done" for outcome in outcomes) else 1


def run_part(part: Part, run: "Run", out: Path) -> Outcome:
    """Run one part, write its files, and say on stderr what went wrong with it."""
    began = time.perf_counter()
    try:
        files, state = run.files_of(part), "done"
    except StudentCodeError as error:
        files, state = {}, "wrong"
        print(f"{part.number}: {error}\n", file=sys.stderr)
    except (Exception, SystemExit) as error:
        failure = student_code.failure(error, run.questions)
        if failure is None:
            raise
        files, state = {}, failure_state(part, failure)
        print_failure(part, failure, state)
    for name, content in files.items():
        write_file(out / name, content)
    entry = record.part_record(HOMEWORK, part, run.questions, files) if files else None
    record.record_part(out, part.number, entry)
    return Outcome(part.number, time.perf_counter() - began, state, tuple(files))


def failure_state(part: Part, failure: student_code.Failure) -> str:
    """One or three words for the table."""
    if failure.part is None:
        return "raised an error"
    state = "not written yet" if failure.part == part.number else f"needs {failure.part} first"
    return f"{state} (bonus)" if part.bonus else state


def print_failure(part: Part, failure: student_code.Failure, state: str) -> None:
    if failure.part is None:
        from src.grading.part_test import hint_of
        from src.hw1.hints.exceptions import diagnose_exception

        hint = hint_of(diagnose_exception(failure.error, failure.line))
        text = failure.text + (f"\nhint: {hint}" if hint else "")
        print(f"{part.number}: your code raised an error:\n{text}\n", file=sys.stderr)
    else:
        print(f"{part.number}: {state}: {failure.place}", file=sys.stderr)


def print_table(outcomes: list[Outcome]) -> None:
    print(f"\n{'part':<5} {'seconds':>7}  {'state':<24} written")
    for outcome in outcomes:
        written = ", ".join(outcome.files) or "nothing"
        print(f"{outcome.part:<5} {outcome.seconds:>7.1f}  {outcome.state:<24} {written}")


if __name__ == "__main__":
    run_command(main)
