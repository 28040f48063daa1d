"""Run the programming parts of the homework and leave their results in submit/.

python main.py                          all parts, with GPT-2 small (fetched once, 548 MB)
python main.py --model gpt2-mini        all parts, with the small model that is bundled
python main.py --question 6.3 6.6       some parts
"""

# First, since it says what is missing.
import src.installed  # noqa: F401 # isort: skip

import argparse
import sys
import time
from pathlib import Path

from src import artifacts, guest
from src.config import ROOT, model_config
from src.errors import UserError

# Sampling takes the most memory, 6.5 and 6.4 leave kernels for each length of text in it, and 6.4 matplotlib.
ORDER = ("6.3", "6.6", "6.7", "6.5", "6.4")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--question", nargs="+", choices=list(artifacts.FILES), metavar="PART", default=list(artifacts.FILES),
        help=f"the parts to run, of {', '.join(artifacts.FILES)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--model", default="gpt2", metavar="NAME", help="gpt2 or a folder of checkpoints/ (%(default)s)"
    )
    parser.add_argument(
        "--questions", type=Path, default=ROOT / "questions", metavar="DIR", help="where your files are"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "submit", metavar="DIR", help="where results go (submit)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="(%(default)s)")
    parser.add_argument("--seed", type=int, help="instead of the one in config.yml")
    parser.add_argument("--cache", action="store_true", help="only fetch and check the model's files")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    config = model_config(args.model)
    seed = config.seed if args.seed is None else args.seed
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed {seed}: must lie between 0 and 2**63 - 1")
    from src import checkpoint  # here, not above, so that --help and mistyped options don't wait for PyTorch

    device = choose_device(args.device)
    guest.check_folder(args.questions)
    files = checkpoint.locate(config)
    if args.cache:
        print(f"{args.model}: all files are in {files.weights.parent}")
        return 0
    from src.homework import Homework, settings

    artifacts.begin_record(args.out, settings(config, files.weights_sha256, seed, device))
    model, codec = checkpoint.load(config, files, device, packed=True)
    homework = Homework(model, codec, config, args.questions, ROOT / "data", seed, device)
    print(f"model {args.model} on {device}, questions in {shown(args.questions)}, results to {shown(args.out)}")
    results = [(part, *run(part, homework, args.out)) for part in ORDER if part in args.question]
    print_table(sorted(results))
    return 0 if all(state == "done" for _, _, _, state in results) else 1


def run(part: str, homework, out: Path) -> tuple[str, float, str]:
    """Run one part and write its files; return what was written, the seconds that it took, and how it went."""
    began = time.perf_counter()
    try:
        files = homework.run(part)
    except guest.GuestError as error:
        files, state = {}, "wrong"
        print(f"{part}: {error}\n", file=sys.stderr)
    except (Exception, SystemExit) as error:
        failure = guest.failure(error, homework.questions)
        if failure is None:
            raise
        files, state = {}, "raised an error"
        if failure.part is not None:
            state = "not written yet" if failure.part == part else f"needs {failure.part} first"
            state += " (bonus)" if part == artifacts.BONUS else ""
            print(f"{part}: {state}: {failure.place}", file=sys.stderr)
        else:
            print(f"{part}: your code raised an error:\n{failure.text}\n", file=sys.stderr)
    else:
        state = "done"
    for name, content in files.items():
        artifacts.write_file(out / name, content)
    entry = artifacts.record_entry(part, homework.questions, files) if files else None
    artifacts.note_part(out, part, entry)
    return ", ".join(files) or "nothing", time.perf_counter() - began, state


def print_table(results: list[tuple[str, str, float, str]]) -> None:
    print(f"\n{'part':<5} {'seconds':>7}  {'state':<24} written")
    for part, written, seconds, state in results:
        print(f"{part:<5} {seconds:>7.1f}  {state:<24} {written}")


def choose_device(wanted: str) -> str:
    import torch

    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return "cuda" if here["cuda"] else "mps" if here["mps"] else "cpu"
    if not here[wanted]:
        raise UserError(f"--device {wanted}: PyTorch finds no such device here; use --device auto")
    return wanted


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted; what was finished before is complete", file=sys.stderr)
        sys.exit(130)
