"""Read Gradescope's submission_metadata.yml: who handed in which submission, and when.

    submission_123:
      :submitters:
      - :name: Jane Doe
        :sid: '456'
        :email: jane@example.edu
      :created_at: 2023-10-12 04:12:32.123456000 Z
      :score: 10.0
      :status: processed
      :results: …
      :history:
      - :id: 122
        …

The file is read one entry at a time, so that a broken entry costs only itself, and from the events of the YAML parser:
no tag makes an object, aliases are refused, and 10,000 entries take a second.
"""

import itertools
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

FILE = "submission_metadata.yml"
MAX_SIZE = 200_000_000  # bytes: 10,000 submissions with 20 kB of results each
MAX_DEPTH = 20  # nested lists and mappings
MAX_NAME, MAX_STUDENTS = 200, 50  # characters of a name; students of one submission
FOLDER = re.compile(r"submission_\w+", re.ASCII)  # of one submission in the export

# Where an entry begins, and the lines of its results: long, and not needed. Ruby indents all else.
_ENTRY = re.compile(rf"^[\"']?{FOLDER.pattern}[\"']?:", re.MULTILINE | re.ASCII)
_RESULTS = re.compile(r"^( +):results:.*\n(?:(?:\1[ -].*| *)(?:\n|\Z))*", re.MULTILINE)
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[ Tt](\d\d:\d\d:\d\d)(\.\d{1,6})?\d*\s*(Z|UTC|[+-]\d\d:?\d\d)?", re.ASCII)
_STEERING = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}  # turn the text after them around
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a build without the C library has only the slow one


@dataclass(frozen=True)
class Student:
    """Who handed in; "" is unknown."""

    name: str
    sid: str
    email: str

    @property
    def identity(self) -> str:
        """What two submissions of one student share; "" where nothing certain does."""
        return self.email.casefold() or self.sid


@dataclass(frozen=True)
class Entry:
    """What the file says about one submission."""

    students: tuple[Student, ...] = ()
    created_at: datetime | None = None
    score: float | None = None
    earlier: tuple[str, ...] = ()  # the folders of the submissions that this one replaced
    problem: str = ""  # what could not be read of it


class _Refused(Exception):
    """Why a piece of the file is not read."""


def read_metadata(content: bytes) -> tuple[dict[str, Entry], list[str]]:
    """Folder of a submission → its entry; and what is wrong with the file, a line each."""
    if len(content) > MAX_SIZE:
        return {}, [too_large(len(content))]
    text = content.decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    entries: dict[str, Entry] = {}
    problems: list[str] = []
    for start, end in itertools.pairwise([0, *(match.start() for match in _ENTRY.finditer(text)), len(text)]):
        try:
            values = list(_values(_RESULTS.sub("", text[start:end])))
        except (yaml.YAMLError, _Refused) as error:
            line = text.count("\n", 0, start) + 1
            why = getattr(error, "problem", None) or " ".join(str(error).split())
            problems.append(f"{FILE}: the entry in line {line} cannot be read ({why[:200]}); export it again")
            continue
        for folder, value in (pair for mapping in values if isinstance(mapping, dict) for pair in mapping.items()):
            if not FOLDER.fullmatch(folder):
                problems.append(f"{FILE}: {clean(folder)!r} is not the folder of a submission; ignored")
            elif folder in entries:
                problems.append(f"{FILE}: holds two entries for {folder}; the first counts")
            else:
                entries[folder] = _entry(value)
    if not entries and not problems:
        problems.append(f"{FILE}: holds no entry; names and dates stay unknown; export it again")
    return entries, problems


def too_large(size: int) -> str:
    """What to say of a file of `size` bytes."""
    most = MAX_SIZE / 1e6
    return f"{FILE}: has {size / 1e6:.0f} MB, more than {most:.0f}; names and dates stay unknown; export it again"


def clean(text: str) -> str:
    """`text` in one line of at most `MAX_NAME` characters, without those that steer a terminal or turn the text."""
    return "".join(
        "?" if character in _STEERING or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character
        for character in text[:MAX_NAME].strip()
    )


def _values(text: str) -> Iterator[Any]:
    """The YAML documents in `text`, of dictionaries, lists and strings.

    Raises:
        _Refused: there are aliases in it, or it is nested too deeply.
        yaml.YAMLError: it is not YAML.
    """
    open_values: list[list[Any]] = [[]]
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise _Refused("it has YAML aliases")
        if isinstance(event, yaml.ScalarEvent):
            is_null = not event.style and event.value in ("", "~", "null")
            open_values[-1].append("" if is_null else event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(open_values) > MAX_DEPTH:
                raise _Refused(f"it is nested more than {MAX_DEPTH} deep")
            open_values.append([])
        elif isinstance(event, yaml.CollectionEndEvent):
            items = open_values.pop()
            if isinstance(event, yaml.MappingEndEvent):
                pairs = zip(items[::2], items[1::2], strict=True)
                open_values[-1].append({key: value for key, value in pairs if isinstance(key, str)})
            else:
                open_values[-1].append(items)
    yield from open_values[0]


def _entry(value: Any) -> Entry:
    """The entry that the YAML `value` describes; what is missing or of another form in it is left out."""
    students = [
        Student(*(_text(submitter, key) for key in ("name", "sid", "email")))
        for submitter in _list(value, "submitters")[:MAX_STUDENTS]
    ]
    when = _text(value, "created_at")
    moment = _moment(when)
    earlier = tuple(f"submission_{_text(before, 'id')}" for before in _list(value, "history"))
    problem = "" if moment or not when else f"{FILE}: the date {when!r} cannot be read"
    return Entry(tuple(students), moment, _number(_text(value, "score")), earlier, problem)


def _list(value: Any, key: str) -> list[Any]:
    found = value.get(f":{key}", value.get(key)) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _text(value: Any, key: str) -> str:
    found = value.get(f":{key}", value.get(key)) if isinstance(value, dict) else None
    return clean(found) if isinstance(found, str) else ""


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _moment(text: str) -> datetime | None:
    """The moment that `text` names as YAML and Ruby write it; in UTC where it names no zone."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    date, time, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{fraction or ''}{'' if zone in (None, 'Z', 'UTC') else zone}")
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
