"""The tokens of a student's code, as the search for similar answers compares them.

Any text has tokens, also one that is not Python. A line is a whole statement, however it is wrapped.
"""

import builtins
import keyword
import re
from collections.abc import Collection
from dataclasses import dataclass

LENGTH = 4  # tokens that are compared together
NAME = "name"  # stands for every name that a student may choose
_KEPT = frozenset([*keyword.kwlist, *dir(builtins)])
_TOKEN = re.compile(
    r"""
    (?P<comment>\#[^\n]*)
    | (?P<string>[rbfuRBFU]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))
    | (?P<number>\.?\d[\w.]*)
    | (?P<name>[^\W\d]\w*)
    | (?P<end>[\n;])
    | (?P<space>[^\S\n]+|\\\n)
    | (?P<operator>\*\*|//|<<|>>|->|:=|[!=<>+\-*/%&|^@]=|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_EQUALS = re.compile(r"\s*=(?!=)")
Gram = tuple[str, ...]  # neighbouring tokens


@dataclass(frozen=True)
class Line:
    """One statement."""

    tokens: tuple[str, ...]
    first: int  # its lines in the text, from 0
    last: int


@dataclass(frozen=True)
class Code:
    """A text in tokens."""

    lines: tuple[Line, ...]
    comments: frozenset[str]  # without their marks, in small letters and single spaces

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return sum(len(line.tokens) for line in self.lines)


def code_of(text: str, given: Collection[str] = ()) -> Code:
    """The tokens of `text`; all names are the same, except attributes, names of arguments, Python's own and `given`."""
    lines: list[Line] = []
    comments: set[str] = set()
    tokens: list[str] = []
    row = first = depth = 0
    for match in _TOKEN.finditer(text + "\n"):
        kind, token = match.lastgroup, match[0]
        if kind == "comment":
            comments.add(" ".join(token.strip("#: \t").casefold().split()))
        elif kind == "end" and (depth <= 0 or token == ";"):
            if tokens:
                lines.append(Line(tuple(tokens), first, row))
            tokens, depth = [], 0
        elif kind not in ("end", "space"):
            first = first if tokens else row
            depth += (token in "([{") - (token in ")]}")
            is_name = kind == "name" and token not in _KEPT and token not in given
            is_argument = depth > 0 and _EQUALS.match(text, match.end())
            is_free = is_name and not is_argument and tokens[-1:] != ["."]
            tokens.append(NAME if is_free else token)
        row += token.count("\n")
    if tokens:  # a bracket is not closed
        lines.append(Line(tuple(tokens), first, row - 1))
    return Code(tuple(lines), frozenset(comments - {""}))


def names_in(text: str) -> frozenset[str]:
    """The names in the code of `text`, without comments and strings."""
    return frozenset(match[0] for match in _TOKEN.finditer(text) if match.lastgroup == "name")


def grams(line: Line) -> set[Gram]:
    """Each `LENGTH` neighbouring tokens of a line, with its start and its end; lines in another order have the same."""
    tokens = ("^", *line.tokens, "$")
    return {tokens[start : start + LENGTH] for start in range(max(1, len(tokens) - LENGTH + 1))}


def grams_of(code: Code) -> set[Gram]:
    """Those of all lines."""
    return {gram for line in code.lines for gram in grams(line)}
