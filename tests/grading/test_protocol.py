"""Messages: what is sent arrives, and what is malformed is refused."""

import json
import socket
import threading
import time
from dataclasses import dataclass, fields

import numpy as np
import pytest
from numpy.typing import NDArray

from src.errors import ProtocolError
from src.grading.homework import Limits
from src.grading.sandbox.messages import Call, EndWorker, Foreign, Raised, Reference, Returned, StartWorker
from src.grading.sandbox.protocol import Message, receive, send

SECONDS = 60  # no message that is there takes as long


@dataclass(frozen=True)
class Thing(Reference):
    """A reference with contents."""

    ids: NDArray[np.int64]


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def crossed(pair, message: Message, *expected: type[Message]) -> Message:
    send(pair[0], message)
    return receive(pair[1], *(expected or (type(message),)), deadline=time.monotonic() + SECONDS)


def equal(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, Message):
        return type(a) is type(b) and all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize(
    "message",
    [
        Call("f.py", "f", (None, True, 3, -2.5, "ψ", np.arange(6).reshape(2, 3)), 0, True, False, None),
        Call("f.py", "f", (Thing(np.array([[1, 2]])), np.zeros((0, 4), np.float32)), 0, True, False, None),
        Call("f.py", "f", (), 2**40, False, True, Thing(np.array([1]))),
        Returned("tensor", "bool", np.array(True), False, False, (np.ones(2), np.zeros((1, 1), np.int8))),
        Returned("other", "Thing", Foreign("Thing"), False, False, ()),
        Returned("plain", "float", float("-inf"), False, False, ()),
        Returned("several", "list", Foreign("list"), False, False, (), (np.ones((2, 1)), None, Foreign("Thing"))),
        Raised("ValueError", "lone surrogate: \ud800", None),
        StartWorker("student", "/q", "/h", True, None, False, ("/a", "/b"), (), ("/p",), ("src.x",), Limits()),
        EndWorker(7, 0.5, False),
    ],
)
def test_a_message_arrives_as_it_was_sent(pair, message):
    assert equal(crossed(pair, message), message)


def test_a_whole_number_may_stand_for_a_float(pair):
    assert crossed(pair, EndWorker(7, 2, True)).patience == 2.0


def test_what_has_no_declared_type_cannot_be_sent(pair):
    with pytest.raises(TypeError, match="cannot send a set"):
        send(pair[0], Raised("E", {"a"}, None))


def test_a_message_of_another_class_is_refused(pair):
    with pytest.raises(ProtocolError, match="expected Returned or Raised"):
        crossed(pair, EndWorker(1, 0.0, False), Returned, Raised)


def test_an_array_of_another_type_is_refused(pair):
    with pytest.raises(ProtocolError):
        crossed(pair, Thing(np.array([1.5])))


ARRAY = '{"array": ["%s", %s, %s]}'
RETURNED = (
    '{"op": "Returned", "kind": "tensor", "dtype": "x", "value": %s, "requires_grad": false, "model_changed": false, '
    '"tensors": [], "items": []}'
)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{{{",
        "3",
        "{}",
        '{"op": "NoSuchMessage"}',
        '{"op": ["Returned"]}',
        '{"op": "Message"}',
        '{"op": "Foreign", "type_name": "x"}',
        '{"op": "Raised", "type_name": "E", "text": "t"}',
        '{"op": "Raised", "type_name": "E", "text": "t", "part": null, "extra": 1}',
        '{"op": "Raised", "type_name": 3, "text": "t", "part": null}',
        '{"op": "Raised", "type_name": "E", "text": "t", "part": ["x"]}',
        RETURNED.replace('"requires_grad": false', '"requires_grad": 0') % "1",
        RETURNED % "[1]",
        RETURNED % '{"op": "Thing", "ids": 1}',
        RETURNED % '{"op": "EndWorker", "process": 1, "patience": 0.0, "sweep": false}',
        RETURNED % ARRAY % ("float64", "[1]", "0"),
        RETURNED % ARRAY % ("uint8", "[1]", "4"),
        RETURNED % ARRAY % ("uint8", "[1]", "-1"),
        RETURNED % ARRAY % ("object", "[0]", "0"),
        RETURNED % ARRAY % ("uint8", "[-1]", "0"),
        RETURNED % ARRAY % ("uint8", '["4"]', "0"),
        RETURNED % ARRAY % ("uint8", "[true]", "0"),
        RETURNED % ARRAY % ("uint8", "4", "0"),
        RETURNED % ARRAY % ("uint8", "{}", "0"),
        RETURNED % ARRAY % ("int64", "[2147483648, 2147483648, 2147483648, 0]", "0"),
        RETURNED % ARRAY % ("uint8", str([1] * 70), "0"),
        RETURNED % ARRAY % ("uint8", "[99999999999, 99999999999]", "0"),
        RETURNED % '{"array": 1}',
        RETURNED % '{"array": ["uint8", [1]]}',
        RETURNED % ("[" * 900 + "]" * 900),
        RETURNED % ("[" * 90_000 + "]" * 90_000),
        RETURNED % ("9" * 5000),
        RETURNED % ("9" * 309),  # no float is as large
        RETURNED % ("-" + "9" * 309),
    ],
)
def test_a_malformed_message_is_refused(pair, text):
    blob = b"abcd" if '"array"' in text else b""
    frame = len(text).to_bytes(4, "big") + len(blob).to_bytes(4, "big") + text.encode() + blob
    threading.Thread(target=pair[0].sendall, args=(frame,), daemon=True).start()
    with pytest.raises(ProtocolError):
        receive(pair[1], Returned, Raised, deadline=time.monotonic() + SECONDS)


@pytest.mark.parametrize("value", ["1", "-" + "9" * 308, '"9"'])
def test_the_message_of_which_malformed_ones_are_made_is_not(pair, value):
    text = (RETURNED % value).encode()
    pair[0].sendall(len(text).to_bytes(4, "big") + bytes(4) + text)
    assert receive(pair[1], Returned, deadline=time.monotonic() + SECONDS).value == json.loads(value)


@pytest.mark.parametrize("frame", [b"\xff" * 8, b"\0\0\0\x02\0\0\0\0\xff\xfe", b"\0\0\0\0\0\0\0\0"])
def test_a_frame_without_json_is_refused(pair, frame):
    pair[0].sendall(frame)
    with pytest.raises(ProtocolError):
        receive(pair[1], Returned, deadline=time.monotonic() + SECONDS)


MANY = '[{"array": ["uint8", [], 0]}' + ', {"array": ["uint8", [], 0]}' * 2000 + "]"


@pytest.mark.parametrize(
    ("tensors", "blob"),
    [
        (MANY, 2001),
        ("[" + ", ".join("1" * 100_001) + "]", 0),
        ('[{"array": ["uint8", %s, 0]}]' % ([2**31] * 70_000), 0),
        ('[{"array": ["uint8", [2], 0]}, {"array": ["uint8", [2], 0]}]', 4),
        ('[{"array": ["uint8", [2], 2]}, {"array": ["uint8", [2], 0]}]', 4),
        ('[{"array": ["uint8", [2], 0]}]', 1_000_000),
    ],
)
def test_a_message_is_read_in_linear_time_and_keeps_no_more(pair, tensors, blob):
    """Numbers of arrays, items and dimensions are bounded; arrays share no bytes, and no bytes belong to none."""
    text = (RETURNED % "1").replace('"tensors": []', f'"tensors": {tensors}').encode()
    frame = len(text).to_bytes(4, "big") + blob.to_bytes(4, "big") + text + bytes(blob)
    threading.Thread(target=pair[0].sendall, args=(frame,), daemon=True).start()
    began = time.process_time()
    with pytest.raises(ProtocolError):
        receive(pair[1], Returned, deadline=time.monotonic() + SECONDS)
    assert time.process_time() - began < 2  # 15 s for 70,000 dimensions, if they were multiplied


def test_half_a_message_ends_at_the_deadline(pair):
    pair[0].sendall(b"\0\0\1\0")
    with pytest.raises(TimeoutError):
        receive(pair[1], Returned, deadline=time.monotonic() + 0.2)


def test_a_closed_channel_ends_the_wait_at_once(pair):
    pair[0].close()
    with pytest.raises(EOFError):
        receive(pair[1], Returned, deadline=time.monotonic() + SECONDS)
