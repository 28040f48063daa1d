"""A case of the audit: a YAML file that changes the reference answers, and declares what the grader must make of it.

    about: The mean of the tokens' log-probabilities instead of their sum.
    blocks:
      6.4: |
        logits, _ = model(text)
        ...
    points: {6.4: 0}        # of the parts that do not earn all of theirs
    hint: mean              # the name in the homework's HINTS, or a list of names

The keys, of which only `about` is required:

blocks    part → the code of its block; a line `{right}` stands for the reference answer
replace   file → [[old, new], …], replacements in the reference answers
files     path in the zip, for example questions/sample.py → its text; `{right}` stands for the reference file
build     Python code that changes `files` (path in the zip → text or bytes), or writes the zip to `path` by itself. It
          may use `submit` (see `_submit`), `top` (the zip's folder), `homework`, `zipfile` and the placeholders below
points    part → points, or [at least, at most]
hint      the hints that its tests must give, all of them, and no other
says      what the output of a test, or of the whole grading, must contain
mistake   what is wrong: the "function" (the default; loses half of its part's points or more), only the "type" of what
          it returns (a quarter at most), some inputs ("partial"), or hidden ones ("fool": right on the visible tests)
seconds   how long the grading may take (120)
fast      true: belongs to the part of the audit that `make test` runs
root      true: only a grader that runs as root protects against it; an ordinary user's grader is not tested

Placeholders in code: `{root}` is the repository, `{results}` the file of the results, `{outside}` a folder where
everybody may write, `{port}` a port on 127.0.0.1 at which the audit listens, `{bundled}` the name of the model,
`{worker}` the global names of the worker's main module, which student code cannot import but finds in its stack. Code
that reaches what it must not reach writes TAKEN.
"""

import hashlib
import json
import re
import textwrap
import zipfile
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from src.errors import UserError
from src.grading.record import RECORD
from staff.audit.subject import Subject
from staff.make_stubs import filled

KINDS = ("right", "wrong", "hostile")
_WORKER = "next(f.f_globals for f, _ in __import__('traceback').walk_stack(None) if 'run_call' in f.f_globals)"
# What share of its part's points a wrong answer must lose, at least and at most.
LOSSES = {"function": (0.5, 1), "type": (0.01, 0.25), "partial": (0.01, 1), "fool": (0.25, 1)}


class CaseError(UserError):
    """A case that contradicts itself, or the homework."""


@dataclass(frozen=True)
class Case:
    """What one file of `cases/` says; see above."""

    subject: Subject = field(repr=False)
    kind: str
    name: str
    about: str
    blocks: dict[str, str] = field(default_factory=dict)
    replace: dict[str, list[list[str]]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    build: str = ""
    points: dict[str, list[float]] = field(default_factory=dict)
    hint: list[str] = field(default_factory=list)
    says: str = ""
    mistake: str = "function"
    seconds: float = 120
    fast: bool = False
    root: bool = False

    def expected(self) -> dict[str, list[float]]:
        """Part → the points that it must earn, at least and at most."""
        return {part: [points, points] for part, points in self.subject.points.items()} | self.points

    def parts(self, whole: bool = True) -> tuple[str, ...]:
        """The parts to grade: those whose answers it can change; none, which means all, where it can change all.

        Right and wrong answers: the parts that run a file with a block or a replacement of theirs; but all of a right
        one if it is to be graded as a `whole`. Hostile ones: the parts that they attack, and another one, which shows
        that the grading continues.
        """
        homework, touched = self.subject.homework, {*self.points, *self.blocks}
        is_whole = whole and self.kind == "right"
        is_optional = any(homework.part(number).optional for number in touched)
        if not is_optional and (is_whole or self.files or self.build or touched >= set(homework.numbers)):
            return ()
        if self.kind == "hostile":
            return tuple(sorted({*touched, self._witness(touched)}))
        if is_optional and not self.replace:
            return tuple(sorted(touched))  # a file of optional parts has many
        changed = {homework.part(number).file for number in touched} | set(self.replace)
        return tuple(n for n in homework.all_numbers if changed & set(homework.files_of(homework.part(n))))

    def _witness(self, touched: set[str]) -> str:
        """Another part, if possible one that does not run the files of the parts `touched`."""
        homework = self.subject.homework
        files = {homework.part(number).file for number in touched}
        others = [part for part in reversed(homework.parts) if part.number not in touched and not part.optional]
        return min(others, key=lambda part: len(files & set(homework.files_of(part)))).number

    def write(self, path: Path, placeholders: dict[str, Any]) -> None:
        """Write the submission, a zip, to `path`.

        Raises:
            CaseError: a block or a text to be replaced does not exist.
        """
        texts, top = self.texts(), self.subject.homework.slug
        placeholders = placeholders | {"bundled": self.subject.model, "worker": _WORKER}
        for placeholder, value in placeholders.items():
            texts = {name: text.replace("{" + placeholder + "}", str(value)) for name, text in texts.items()}
        if self.build:
            code = compile(self.build, f"{self.kind}/{self.name}.yml", "exec")
            given = {"path": path, "files": texts, "top": top, "homework": self.subject.homework, "zipfile": zipfile}
            exec(code, given | placeholders | {"submit": partial(_submit, self.subject, texts)})
            if path.exists():
                return
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in texts.items():
                archive.writestr(f"{top}/{name}", text)

    def texts(self) -> dict[str, str]:
        """Path in the zip → what the case puts there, with its placeholders.

        Raises:
            CaseError: a block or a text to be replaced does not exist.
        """
        texts = self._questions()
        for name, text in self.files.items():
            texts[name] = text.replace("{right}", texts.get(name, ""))
        return texts

    def _questions(self) -> dict[str, str]:
        """The reference answers with the blocks and the replacements of this case."""
        texts: dict[str, str] = {}
        unused = set(self.blocks)
        for path in sorted(self.subject.solution.glob("*.py")):

            def answer(part: str, right: str) -> str:
                unused.discard(part)
                own = self.blocks.get(part, "{right}")
                return re.sub(r"^( *)\{right\}$", lambda m: textwrap.indent(right, m[1]), own, flags=re.MULTILINE)

            text = filled(path.read_text(encoding="utf-8"), answer)
            for old, new in self.replace.get(path.name, []):
                if old not in text:
                    raise CaseError(f"{self.kind}/{self.name}.yml: {path.name} does not contain {old!r}")
                text = text.replace(old, new)
            texts[f"questions/{path.name}"] = text
        unused |= {name for name in self.replace if f"questions/{name}" not in texts}
        if unused:
            raise CaseError(f"{self.kind}/{self.name}.yml: there is no block or file {min(unused)}")
        return texts


def _submit(subject: Subject, files: dict[str, Any], made: dict[str, bytes]) -> None:
    """Add the artifacts `made` to `files`, and a record with their right hashes, so that the grader opens them."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}
    parts = {
        part.number: {"made_with": {"model": subject.model}, "questions": "questions", "code": {}, "files": hashes}
        for part in subject.homework.parts
        if any(artifact.name in made for artifact in part.artifacts)
    }
    record = json.dumps({"parts": parts})
    files |= {f"submit/{name}": content for name, content in made.items()} | {f"submit/{RECORD}": record}


def load(path: Path, subject: Subject) -> Case:
    """The case in the file `path`.

    Raises:
        CaseError: it contradicts itself, or the homework.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise CaseError(f"{where}: is not YAML ({' '.join(str(error).split())})") from None
    known = {f.name for f in fields(Case)} - {"subject", "kind", "name"}
    if not isinstance(content, dict) or "about" not in content or set(content) - known:
        raise CaseError(f"{where}: has unknown keys, or no `about`; known are {', '.join(sorted(known))}")
    for key in ("blocks", "points"):
        content[key] = {str(part): value for part, value in content.get(key, {}).items()}
        if unknown := set(content[key]) - set(subject.points):
            parts = ", ".join(subject.points)
            raise CaseError(f"{where}: {key} names the part {min(unknown)}, which is not one of {parts}")
    content["points"] = {part: p if isinstance(p, list) else [p, p] for part, p in content["points"].items()}
    hint = content.get("hint", [])
    content["hint"] = [hint] if isinstance(hint, str) else hint
    if unknown := set(content["hint"]) - set(subject.hints):
        raise CaseError(f"{where}: there is no hint {min(unknown)!r} in {subject.homework.package}.hints.HINTS")
    case = Case(subject=subject, kind=path.parent.name, name=path.stem, **content)
    if case.kind == "wrong":
        _check_loss(case, where)
    return case


def _check_loss(case: Case, where: str) -> None:
    """Check that a wrong answer loses points in one part, and enough of them."""
    if len(case.points) != 1:
        raise CaseError(f"{where}: a wrong answer loses points in exactly one part, not in {len(case.points)}")
    ((part, points),) = case.points.items()
    least, most = LOSSES[case.mistake]
    lost = [1 - p / case.subject.points[part] for p in points]
    if not least <= min(lost) <= max(lost) <= most:
        raise CaseError(
            f"{where}: loses {min(lost):.0%} of {part}; with `mistake: {case.mistake}`, it must lose "
            f"{least:.0%} to {most:.0%}"
        )


def load_all(subject: Subject) -> list[Case]:
    """All cases of a homework, by kind and name.

    Raises:
        CaseError: one of them contradicts itself, or the homework.
    """
    return [load(path, subject) for kind in KINDS for path in sorted((subject.cases / kind).glob("*.yml"))]
