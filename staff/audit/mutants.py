"""The mutation score: of all small changes of the reference answers, how many lose points?

`staff/NAME/mutants.yml` lists, by part, what a person has checked:

equivalent    reason → the changes that are right answers, too, and therefore must keep all points
hints         names of hints, joined by " + " → the changes whose wrong values may get these hints
least_hints   the share of wrong values that must get a hint, where it is not LEAST_HINTS

A change is written as the statements that it leads to. `python -m staff.audit.mutants` grades all of them and prints
the list, from which new entries can be copied.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml
from tqdm import tqdm

from src.errors import UserError, run_command
from staff.audit.many import Graders
from staff.audit.mutation import Mutant, mutants_of
from staff.audit.subject import DEFAULT_HOMEWORK, Subject, load_subject
from staff.audit.table import LEAST_HINTS, Section

LEAST_SCORE = 0.99  # of the mutants that are not equivalent


@dataclass(frozen=True)
class Verdict:
    """What the grader made of a mutant."""

    mutant: Mutant
    problem: str = ""  # the grading itself failed
    lost: bool = False
    by_value: bool = False  # the first test that lost points got a wrong value, not an exception
    hints: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Checked:
    """What a person has checked: the file mutants.yml."""

    equivalent: frozenset[tuple[str, str]]  # part and change
    hints: Mapping[tuple[str, str], frozenset[frozenset[str]]]  # part and change → the allowed sets of hints
    least_hints: float = LEAST_HINTS  # of the wrong values, so many get a hint


def grade(subject: Subject, mutant: Mutant, folder: Path, graders: Graders) -> Verdict:
    """Grade `mutant` until it loses points: first in its own part, then in the others that run its file."""
    homework, place = subject.homework, Path(tempfile.mkdtemp(prefix="mutant-", dir=folder))
    try:
        questions = place / "questions"
        shutil.copytree(subject.solution, questions, ignore=shutil.ignore_patterns("__pycache__"))
        (questions / mutant.file).write_text(mutant.source, encoding="utf-8")
        users = [number for number in homework.numbers if mutant.file in homework.files_of(homework.part(number))]
        for part in (mutant.part, *(number for number in users if number != mutant.part)):
            run = graders.grade(place, seed=0, parts=(part,), first_loss=True)
            if run.exit_code is None or run.left:
                return Verdict(mutant, problem=f"{run.stderr} {run.left}")
            if run.exit_code:
                hints = frozenset(set().union(*run.hints().values()))
                return Verdict(mutant, lost=True, by_value=not run.raised, hints=hints)
        return Verdict(mutant)
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Mutation:
    """The grading of all mutants."""

    def __init__(self, subject: Subject, only: str = ""):
        """With `only`, the mutants of that part."""
        self.verdicts: list[Verdict] = []
        self._subject = subject
        files = sorted(subject.homework.question_files)
        self._mutants = [m for name in files for m in mutants_of(subject.solution / name)]
        graded = subject.homework.numbers  # an optional part has no points that a mutant could lose
        self._mutants = [m for m in self._mutants if m.part in graded and only in ("", m.part)]
        self._checked = load_checked(subject)

    def tasks(self, graders: Graders, folder: Path) -> list[Callable[[], None]]:
        """What is to be done, in any order."""

        def grade_one(mutant: Mutant) -> None:
            self.verdicts.append(grade(self._subject, mutant, folder, graders))

        return [partial(grade_one, mutant) for mutant in self._mutants]

    def section(self) -> Section:
        """The score, when all is done."""
        return score(self.verdicts, self._checked)


def load_checked(subject: Subject) -> Checked:
    """The homework's mutants.yml.

    Raises:
        UserError: it does not exist, or names an unknown hint.
    """
    path = subject.mutants
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; see staff/audit/mutants.py") from None
    equivalent = {
        (str(part), change)
        for part, reasons in content["equivalent"].items()
        for changes in reasons.values()
        for change in changes
    }
    hints: dict[tuple[str, str], set[frozenset[str]]] = {}
    for part, allowed in content["hints"].items():
        for names, changes in allowed.items():
            together = frozenset(names.split(" + "))
            if unknown := together - set(subject.hints):
                raise UserError(f"{path}: there is no hint {min(unknown)!r}")
            for change in changes:
                hints.setdefault((str(part), change), set()).add(together)
    least = content.get("least_hints", LEAST_HINTS)
    return Checked(frozenset(equivalent), {key: frozenset(sets) for key, sets in hints.items()}, least)


def score(verdicts: Iterable[Verdict], checked: Checked) -> Section:
    """The score and the rate of hints, and what is not as it was checked."""
    verdicts, problems = list(verdicts), []
    known = {(v.mutant.part, v.mutant.change) for v in verdicts}
    parts = {v.mutant.part for v in verdicts}
    listed = {key for key in (*checked.equivalent, *checked.hints) if key[0] in parts}
    problems += [f"mutants.yml: {part}: {change} is no mutant" for part, change in sorted(listed - known)]
    for verdict in verdicts:
        key = verdict.mutant.part, verdict.mutant.change
        name = f"{verdict.mutant.part}: {verdict.mutant.change}"
        if verdict.problem:
            problems.append(f"{name}: could not be graded: {verdict.problem}")
        elif verdict.lost == (key in checked.equivalent):
            problems.append(f"{name}: " + ("loses points, but is equivalent" if verdict.lost else "keeps all points"))
        if verdict.by_value and verdict.hints and verdict.hints not in checked.hints.get(key, ()):
            problems.append(f"{name}: gets the hint {' + '.join(sorted(verdict.hints))}, which nobody has checked")
    candidates = [v for v in verdicts if (v.mutant.part, v.mutant.change) not in checked.equivalent]
    by_value = [v for v in candidates if v.lost and v.by_value]
    counts = (
        ("lose points", sum(v.lost for v in candidates), len(candidates), LEAST_SCORE),
        (
            "of those that fail by a value get a hint",
            sum(bool(v.hints) for v in by_value),
            len(by_value),
            checked.least_hints,
        ),
    )
    shares = [f"{part} of {whole} {what} ({part / max(1, whole):.1%})" for what, part, whole, _ in counts]
    for share, (_, part, whole, least) in zip(shares, counts, strict=True):
        if part < least * whole:
            problems.append(f"mutants: only {share}, not {least:.0%}")
    equivalent = len(verdicts) - len(candidates)
    text = (
        f"{len(verdicts)} small changes of the answers, {equivalent} of them right, too. Of the others, {shares[0]}; "
    )
    return Section("Mutation score", f"{text}{shares[1]}.", problems=tuple(problems))


def main() -> int:
    """Grade all mutants, print what becomes of each, and the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homework", default=DEFAULT_HOMEWORK, metavar="NAME", help="(%(default)s)")
    parser.add_argument("--only", default="", metavar="PART", help="the mutants of one part")
    parser.add_argument("--jobs", type=int, default=2, help="gradings at a time (%(default)s)")
    args = parser.parse_args()
    subject = load_subject(args.homework)
    mutation = Mutation(subject, args.only)
    with tempfile.TemporaryDirectory(prefix="mutants-") as name, ThreadPoolExecutor(args.jobs) as pool:
        folder = Path(name)
        folder.chmod(0o711)
        with Graders(subject, folder) as graders:
            tasks = mutation.tasks(graders, folder)
            list(tqdm(pool.map(lambda task: task(), tasks), total=len(tasks), unit="mutant"))
    for verdict in sorted(mutation.verdicts, key=lambda v: (v.mutant.part, v.lost, v.by_value, sorted(v.hints))):
        fate = "survives" if not verdict.lost else "value" if verdict.by_value else "exception"
        print(f"{verdict.mutant.part} {fate:<9} {' + '.join(sorted(verdict.hints)) or '-':<24} {verdict.mutant.change}")
    result = mutation.section()
    print("\n".join([*result.problems, result.text]))
    return 1 if result.problems else 0


if __name__ == "__main__":
    run_command(main)
