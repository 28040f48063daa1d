"""Run the experiments of the homework on your functions, and leave their results in submit/.

python experiment.py                    all experiments
python experiment.py --model vae        one of them: vae, gan, ddpm, continual or prompting
python experiment.py --model vae --iterations 500      a short try

An experiment that is run again replaces its files in submit/; the others stay as they are. One that was interrupted
goes on where it was when the same command is given again.
"""

# <!-- staff -->
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # in the starter, `src` lies beside this file
# <!-- /staff -->
from src.grading import dependencies

dependencies.check()  # before any other import: says in one line which Python or which package is missing

import argparse
from collections.abc import Sequence
from pathlib import Path

from src.errors import ConfigError, run_command
from src.files import shown
from src.grading import import_guard, record, student_code
from src.grading.program import Outcome, print_replaced, print_table, run_part
from src.hw10.parts import HOMEWORK, MODELS, experiment_of
from src.model.memory import use_large_pages
from src.model.threads import share_processors

HERE = HOMEWORK.home
QUESTIONS, SUBMIT, DATA, WORK = HERE / "questions", HERE / "submit", HERE / "data", HERE / ".experiments"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(MODELS)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=[], metavar="NAME", help=f"of {names}")
    parser.add_argument("--iterations", type=int, help="train for so many instead of those in config.yml")
    parser.add_argument("--questions", type=Path, default=QUESTIONS, metavar="DIR", help="where your files are")
    parser.add_argument("--out", type=Path, default=SUBMIT, metavar="DIR", help="where results go (submit)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="(%(default)s)")
    parser.add_argument("--seed", type=int, help="instead of the one in config.yml")
    parser.add_argument("--full-mnist", action="store_true", help="train on all of MNIST (downloaded once, 12 MB)")
    parser.add_argument(
        "--lm", default="bundled", choices=("bundled", "smollm2"),
        help="the language model of prompting; smollm2 is a package to install, see the README (%(default)s)",
    )  # fmt: skip
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if args.seed is not None and not 0 <= args.seed < 2**63:
        raise ConfigError(f"--seed {args.seed}: must lie between 0 and 2**63 - 1")
    if args.iterations is not None and args.iterations < 1:
        raise ConfigError(f"--iterations {args.iterations}: must be 1 or more")
    student_code.check_folder(args.questions, HOMEWORK.question_files)
    share_processors()
    use_large_pages()
    from src.hw10.run import Run, parts_of  # here, so that --help and mistyped options do not wait for PyTorch
    from src.hw10.settings import read_config
    from src.model.device import choose_device

    config, parts = read_config(HERE / "config.yml"), parts_of(args.model)
    seed = config.seed if args.seed is None else args.seed
    device = choose_device(args.device)
    run = Run(config, args.questions, DATA, WORK, seed, device, args.iterations, args.full_mnist, args.lm)
    settings = run.settings()
    print_replaced(HOMEWORK, record.begin_record(args.out), [p.number for p in parts], settings, args.out)
    import_guard.forbid_in_student_code(HOMEWORK.closed_packages)
    print(f"{device}, questions in {shown(args.questions)}, results to {shown(args.out)}")
    outcomes = [run_part(HOMEWORK, part, run, settings, args.out, explain) for part in parts]
    print_table(outcomes)
    if step := next_step(outcomes, args):
        print(f"\nnext: {step}")
    return 0 if all(outcome.files or outcome.is_unwritten for outcome in outcomes) else 1


def explain(error: str, line: str) -> str:
    """The hint for an error that the line of a student's code has raised; empty where nothing is known."""
    from src.grading.part_test import hint_of
    from src.hw10.hints.exceptions import diagnose_exception

    return hint_of(diagnose_exception(error, line))


def next_step(outcomes: Sequence[Outcome], args: argparse.Namespace) -> str:
    """What to do next: write a block or, once all parts are done, grade and pack; empty where that is not so clear."""
    for failure in [outcome.failure for outcome in outcomes if outcome.failure and outcome.is_unwritten]:
        model = experiment_of(HOMEWORK.part(str(failure.part)))
        place = student_code.spelled(failure.place)
        return f"write {failure.part} in {place}, then: python experiment.py --model {model}"
    is_done = len(outcomes) == len(HOMEWORK.chosen(())) and all(outcome.state == "done" for outcome in outcomes)
    is_own = (args.questions.resolve(), args.out.resolve()) == (QUESTIONS, SUBMIT)
    return "python grader.py, then bash make_submission.sh" if is_own and is_done else ""


if __name__ == "__main__":
    run_command(main)
