"""Run the programming parts of the homework and leave their results in submit/.

python main.py                          all parts, with GPT-2 small (downloaded once, 548 MB)
python main.py --model bundled          all parts, with the small model that comes with the homework
python main.py --question 6.3 6.6       some parts

A part that is run again replaces its files in submit/; the other parts stay as they are. To try other settings beside
the results that you have, choose another folder: --seed 3 --out try
"""

from src.grading import dependencies

dependencies.check()  # before any other import: says in one line which Python or which package is missing

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from src.errors import ConfigError, StudentCodeError, run_command
from src.files import ROOT, shown, write_file
from src.grading import import_guard, record, student_code
from src.grading.homework import Part, Settings
from src.hw1.parts import DEFAULT_MODEL, HOMEWORK, check_fine_tuning
from src.model.config import option
from src.model.threads import share_processors

if TYPE_CHECKING:
    from src.hw1.run import Run

QUESTIONS, SUBMIT = ROOT / "questions", ROOT / "submit"


@dataclass(frozen=True)
class Outcome:
    """What came of one part: a line of the table at the end."""

    part: str
    seconds: float
    state: str
    files: tuple[str, ...]
    failure: student_code.Failure | None

    @property
    def is_unwritten(self) -> bool:
        """Whether nothing but a block that is not written yet was in the way."""
        return self.failure is not None and self.failure.part is not None and not self.failure.is_begun


def _optional() -> str:
    """Which parts run only where they are named."""
    optional = [number for number in HOMEWORK.runnable if HOMEWORK.part(number).optional]
    return f" but {', '.join(optional)}" if optional else ""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", metavar="PART",
        help=f"the parts to run, of {', '.join(HOMEWORK.runnable)} (default: all{_optional()})",
    )  # fmt: skip
    parser.add_argument("--question", nargs="+", metavar="PART", default=[], help="the same")
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME",
        help="gpt2, bundled, or a folder of checkpoints/ (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--questions", type=Path, default=QUESTIONS, metavar="DIR", help="where your files are (questions)"
    )
    parser.add_argument("--out", type=Path, default=SUBMIT, metavar="DIR", help="where results go (submit)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="(%(default)s)")
    parser.add_argument("--seed", type=int, help="instead of the one in config.yml")
    parser.add_argument(
        "--fine-tune", action="store_true",
        help="question 7 also adapts the model, in minutes (GPT-2 small needs a GPU)",
    )  # fmt: skip
    parser.add_argument("--cache", action="store_true", help="only download and check the model's files")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if args.seed is not None and not 0 <= args.seed < 2**63:
        raise ConfigError(f"--seed {args.seed}: must lie between 0 and 2**63 - 1")
    chosen = HOMEWORK.chosen([*args.parts, *args.question])
    student_code.check_folder(args.questions, HOMEWORK.question_files)
    name = HOMEWORK.find_model(args.model)
    share_processors()
    from src.hw1 import run  # here, so that --help and mistyped options do not wait for PyTorch

    setup = run.prepare(name, args.seed, args.device)
    if args.cache:
        print(f"{name}: all files are in {setup.files.weights.parent}")
        return 0
    if args.fine_tune:
        check_fine_tuning(chosen, name, setup.device)
    settings = setup.settings()
    print_replaced(record.begin_record(args.out), chosen, settings, args.out)
    import_guard.forbid_in_student_code(HOMEWORK.closed_packages)
    loaded = setup.load(args.questions, ROOT / "data", args.fine_tune)
    print(f"model {option(name)} on {setup.device}, questions in {shown(args.questions)}, results to {shown(args.out)}")
    outcomes = [run_part(part, loaded, settings, args.out) for part in HOMEWORK.parts if part.number in chosen]
    outcomes.sort(key=lambda outcome: outcome.part)
    print_table(outcomes)
    step = next_step(outcomes, args)
    if step:
        print(f"\nnext: {step}")
    return 0 if all(outcome.files or outcome.is_unwritten for outcome in outcomes) else 1


def print_replaced(before: record.Record, chosen: Sequence[str], settings: Settings, out: Path) -> None:
    """Say which results this run replaces that were made with other settings."""
    now = HOMEWORK.describe(settings)
    there = {number: entry for number, entry in before.parts.items() if number in chosen}
    made_with = {number: HOMEWORK.describe(entry.made_with) for number, entry in there.items()}
    replaced = [number for number, then in made_with.items() if then != now]
    if replaced:
        then = " or ".join(sorted({made_with[number] for number in replaced}))
        was, them = ("was", "it") if len(replaced) == 1 else ("were", "them")
        print(
            f"note: {', '.join(replaced)} in {shown(out)}/ {was} made with {then}; this run replaces {them}, where it "
            f"succeeds, by what it makes with {now} (--out FOLDER would keep both)"
        )


def run_part(part: Part, run: "Run", settings: Settings, out: Path) -> Outcome:
    """Run one part, write its files, and say on stderr what went wrong with it."""
    began = time.perf_counter()
    files: Mapping[str, bytes] = {}
    failure = None
    try:
        files = run.files_of(part)
        state = "done, but see above" if run.remarks else "done"
    except StudentCodeError as error:
        state = "wrong"
        print(f"{part.number}: {error}\n", file=sys.stderr)
    except (Exception, SystemExit) as error:
        if student_code.has_quit_debugger(error):
            sys.exit(f"{part.number}: stopped in the debugger")
        failure = student_code.failure(error, run.questions)
        if failure is None:
            raise
        state = failure_state(part, failure)
        print_failure(part, failure, state)
    if files:
        for name, content in files.items():
            write_file(out / name, content)
        record.record_part(out, part.number, record.part_record(HOMEWORK, part, settings, run.questions, files))
    return Outcome(part.number, time.perf_counter() - began, state, tuple(files), failure)


def failure_state(part: Part, failure: student_code.Failure) -> str:
    """One or three words for the table."""
    if failure.part is None:
        return "raised an error"
    if failure.part == part.number and failure.is_begun:
        return "wrong"
    state = "not written yet" if failure.part == part.number else f"needs {failure.part} first"
    return f"{state} (bonus)" if part.bonus else state


def next_step(outcomes: Sequence[Outcome], args: argparse.Namespace) -> str:
    """What to do next: write a block or, once all parts are done, grade and pack; empty where that is not so clear."""
    for failure in [outcome.failure for outcome in outcomes if outcome.failure and outcome.is_unwritten]:
        return f"write {failure.part} in {student_code.spelled(failure.place)}, then: {command_of(failure.part, args)}"
    done = {outcome.part for outcome in outcomes if outcome.state == "done"}
    is_own = (args.questions.resolve(), args.out.resolve()) == (QUESTIONS, SUBMIT)
    return "python grader.py, then bash make_submission.sh" if is_own and done >= set(HOMEWORK.numbers) else ""


def command_of(part: str | None, args: argparse.Namespace) -> str:
    """The command that runs one part as `args` say."""
    model = f" --model {args.model}" if args.model != DEFAULT_MODEL else ""
    folder = f" --questions {shown(args.questions)}" if args.questions.resolve() != QUESTIONS else ""
    return f"python main.py{model}{folder} --question {part}"


def print_failure(part: Part, failure: student_code.Failure, state: str) -> None:
    if failure.part is None:
        from src.grading.part_test import hint_of
        from src.hw1.hints.exceptions import diagnose_exception

        hint = hint_of(diagnose_exception(failure.error, failure.line))
        text = failure.text + (f"\nhint: {hint}" if hint else "")
        print(f"{part.number}: your code raised an error:\n{text}\n", file=sys.stderr)
    elif failure.is_begun:
        place = student_code.spelled(failure.place)
        print(f"{part.number}: {place}: {student_code.left_line(failure.part)}\n", file=sys.stderr)
    else:
        print(f"{part.number}: {state}: {failure.place}", file=sys.stderr)


def print_table(outcomes: list[Outcome]) -> None:
    print(f"\n{'part':<5} {'seconds':>7}  {'state':<24} written")
    for outcome in outcomes:
        written = ", ".join(outcome.files) or "nothing"
        print(f"{outcome.part:<5} {outcome.seconds:>7.1f}  {outcome.state:<24} {written}")


if __name__ == "__main__":
    run_command(main)
