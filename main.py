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
from collections.abc import Sequence
from pathlib import Path

from src.errors import ConfigError, run_command
from src.files import ROOT, shown
from src.grading import import_guard, record, student_code
from src.grading.program import Outcome, print_replaced, print_table, run_part
from src.hw1.parts import DEFAULT_MODEL, HOMEWORK, check_fine_tuning
from src.model.config import option
from src.model.memory import use_large_pages
from src.model.threads import share_processors

QUESTIONS, SUBMIT = ROOT / "questions", ROOT / "submit"


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
    use_large_pages()
    from src.hw1 import run  # here, so that --help and mistyped options do not wait for PyTorch

    setup = run.prepare(name, args.seed, args.device)
    if args.cache:
        print(f"{name}: all files are in {setup.files.weights.parent}")
        return 0
    if args.fine_tune:
        check_fine_tuning(chosen, name, setup.device)
    settings = setup.settings()
    print_replaced(HOMEWORK, record.begin_record(args.out), chosen, settings, args.out)
    import_guard.forbid_in_student_code(HOMEWORK.closed_packages)
    loaded = setup.load(args.questions, ROOT / "data", args.fine_tune)
    print(f"model {option(name)} on {setup.device}, questions in {shown(args.questions)}, results to {shown(args.out)}")
    parts = [part for part in HOMEWORK.parts if part.number in chosen]
    outcomes = [run_part(HOMEWORK, part, loaded, settings, args.out, explain) for part in parts]
    outcomes.sort(key=lambda outcome: outcome.part)
    print_table(outcomes)
    step = next_step(outcomes, args)
    if step:
        print(f"\nnext: {step}")
    return 0 if all(outcome.files or outcome.is_unwritten for outcome in outcomes) else 1


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


def explain(error: str, line: str) -> str:
    """The hint for an error that the line of a student's code has raised; empty where nothing is known."""
    from src.grading.part_test import hint_of
    from src.hw1.hints.exceptions import diagnose_exception

    return hint_of(diagnose_exception(error, line))


if __name__ == "__main__":
    run_command(main)
