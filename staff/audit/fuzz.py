"""Fuzz what reads other people's bytes: the intake, the pickle reader, the protocol's receiving end, the config reader.

    python -m staff.audit.fuzz TARGET SECONDS

Hypothesis makes inputs out of valid ones, by mutation, and out of nothing, by the format's grammar. A reader may refuse
an input with its own kind of error; anything else that it raises breaks it, and so does what it takes, in time or
memory, or leaves behind. An input that broke a reader is kept in `inputs/TARGET/` and tried again at every run.
"""

import contextlib
import hashlib
import io
import json
import os
import pickle
import pickletools
import random
import re
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from src.artifacts import write_file
from src.config import ROOT, ConfigError, load_config
from src.grading.call import Lost, outcome
from src.grading.oracle import TableModel
from src.grading.protocol import DTYPES, ProtocolError, receive
from src.intake import MAX_TOTAL, IntakeError, unpack
from src.safe_pickle import PickleError, read_float_array, read_plain
from src.submission import artifact_problems

INPUTS = Path(__file__).parent / "inputs"
SECONDS_EACH = 5.0  # of processor time for one input
MEMORY = 4_000_000_000  # bytes of address space for all of a fuzzing process
ROUND = 300  # inputs between two looks at the clock


class Broken(Exception):
    """A reader that did what it must not."""


# --- the readers, each with what it may raise ---


def submission(content: bytes, folder: Path) -> None:
    """The intake, from a zip; and what grader.py says of the submit/ in it"""
    (folder / "beside").mkdir()
    source, into = folder / "beside" / "s.zip", folder / "into" / "deep"
    into.mkdir(parents=True)
    source.write_bytes(content)
    try:
        unpack(source, into)
        artifact_problems(into, ROOT, "questions")
    except IntakeError:
        pass
    outside = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_relative_to(into)}
    if outside != {"beside", "beside/s.zip", "into"}:
        raise Broken(f"wrote {sorted(outside)}")
    files = [path for path in into.rglob("*") if not path.is_dir()]
    if any(path.is_symlink() for path in files) or sum(path.stat().st_size for path in files) > MAX_TOTAL:
        raise Broken("unpacked a link, or too much")


def pickled(content: bytes, folder: Path) -> None:
    """The readers of pickles"""
    path = folder / "p.pkl"
    path.write_bytes(content)
    for read in (read_plain, read_float_array):
        try:
            value = read(path)
        except PickleError:
            continue
        if type(value) not in (dict, list, str, bytes, int, float, bool, type(None), np.ndarray):
            raise Broken(f"read a {type(value).__name__}")


def message(content: bytes, folder: Path) -> None:
    """The receiving end of the protocol, and what the grader makes of a message"""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
        theirs.setblocking(False)
        try:
            theirs.sendall(content)
        except BlockingIOError:
            return  # longer than what is tried here
        theirs.close()
        try:
            received = receive(ours, time.monotonic() + SECONDS_EACH)
        except (EOFError, ProtocolError):
            return
    with contextlib.suppress(ProtocolError):
        TableModel(5, seed=1).answer(received)
    with contextlib.suppress(ProtocolError, Lost):
        returned = outcome(received, 1)
        returned.number()
        returned.described()


def config(content: bytes, folder: Path) -> None:
    """The reader of config.yml"""
    path = folder / "config.yml"
    path.write_bytes(content)
    try:
        load_config(path, "fuzzed")
    except ConfigError as error:
        if len(str(error)) > 2000:
            raise Broken(f"an error of {len(str(error))} characters") from None


READERS = {"submission": submission, "pickle": pickled, "protocol": message, "config": config}


# --- inputs ---


def _zip(entries: list[tuple[str, bytes, int, int]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings(action="ignore"):  # some names come twice
        for name, content, mode, method in entries:
            info = zipfile.ZipInfo(name or "x")
            info.external_attr, info.compress_type = mode << 16, method
            archive.writestr(info, content)
    return buffer.getvalue()


def _frame(value: object, blob: bytes) -> bytes:
    text = json.dumps(value).encode()
    return struct.pack(">II", len(text), len(blob)) + text + blob


_NAMES = st.lists(
    st.sampled_from(["questions", "submit", "sample.py", "likelihood.py", "classifier.py", "run.json", "random_raw.pkl",
                     "classification.pkl", "samples.txt", "..", ".", "", "a", "C:", "\u0130.py", "x" * 300,
                     "__MACOSX"]),
    min_size=1, max_size=5,
).map("/".join)  # fmt: skip
_CONTENTS = st.binary(max_size=60) | st.sampled_from(
    [b"x = 1\n", b"\xef\xbb\xbfx = 1\r\n", b"\xff\xfex\0=\0001\0", b"(" * 300, b"-" * 5000 + b"1", b"{}",
     b'{"made_with": {}, "parts": {"6.4": {"questions": "questions", "code": {}, "files": {}}}}',
     pickle.dumps([True] * 300), pickle.dumps(np.zeros(100)), b"[" * 5000, b"\0" * 100_000]
)  # fmt: skip
_ZIPS = st.lists(
    st.tuples(_NAMES, _CONTENTS, st.sampled_from([0, 0o100644, 0o120777, 0o040755, 0o010644]), st.sampled_from([0, 8])),
    max_size=6,
).map(_zip)

_OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
_COMMON = [b"]", b"}", b"(", b"e", b"u", b"K\x01", b"\x94", b"h\x00", b"2", b"\x8c\x01a", b"R", b"b", b"\x85", b"\x86",
           b"\x87", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"X\xff\xff\xff\x7f", b"I99999\n"]  # fmt: skip
_PICKLES = st.lists(
    st.sampled_from(_OPCODES)
    | st.tuples(st.sampled_from(_OPCODES), st.binary(max_size=9)).map(b"".join)
    | st.sampled_from(_COMMON),
    max_size=40,
).map(lambda pieces: b"\x80\x04" + b"".join(pieces) + b".")

_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_SIZES = st.lists(st.sampled_from([0, 1, 2, 5, -1, 2**31, 2**63, 1.5, None]), max_size=9)
_PACKED = st.recursive(
    _PLAIN | st.tuples(st.sampled_from([*DTYPES, "object", "V8"]), _SIZES).map(lambda a: {"array": list(a)}),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(lambda items: {"tuple": items}),
        inner.map(lambda item: {"foreign": item}),
        st.dictionaries(
            st.sampled_from(["raised", "returned", "type", "text", "part", "kind", "dtype", "value", "model_changed",
                             "tensors", "ask", "ids", "past", "requires_grad"]),
            inner, max_size=5,
        ).map(lambda items: {"dict": items}),
    ),
    max_leaves=12,
)  # fmt: skip
_FRAMES = st.tuples(_PACKED, st.binary(max_size=80)).map(lambda pair: _frame(*pair))

_KNOWN = yaml.safe_load((ROOT / "config.yml").read_text(encoding="utf-8"))
_VALUES = st.recursive(
    st.one_of(
        _PLAIN, st.sampled_from([10**400, -(10**400), float("nan"), float("inf"), "", "..", "a/b", "1e5", 2**64])
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
_CHANGES = st.dictionaries(st.sampled_from([*_KNOWN, "unknown"]), _VALUES, min_size=1, max_size=3)
_REMOTE = st.dictionaries(st.sampled_from(["file", "url", "size", "sha256", "x"]), _VALUES, max_size=4)
_FILES = st.dictionaries(st.sampled_from(["weights", "encoder", "merges"]), _REMOTE | st.lists(_REMOTE) | _VALUES)
_CONFIGS = st.tuples(_CHANGES, st.none() | _FILES).map(
    lambda pair: yaml.safe_dump(
        _KNOWN | pair[0] | ({"checkpoint": _KNOWN["checkpoint"] | pair[1]} if pair[1] else {})
    ).encode()
)


def _seeds(target: str) -> list[bytes]:
    """Valid inputs, to start from."""
    if target == "submission":
        files = [
            (f"top/questions/{path.name}", path.read_bytes(), 0o100644, 8) for path in (ROOT / "questions").glob("*.py")
        ]
        return [
            _zip(files),
            _zip([*files, ("top/submit/samples.txt", b"a\n", 0, 0), ("top/submit/run.json", b"{}", 0, 8)]),
        ]
    if target == "pickle":
        values = [[True, False] * 9, {"a": [1, 2.5, None, "x" * 300, b"\0" * 30]}, np.arange(5.0), 10**40]
        return [pickle.dumps(value, protocol) for value in values for protocol in (0, 1, 2, 3, 4, 5)]
    if target == "protocol":
        array = {"array": ["int64", [1, 3]]}
        asked = {"dict": {"ask": "table", "ids": array, "past": array}}
        returned = {"dict": {"kind": "tensor", "dtype": "int64", "requires_grad": False, "value": array}}
        answer = {"dict": {"returned": returned, "model_changed": False, "tensors": [array]}}
        raised = {"dict": {"raised": {"dict": {"type": "ValueError", "text": "no", "part": None}}}}
        return [_frame(value, b"\1\0\0\0\0\0\0\0" * 6) for value in (asked, answer, raised)]
    links = [f"&{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)]
    bomb = f"[&a [x, x, x, x, x, x, x, x, x], {', '.join(links)}]"
    mini = (ROOT / "checkpoints" / "gpt2-mini" / "config.yml").read_text(encoding="utf-8")
    bombs = [
        re.sub(r"^seed:.*", f"seed: {bomb}", mini, flags=re.M),
        f"? {bomb}\n: 1\n",
        bomb,
        "&a [*a]\n",
        "? [a]\n: b\n",
    ]
    return [text.encode() for text in (mini, (ROOT / "config.yml").read_text(encoding="utf-8"), *bombs)]


_GRAMMARS = {"submission": _ZIPS, "pickle": _PICKLES, "protocol": _FRAMES, "config": _CONFIGS}
_PIECES = [b"", b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"../", b"\0" * 64, b"*", b"&", b"!!python/object:os.system ",
           b"1e999", b"-1", b"9" * 5000, b"[" * 2000, b"(" * 200]  # fmt: skip


def _mutated(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """`content` with pieces replaced: (where, as a share of its length; how many bytes; by what)."""
    for where, length, piece in changes:
        at = int(where * len(content))
        content = content[:at] + piece + content[at + length :]
    return content


def inputs(target: str) -> st.SearchStrategy[bytes]:
    """Valid inputs with changes, inputs by the grammar, and those with changes."""
    piece = st.sampled_from(_PIECES) | st.binary(max_size=8)
    change = st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 2, 4, 8, 40]), piece)
    source = st.sampled_from(_seeds(target)) | _GRAMMARS[target]
    return st.builds(_mutated, source, st.lists(change, max_size=6))


# --- trying them ---


def attempt(target: str, content: bytes) -> None:
    """Give `content` to the reader `target`.

    Raises:
        Exception: the reader broke.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        began = time.process_time()
        READERS[target](content, Path(folder))
        took = time.process_time() - began
    if took > SECONDS_EACH:
        raise Broken(f"took {took:.0f} s")


def fuzz(target: str, seconds: float) -> int:
    """Give inputs to the reader `target` for so long; how many there were.

    Raises:
        Exception: the reader broke; the input is kept in `inputs/`.
    """
    tried, end, latest = 0, time.monotonic() + seconds, b""

    def try_one(content: bytes) -> None:
        nonlocal tried, latest
        tried, latest = tried + 1, content
        attempt(target, content)

    quiet = settings(
        max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink], print_blob=False,
    )  # fmt: skip
    while time.monotonic() < end:
        try:
            seed(random.SystemRandom().getrandbits(60))(quiet(given(inputs(target))(try_one)))()
        except BaseException:
            name = hashlib.sha256(latest).hexdigest()[:12]
            write_file(INPUTS / target / f"{name}.bin", latest)
            raise
    return tried


def replay(target: str) -> list[str]:
    """Give all kept inputs to the reader `target` again; what broke."""
    found = []
    for path in sorted((INPUTS / target).glob("*.bin")):
        try:
            attempt(target, path.read_bytes())
        except Exception as error:
            found.append(f"inputs/{target}/{path.name}: {type(error).__name__}: {str(error)[:200]}")
    return found


def _check(target: str) -> Callable[[float], list[str]]:
    def check(seconds: float) -> list[str]:
        command = [sys.executable, "-m", "staff.audit.fuzz", target, str(seconds)]
        process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        return (
            [] if process.returncode == 0 else (process.stdout + process.stderr).strip().splitlines()[-3:] or ["died"]
        )

    check.__doc__ = READERS[target].__doc__
    return check


CHECKS = {target: _check(target) for target in READERS}


def main() -> int:
    target, seconds = sys.argv[1], float(sys.argv[2])
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = tempfile.gettempdir()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    broken = replay(target)
    if not broken:
        try:
            print(f"{target}: {fuzz(target, seconds):,} inputs, none broke it")
            return 0
        except BaseException as error:
            broken = [f"{target}: {type(error).__name__}: {str(error)[:300]}; kept in staff/audit/inputs/{target}"]
    print("\n".join(broken))
    return 1


if __name__ == "__main__":
    sys.exit(main())
