"""Typed messages between two processes: a frozen dataclass each, declared once, validated on receipt.

A frame is two lengths, a JSON object and a blob. The object holds the name of the message's class under "op" and its
fields. The arrays lie in the blob one behind the other, and fill it; the JSON gives their type, shape and
offset. Nothing in a frame is executed. The other side may be under a student's control, so a field of another type than
the declared one is a `ProtocolError`, and the limits below bound the time and memory to read a message.
"""

import dataclasses
import functools
import json
import math
import struct
import time
import types
from typing import Any, ClassVar, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from src.errors import ProtocolError

MAX_JSON = 1_000_000  # bytes
MAX_BLOB = 20_000_000  # bytes of arrays in a message from student code
MAX_ARRAYS, MAX_ITEMS = 2_000, 100_000  # of a message; of all its tuples together
MAX_DIMENSIONS = 64  # as many as NumPy has
MAX_DIGITS = 308  # of a whole number: each that has no more fits into a float
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
_SCALARS = (types.NoneType, bool, int, float, str)
_LENGTHS = struct.Struct(">II")

Array = np.ndarray[Any, Any]


class Channel(Protocol):
    """What messages go through: a socket, or, within one process, what acts as one."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of `data`."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Read into `buffer`; how many bytes, 0 if the other side is gone."""

    def settimeout(self, value: float | None, /) -> None:
        """Limit how long the other two may take, in seconds."""


class Message:
    """The base of all messages: frozen dataclasses whose fields are plain values, arrays, tuples and messages."""

    # Op → class; filled as classes are declared, never afterwards. No name in quotes: `get_type_hints` would look it up
    # in this module, which a worker that runs student code has forgotten.
    ops: ClassVar[dict[str, type[Any]]] = {}

    def __init_subclass__(cls) -> None:
        Message.ops[cls.__name__] = cls


M = TypeVar("M", bound=Message)


def send(channel: Channel, message: Message) -> None:
    """Send `message`.

    Raises:
        OSError: the other side is gone, or does not read.
        TypeError: a field holds what cannot be sent.
    """
    arrays = _Arrays()
    text = json.dumps(_encode(message, arrays)).encode()
    channel.sendall(b"".join([_LENGTHS.pack(len(text), arrays.length), text, *(a.data for a in arrays.all)]))


class _Arrays:
    """The arrays of a message that is being encoded, as they will follow each other in the blob."""

    def __init__(self) -> None:
        self.all: list[Array] = []
        self.length = 0  # bytes

    def add(self, array: Array) -> int:
        """Append `array`; returns its offset."""
        offset = self.length
        self.all.append(np.ascontiguousarray(array))
        self.length += array.nbytes
        return offset


def receive(channel: Channel, *expected: type[M], deadline: float | None = None, max_blob: int = MAX_BLOB) -> M:
    """The next message, which must be of one of the `expected` classes.

    Args:
        deadline: when all of it must have arrived, by `time.monotonic()`; None waits forever
        max_blob: how many bytes of arrays it may hold

    Raises:
        TimeoutError: the deadline has passed.
        EOFError: the other side is gone.
        ProtocolError: the message is malformed, too long, or of another class.
    """
    json_length, blob_length = _LENGTHS.unpack(_read(channel, _LENGTHS.size, deadline))
    if json_length > MAX_JSON or blob_length > max_blob:
        raise ProtocolError(f"a message of {json_length + blob_length} bytes is too long")
    text = bytes(_read(channel, json_length, deadline))
    content = _Content(memoryview(_read(channel, blob_length, deadline)))
    try:
        raw = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        raise ProtocolError("malformed message: not JSON") from None
    message = _decode_message(raw, expected, content)
    if content.taken != blob_length:
        raise ProtocolError("malformed message: its arrays do not fill the blob")
    return message


def _integer(digits: str) -> int:
    if len(digits.removeprefix("-")) > MAX_DIGITS:
        raise ValueError("a whole number of too many digits")
    return int(digits)


class _Content:
    """The blob of a message that is being decoded, and how much of the message has been decoded so far."""

    def __init__(self, blob: memoryview):
        self.blob = blob
        self.taken = self.arrays = self.items = 0

    def count_items(self, items: int) -> None:
        """Count the items of a tuple.

        Raises:
            ProtocolError: the message has too many.
        """
        self.items += items
        if self.items > MAX_ITEMS:
            raise ProtocolError(f"malformed message: it holds more than {MAX_ITEMS} items")

    def take(self, offset: int, length: int) -> memoryview:
        """The bytes of the next array.

        Raises:
            ProtocolError: it does not begin where the one before has ended, the blob is shorter, or there are too many.
        """
        self.arrays += 1
        if offset != self.taken or offset + length > len(self.blob) or self.arrays > MAX_ARRAYS:
            raise ProtocolError("malformed message: its arrays do not follow each other, or are too long or too many")
        self.taken += length
        return self.blob[offset : self.taken]


def _read(channel: Channel, length: int, deadline: float | None) -> bytearray:
    content = bytearray(length)
    view, got = memoryview(content), 0
    while got < length:
        if deadline is not None:
            channel.settimeout(max(1e-3, deadline - time.monotonic()))
        try:
            count = channel.recv_into(view[got:])
        except TimeoutError:
            raise
        except OSError:
            raise EOFError from None
        if count == 0:
            raise EOFError
        got += count
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError
    return content


def _encode(value: Any, arrays: _Arrays) -> Any:
    """`value` for JSON; its arrays are added to `arrays`, in the order in which `_decode` meets them."""
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, np.ndarray):
        return {"array": [value.dtype.name, list(value.shape), arrays.add(value)]}
    if isinstance(value, tuple):
        return [_encode(item, arrays) for item in value]
    if dataclasses.is_dataclass(value):
        names = _hints(type(value))  # type: ignore[arg-type] # mypy takes a class for unhashable
        fields = {name: _encode(getattr(value, name), arrays) for name in names}
        return {"op": type(value).__name__, **fields} if isinstance(value, Message) else fields
    raise TypeError(f"cannot send a {type(value).__name__}")


def _decode(raw: Any, hint: Any, content: _Content) -> Any:
    """`raw`, of parsed JSON, as a value of the declared type `hint`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _decode_union(raw, arguments, content)
    if origin is tuple and isinstance(raw, list):
        content.count_items(len(raw))
        inner = (arguments[0],) * len(raw) if arguments[-1] is Ellipsis else arguments
        if len(inner) == len(raw):
            return tuple(_decode(item, each, content) for item, each in zip(raw, inner, strict=True))
    if np.ndarray in (hint, origin):
        return _decode_array(raw, get_args(arguments[1]) if arguments else (), content)
    if hint in _SCALARS and type(raw) is hint:
        return raw
    if hint is float and type(raw) is int and abs(raw) < 2**53:
        return float(raw)
    if isinstance(hint, type) and issubclass(hint, Message):
        return _decode_message(raw, (hint,), content)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(raw, dict):
        return _decode_fields(raw, hint, content)
    raise ProtocolError(f"malformed message: a {type(raw).__name__} in the place of {hint}")


def _decode_union(raw: Any, arms: tuple[Any, ...], content: _Content) -> Any:
    if type(raw) in arms:  # a scalar of a declared type
        return raw
    for arm in arms:
        if arm in _SCALARS:
            continue
        try:
            return _decode(raw, arm, content)
        except ProtocolError:
            continue
    raise ProtocolError(f"malformed message: a {type(raw).__name__} of no declared type")


def _decode_message(raw: Any, expected: tuple[type[M], ...], content: _Content) -> M:
    """`raw` as a message of one of the `expected` classes, or of a class below them."""
    op = raw.get("op") if isinstance(raw, dict) else None
    cls = Message.ops.get(op) if isinstance(op, str) else None
    if cls is None or not issubclass(cls, expected):
        raise ProtocolError(f"malformed message: expected {' or '.join(each.__name__ for each in expected)}")
    message: M = _decode_fields({name: value for name, value in raw.items() if name != "op"}, cls, content)
    return message


def _decode_fields(raw: dict[str, Any], cls: type[Any], content: _Content) -> Any:
    hints = _hints(cls)  # type: ignore[arg-type] # mypy takes a class for unhashable
    if raw.keys() != hints.keys():
        raise ProtocolError(f"malformed message: {cls.__name__} has the fields {', '.join(hints)}")
    return cls(**{name: _decode(raw[name], hint, content) for name, hint in hints.items()})


@functools.cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _decode_array(raw: Any, dtypes: tuple[Any, ...], content: _Content) -> Array:
    """The next array, which `raw` describes; `dtypes` are those that the declared type allows, all if empty."""
    try:
        dtype, shape, offset = raw["array"]
        is_valid = type(shape) is list and len(shape) <= MAX_DIMENSIONS
        is_valid = is_valid and all(type(size) is int and 0 <= size <= 2**31 for size in (*shape, offset))
    except (KeyError, TypeError, ValueError):
        raise ProtocolError("malformed message: not an array") from None
    if dtype not in DTYPES or not is_valid:
        raise ProtocolError("malformed message: not an array")
    declared = [allowed for allowed in dtypes if isinstance(allowed, type) and issubclass(allowed, np.generic)]
    if declared and np.dtype(dtype) not in map(np.dtype, declared):
        raise ProtocolError(f"malformed message: an array of {dtype}")
    data = content.take(offset, math.prod(shape) * np.dtype(dtype).itemsize)
    try:
        return np.frombuffer(data, dtype=dtype).reshape(shape)
    except ValueError:  # sizes beyond any memory beside a 0
        raise ProtocolError("malformed message: an array of an impossible shape") from None
