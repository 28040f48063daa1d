"""Every small syntactic change of a block of the reference answers."""

import ast
import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from staff.make_stubs import filled

_OPERATORS: Mapping[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add, ast.Mult),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult, ast.Sub, ast.Add, ast.FloorDiv),
    ast.Pow: (ast.Mult, ast.Div),
}
_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
# Functions and methods that are easily taken for each other.
_ALIKE = (
    ("sum", "mean", "prod", "max", "min", "median", "std"),
    ("log_softmax", "softmax", "sigmoid"),
    ("softmax", "log_softmax", "sigmoid"),
    ("logsumexp", "sum", "mean", "amax", "softmax", "log_softmax"),
    ("gather", "index_select", "take_along_dim"),
    ("append", "extend"),
    ("item", "mean", "tolist"),
    ("unsqueeze", "squeeze"),
    ("multinomial", "argmax", "topk", "bernoulli"),
)


@dataclass(frozen=True)
class Mutant:
    """A block of the reference answers with one small change."""

    part: str
    file: str
    change: str  # the changed statements, as Python writes them
    source: str  # of the whole file


def mutants_of(path: Path) -> Iterator[Mutant]:
    """All mutants of the blocks in the file at `path`, each once."""
    source = path.read_text(encoding="utf-8")
    blocks: dict[str, str] = {}
    marked = filled(source, lambda part, code: blocks.setdefault(part, code) and f"BLOCK[{part!r}]")
    for part, code in blocks.items():
        kinds = _kinds(ast.parse(marked), part)
        original = _Folded().visit(ast.parse(code))
        seen = {ast.dump(original)}
        for tree in _changed(original, kinds):
            if ast.dump(tree) not in seen:
                seen.add(ast.dump(tree))
                text = ast.unparse(tree) or "pass"
                whole = filled(source, lambda other, right, p=part, t=text: t if other == p else right)  # type: ignore[misc]
                yield Mutant(part, path.name, _difference(original, tree), whole)


class _Folded(ast.NodeTransformer):
    """Makes one constant of a minus and a number."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return ast.Constant(-node.operand.value)  # type: ignore[operator]
        return node


def _difference(original: ast.Module, changed: ast.Module) -> str:
    """The statements of `changed` that differ from those of `original`, or the one that it lacks or has twice."""
    before, after = ([ast.unparse(s) for s in tree.body] for tree in (original, changed))
    if len(after) > len(before):
        return "(twice) " + next(line for line in after if after.count(line) > 1)
    if len(after) < len(before):
        return "(dropped) " + next(line for line in before if line not in after)
    new = [a for a, b in zip(after, before, strict=True) if a != b]
    return ("(order) " if sorted(after) == sorted(before) else "") + "; ".join(new)


# --- the names in scope ---


def _kinds(tree: ast.Module, part: str) -> dict[str, str]:
    """Name → kind, for the parameters of the function around the block of `part`, and what it assigned before."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for block in ast.walk(function):
            if isinstance(block, ast.Expr) and ast.unparse(block) == f"BLOCK[{part!r}]":
                before = [n for n in ast.walk(function) if isinstance(n, ast.Assign) and n.lineno < block.lineno]
                kinds = _kinds_of_targets(ast.Module(before, []))
                return {argument.arg: _kind(argument.annotation) for argument in function.args.args} | kinds
    raise AssertionError(f"the block of {part} is in no function")


def _kind(annotation: ast.expr | None) -> str:
    text = ast.unparse(annotation) if annotation else ""
    if "Tensor" in text:
        return "tensor"
    return "number" if "float" in text or "int" in text else "object"


def _kinds_of_targets(tree: ast.AST) -> dict[str, str]:
    """Name → kind, for the names that are assigned in `tree`: a list or None is an object, all else a tensor."""
    kinds: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            is_object = isinstance(node.value, ast.List) or ast.unparse(node.value) == "None"
            names = [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
            kinds |= {n: "object" if is_object else "tensor" for n in names if n not in kinds and n != "_"}
    return kinds


# --- the changes ---


def _changed(original: ast.Module, kinds: Mapping[str, str]) -> Iterator[ast.Module]:
    """Copies of `original`, each with one change."""
    body = original.body
    for i, statement in enumerate(body):
        yield _module([*body[:i], *body[i + 1 :]])
        if isinstance(statement, ast.Expr):  # done for its effect, such as append
            yield _module([*body[: i + 1], *body[i:]])
        if i:
            yield _module([*body[: i - 1], body[i], body[i - 1], *body[i + 1 :]])
        known = dict(kinds) | _kinds_of_targets(_module(body[:i]))
        for position, node in enumerate(ast.walk(statement)):
            for new in _replacements(node, known):
                changed = copy.deepcopy(statement)
                target = next(itertools.islice(ast.walk(changed), position, None))
                yield _module([*body[:i], _Replace(target, new).visit(changed), *body[i + 1 :]])


def _module(body: Sequence[ast.stmt]) -> ast.Module:
    return ast.fix_missing_locations(ast.Module(list(body) or [ast.Pass()], []))


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST):
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self._new if node is self._old else self.generic_visit(node)


def _replacements(node: ast.AST, kinds: Mapping[str, str]) -> Iterator[ast.AST]:
    """What may stand in the place of `node`."""
    if isinstance(node, ast.Return) and node.value:
        yield ast.Return(_negative(node.value))
        yield ast.Expr(node.value)
    elif isinstance(node, ast.Assign):
        yield ast.Assign(node.targets, _negative(node.value))
        if isinstance(node.targets[0], ast.Tuple):
            yield ast.Assign([ast.Tuple(node.targets[0].elts[::-1], ast.Store())], node.value)
    elif isinstance(node, ast.BinOp):
        yield from (ast.BinOp(node.left, operator(), node.right) for operator in _OPERATORS.get(type(node.op), ()))
        yield from (node.left, node.right, ast.BinOp(node.right, node.op, node.left))
    elif isinstance(node, ast.Compare):
        yield from (ast.Compare(node.left, [operator()], node.comparators) for operator in _COMPARISONS)
        yield ast.Compare(node.comparators[0], node.ops, [node.left])
        yield ast.UnaryOp(ast.Not(), node)
        yield node.left
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.Subscript):
        yield from _of_subscript(node)
    elif isinstance(node, ast.Slice):
        yield from _of_slice(node)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in (node.value - 1, node.value + 1, 0, -node.value, 2 * node.value):  # type: ignore[operator]
            yield ast.Constant(value)
    elif isinstance(node, ast.Name):
        yield from _of_name(node, kinds)


def _negative(value: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.USub(), value)


def _of_call(node: ast.Call) -> Iterator[ast.AST]:
    """Without the call, without one of its arguments, with two of them swapped, or of another function."""
    arguments = node.args
    if isinstance(node.func, ast.Attribute) and not _is_module(node.func.value):
        yield node.func.value
    yield from arguments
    for i in range(len(arguments)):
        yield ast.Call(node.func, [*arguments[:i], *arguments[i + 1 :]], node.keywords)
    for i, keyword in enumerate(node.keywords):
        others = [*node.keywords[:i], *node.keywords[i + 1 :]]
        yield ast.Call(node.func, arguments, others)
        if isinstance(keyword.value, ast.Attribute):  # a number, such as that of a config
            for near in (ast.BinOp(keyword.value, ast.Add(), ast.Constant(1)), ast.Constant(0), ast.Constant(1)):
                yield ast.Call(node.func, arguments, [*others, ast.keyword(keyword.arg, near)])
    for i, j in itertools.combinations(range(len(arguments)), 2):
        swapped = list(arguments)
        swapped[i], swapped[j] = arguments[j], arguments[i]
        yield ast.Call(node.func, swapped, node.keywords)
    if isinstance(node.func, ast.Attribute):
        for first, *others in _ALIKE:
            for name in others if node.func.attr == first else ():
                yield ast.Call(ast.Attribute(node.func.value, name, ast.Load()), arguments, node.keywords)


def _is_module(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "torch"


def _of_subscript(node: ast.Subscript) -> Iterator[ast.AST]:
    """Without the subscript, or without one of its indices."""
    yield node.value
    if isinstance(node.slice, ast.Tuple):
        indices = node.slice.elts
        for i in range(len(indices)):
            rest = [*indices[:i], *indices[i + 1 :]]
            index = rest[0] if len(rest) == 1 else ast.Tuple(rest, ast.Load())
            yield ast.Subscript(node.value, index, node.ctx)
        for i in range(1, len(indices)):
            swapped = [*indices[: i - 1], indices[i], indices[i - 1], *indices[i + 1 :]]
            yield ast.Subscript(node.value, ast.Tuple(swapped, ast.Load()), node.ctx)


def _of_slice(node: ast.Slice) -> Iterator[ast.AST]:
    """Other bounds; those that are there change as constants do."""
    first, last = ast.Constant(1), ast.Constant(-1)
    for lower in (node.lower, None, first):
        for upper in (node.upper, None, last):
            yield ast.Slice(lower, upper)
    yield ast.Slice(None, first)
    yield ast.Slice(last, None)
    yield from (ast.Constant(0), last)


def _of_name(node: ast.Name, kinds: Mapping[str, str]) -> Iterator[ast.AST]:
    """Another name of the same kind; and for a number, others near it."""
    kind = kinds.get(node.id)
    yield from (ast.Name(name, node.ctx) for name in kinds if kinds[name] == kind and name != node.id)
    if kind == "number":
        yield from (ast.BinOp(ast.Constant(1), ast.Div(), node), ast.BinOp(node, ast.Mult(), node))
        yield ast.BinOp(node, ast.Pow(), ast.Constant(0.5))
        yield from (ast.BinOp(node, operator, ast.Constant(0.1)) for operator in (ast.Add(), ast.Sub()))
        yield ast.Constant(1)
