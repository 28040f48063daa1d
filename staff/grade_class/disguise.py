"""Copies of an answer that are meant to look like another: what the search for similar answers must see through."""

import ast
import io
import itertools
import random
import re
import tokenize
from collections.abc import Callable, Collection

WAYS: tuple[tuple[str, ...], ...] = (
    ("renamed",), ("reordered",), ("recommented",), ("renamed", "recommented"), ("renamed", "reordered"),
    ("renamed", "reordered", "recommented"),
)  # fmt: skip
_WORDS = (
    "alpha", "beta", "result", "values", "chosen", "stuff", "tmp", "first_part", "second_part", "mine", "outcome",
    "weights", "picked", "answer",
)  # fmt: skip
_REMARKS = (
    "compute this here", "see the lecture", "one for each row", "shape as above", "works now", "the last step",
    "this took me a while", "not sure why", "same as before", "in log space",
)  # fmt: skip


def disguised(code: str, ways: Collection[str], given: Collection[str], rng: random.Random) -> str:
    """`code`, a block, after these `ways` to disguise it; names in `given` stay, as code around the block uses them."""
    changes: dict[str, Callable[[str], str]] = {
        "renamed": lambda code: _renamed(code, given, rng),
        "reordered": _reordered,
        "recommented": lambda code: _recommented(code, rng),
    }
    for way in ways:
        code = changes[way](code)
    return code


def _renamed(code: str, given: Collection[str], rng: random.Random) -> str:
    """`code` with another name for everything that it assigns."""
    nodes = list(ast.walk(_parsed(code)))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    own = sorted(names - set(given) - {"_"})
    fresh = [word for word in _WORDS if word not in code]
    for name, word in zip(own, rng.sample(fresh, len(own)), strict=True):
        code = re.sub(rf"(?<![.\w]){re.escape(name)}(?!\w|=[^=])", word, code)
    return code


def _reordered(code: str) -> str:
    """`code` with each two neighbouring lines exchanged where the result stays the same."""
    lines, body = code.splitlines(), _parsed(code).body
    starts = [0, *(statement.end_lineno or 0 for statement in body)]
    pieces = ["\n".join(lines[start:end]) for start, end in itertools.pairwise(starts)]
    first = 0
    while first + 1 < len(body):
        if _are_independent(body[first], body[first + 1]):
            pieces[first : first + 2] = reversed(pieces[first : first + 2])
            first += 1
        first += 1
    return "\n".join([*pieces, *lines[starts[-1] :]]) + "\n"


def _are_independent(one: ast.stmt, other: ast.stmt) -> bool:
    if not all(isinstance(statement, ast.Assign | ast.Expr) for statement in (one, other)):
        return False
    if isinstance(one, ast.Expr) and isinstance(other, ast.Expr):
        return False  # both act on something
    return not (_changed(one) & _names(other) or _changed(other) & _names(one))


def _names(node: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(node) if isinstance(node, ast.Name)}


def _changed(statement: ast.stmt) -> set[str]:
    """The names that get a value, and those on which a method is called for its effect."""
    if isinstance(statement, ast.Assign):
        return set().union(*map(_names, statement.targets))
    call = statement.value if isinstance(statement, ast.Expr) else None
    return _names(call.func) if isinstance(call, ast.Call) else set()


def _recommented(code: str, rng: random.Random) -> str:
    """`code` with other comments, at other places."""
    lines = code.splitlines()
    tokens = list(tokenize.generate_tokens(io.StringIO(_wrapped(code)).readline))
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start[0] - 2, token.start[1] - 1
            lines[row] = lines[row][:column].rstrip()
    ends = {token.start[0] - 2 for token in tokens if token.type == tokenize.NEWLINE}
    return "".join(
        f"{line}  # {rng.choice(_REMARKS)}\n" if row in ends and rng.random() < 0.5 else f"{line}\n"
        for row, line in enumerate(lines)
        if line
    )


def _parsed(code: str) -> ast.Module:
    """`code`, in which `return` is allowed; with the line numbers of `code`."""
    function = ast.parse(_wrapped(code)).body[0]
    assert isinstance(function, ast.FunctionDef)
    for node in ast.walk(function):
        if isinstance(node, ast.stmt):
            node.lineno, node.end_lineno = node.lineno - 1, (node.end_lineno or 1) - 1
    return ast.Module(function.body, [])


def _wrapped(code: str) -> str:
    return "def f():\n" + "".join(f" {line}\n" for line in code.splitlines())
