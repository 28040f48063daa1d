"""Inputs for the fuzzed readers: valid ones, and Hypothesis strategies that follow each format's grammar."""

import dataclasses
import io
import json
import pickle
import pickletools
import re
import socket
import stat
import types
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, Union, get_args, get_origin

import numpy as np
import yaml
from hypothesis import strategies as st

from src.files import ROOT
from src.grading.record import RECORD
from src.grading.sandbox.messages import Foreign, Raised, Returned
from src.grading.sandbox.protocol import DTYPES, Message, send
from staff.audit.subject import Subject

Bytes = st.SearchStrategy[bytes]

_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


# --- a submission: a zip ---


def _zip(entries: list[tuple[str, bytes, int, int]]) -> bytes:
    """A zip of (name, content, mode, compression method)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings(action="ignore"):  # some names come twice
        for name, content, mode, method in entries:
            info = zipfile.ZipInfo(name or "x")
            info.external_attr, info.compress_type = mode << 16, method
            archive.writestr(info, content)
    return buffer.getvalue()


def _zips(subject: Subject) -> Bytes:
    homework = subject.homework
    artifacts = [artifact.name for part in homework.parts for artifact in part.artifacts]
    names = st.lists(
        st.sampled_from(["questions", "submit", *homework.question_files, RECORD, *artifacts[:3], "..", ".", "", "a",
                         "C:", "\u0130.py", "x" * 300, "__MACOSX"]),
        min_size=1, max_size=5,
    ).map("/".join)  # fmt: skip
    entry = {"made_with": {}, "questions": "questions", "code": {}, "files": {}}
    record = {"parts": dict.fromkeys(homework.numbers, entry)}
    contents = st.binary(max_size=60) | st.sampled_from(
        [b"x = 1\n", b"\xef\xbb\xbfx = 1\r\n", b"\xff\xfex\0=\0001\0", b"(" * 300, b"-" * 5000 + b"1", b"{}",
         json.dumps(record).encode(), pickle.dumps([True] * 300), pickle.dumps(np.zeros(100)), b"[" * 5000,
         b"\0" * 100_000]
    )  # fmt: skip
    modes = st.sampled_from([0, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755, stat.S_IFIFO | 0o644])
    methods = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    return st.lists(st.tuples(names, contents, modes, methods), max_size=6).map(_zip)


def _valid_zips(subject: Subject) -> list[bytes]:
    top = PurePosixPath("top")
    regular, deflated = stat.S_IFREG | 0o644, zipfile.ZIP_DEFLATED
    files = [
        (str(top / "questions" / path.name), path.read_bytes(), regular, deflated)
        for path in sorted(subject.solution.glob("*.py"))
    ]
    name = subject.homework.parts[0].artifacts[0].name
    submit = [(str(top / "submit" / name), b"a\n", 0, 0), (str(top / "submit" / RECORD), b"{}", 0, deflated)]
    return [_zip(files), _zip([*files, *submit])]


# --- a pickle ---

_OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
_COMMON = [b"]", b"}", b"(", b"e", b"u", b"K\x01", b"\x94", b"h\x00", b"2", b"\x8c\x01a", b"R", b"b", b"\x85", b"\x86",
           b"\x87", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"X\xff\xff\xff\x7f", b"I99999\n"]  # fmt: skip


def _pickles(subject: Subject) -> Bytes:
    pieces = st.lists(
        st.sampled_from(_OPCODES)
        | st.tuples(st.sampled_from(_OPCODES), st.binary(max_size=9)).map(b"".join)
        | st.sampled_from(_COMMON),
        max_size=40,
    )
    return pieces.map(lambda codes: b"\x80\x04" + b"".join(codes) + b".")


def _valid_pickles(subject: Subject) -> list[bytes]:
    values = [[True, False] * 9, {"a": [1, 2.5, None, "x" * 300, b"\0" * 30]}, np.arange(5.0), 10**40]
    return [pickle.dumps(value, protocol) for value in values for protocol in range(6)]


# --- a message of the sandbox's protocol ---


def _frame(value: object, blob: bytes) -> bytes:
    text = json.dumps(value).encode()
    return len(text).to_bytes(4, "big") + len(blob).to_bytes(4, "big") + text + blob


_SIZES = st.sampled_from([0, 1, 2, 5, -1, 2**31, 2**63, 1.5, None])
_ARRAYS = st.builds(
    lambda dtype, shape, offset: {"array": [dtype, shape, offset]},
    st.sampled_from([*DTYPES, "int64", "int64", "object", "V8", None]),
    st.lists(st.sampled_from([0, 1, 2])) | st.lists(_SIZES, max_size=9) | st.sampled_from([{}, "", 3, None]),
    st.sampled_from([0, 0, 1, 8, 79, 80, 81, -1, 2**31, 2**63, 0.0, None]),
)
_ROUGH = _PLAIN | _ARRAYS | st.lists(_ARRAYS | _PLAIN, max_size=3)


def _frames(subject: Subject) -> Bytes:
    """Frames of every message class, in which at most one field is wrong, and frames of anything."""
    classes = [cls for cls in Message.ops.values() if dataclasses.is_dataclass(cls)]
    likely = [Returned, Raised, *map(type, subject.facts.questions)]
    messages = st.sampled_from(likely) | st.sampled_from(classes)
    objects = messages.flatmap(_objects)
    anything = st.dictionaries(st.text(max_size=4) | st.just("op"), objects | _ROUGH, max_size=4)
    return st.tuples(objects | anything | st.lists(objects, max_size=2), st.binary(max_size=80)).map(
        lambda pair: _frame(*pair)
    )


def _objects(cls: type[Message]) -> st.SearchStrategy[dict[str, Any]]:
    """The JSON of a message of this class, with at most one field that is wrong, or unknown."""
    hints = {field.name: field.type for field in dataclasses.fields(cls)}
    right = st.fixed_dictionaries({"op": st.just(cls.__name__), **{name: _of_type(hints[name]) for name in hints}})
    changes = st.dictionaries(st.sampled_from([*hints, "op", "unknown"]), _ROUGH, max_size=1)
    return st.tuples(right, st.just({}) | changes).map(lambda pair: pair[0] | pair[1])


def _of_type(hint: Any) -> st.SearchStrategy[Any]:
    """The JSON of a field that is declared with the type `hint`."""
    plain = {bool: st.booleans(), int: st.integers(), str: st.text(), float: st.floats(), types.NoneType: st.none()}
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in plain:
        return plain[hint]
    if origin in (Union, types.UnionType):
        return st.one_of([_of_type(arm) for arm in arguments])
    if origin is tuple:
        return st.lists(_of_type(arguments[0]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, Message):
        return st.sampled_from([hint, *hint.__subclasses__()]).filter(dataclasses.is_dataclass).flatmap(_objects)
    return _ARRAYS


def _sent(message: Message) -> bytes:
    """The frame that `send` makes of it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(theirs, message)
        theirs.close()
        return ours.recv(1_000_000)


def _valid_frames(subject: Subject) -> list[bytes]:
    ids = np.array([[1, 2, 3]])
    messages = [
        *subject.facts.questions,
        Returned("tensor", "int64", ids, False, False, (ids,)),
        Returned("plain", "float", -1.5, False, False, ()),
        Returned("several", "tuple", Foreign("tuple"), False, False, (), (ids, 1.5)),
        Raised("ValueError", "no", None),
        Raised("NotImplementedError", f"questions/{subject.homework.question_files[0]}:7", subject.homework.numbers[0]),
    ]
    return [_sent(message) for message in messages]


# --- a config.yml ---

_KNOWN = yaml.safe_load((ROOT / "config.yml").read_text(encoding="utf-8"))
_VALUES = st.recursive(
    _PLAIN | st.sampled_from([10**400, -(10**400), float("nan"), float("inf"), "", "..", "a/b", "1e5", 2**64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def _configs(subject: Subject) -> Bytes:
    changes = st.dictionaries(st.sampled_from([*_KNOWN, "unknown"]), _VALUES, min_size=1, max_size=3)
    remote = st.dictionaries(st.sampled_from(["file", "url", "size", "sha256", "x"]), _VALUES, max_size=4)
    files = st.dictionaries(st.sampled_from(["weights", "encoder", "merges"]), remote | st.lists(remote) | _VALUES)

    def text(pair: tuple[dict[str, Any], dict[str, Any] | None]) -> bytes:
        checkpoint = {"checkpoint": _KNOWN["checkpoint"] | pair[1]} if pair[1] else {}
        return str(yaml.safe_dump(_KNOWN | pair[0] | checkpoint)).encode()

    return st.tuples(changes, st.none() | files).map(text)


def _valid_configs(subject: Subject) -> list[bytes]:
    """Two real ones, and some that hold more than they seem to: YAML's anchors and aliases."""
    bundled = (ROOT / "checkpoints" / subject.model / "config.yml").read_text(encoding="utf-8")
    links = [f"&{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)]
    bomb = f"[&a [x, x, x, x, x, x, x, x, x], {', '.join(links)}]"
    bombs = [
        re.sub(r"^seed:.*", f"seed: {bomb}", bundled, flags=re.M),
        f"? {bomb}\n: 1\n",
        bomb,
        "&a [*a]\n",
        "? [a]\n: b\n",
    ]
    return [text.encode() for text in (bundled, (ROOT / "config.yml").read_text(encoding="utf-8"), *bombs)]


# --- all of them ---

_GRAMMARS: Mapping[str, tuple[Callable[[Subject], list[bytes]], Callable[[Subject], Bytes]]] = {
    "submission": (_valid_zips, _zips),
    "pickle": (_valid_pickles, _pickles),
    "protocol": (_valid_frames, _frames),
    "config": (_valid_configs, _configs),
}
_PIECES = [b"", b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"../", b"\0" * 64, b"*", b"&", b"!!python/object:os.system ",
           b"1e999", b"-1", b"9" * 5000, b"[" * 2000, b"(" * 200]  # fmt: skip


def _mutated(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """`content` with pieces replaced: (where, as a share of its length; how many bytes; by what)."""
    for where, length, piece in changes:
        at = int(where * len(content))
        content = content[:at] + piece + content[at + length :]
    return content


def inputs(target: str, subject: Subject) -> Bytes:
    """Valid inputs with changes, inputs by the grammar, and those with changes."""
    valid, grammar = _GRAMMARS[target]
    piece = st.sampled_from(_PIECES) | st.binary(max_size=8)
    change = st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 2, 4, 8, 40]), piece)
    source = st.sampled_from(valid(subject)) | grammar(subject)
    return st.builds(_mutated, source, st.just([]) | st.lists(change, max_size=6))
