"""Messages between the grader and its worker: JSON with arrays beside it, and nothing that could be executed.

A frame is two lengths, a JSON object and a blob. Arrays lie in the blob, one after the other; in the JSON each is named
by its type and shape. Whatever arrives is checked before it is used: the other side may be under a student's control.
"""

import json
import math
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_JSON = 1_000_000  # bytes
MAX_BLOB = 20_000_000  # bytes, of what may come from student code
MAX_DEPTH = 20
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
_LENGTHS = struct.Struct(">II")


class ProtocolError(Exception):
    """What arrived is no message."""


@dataclass(frozen=True)
class Foreign:
    """A value that cannot cross: only the name of its type does."""

    type_name: str


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Send `message`: None, bools, ints, floats, strs, lists, tuples, dicts with str keys, and arrays.

    Raises:
        OSError: the other side is gone, or doesn't read.
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_packed(message, arrays)).encode()
    blob = b"".join(array.tobytes() for array in arrays)
    channel.sendall(_LENGTHS.pack(len(text), len(blob)) + text + blob)


def receive(channel: socket.socket, deadline: float | None = None, max_blob: int = MAX_BLOB) -> dict[str, Any]:
    """The next message; tuples arrive as tuples, arrays as NumPy arrays.

    Args:
        deadline: in seconds of `time.monotonic()`, by which all of it must be there; None waits for ever
        max_blob: how many bytes of arrays may come

    Raises:
        TimeoutError: it was not there in time.
        EOFError: the other side is gone.
        ProtocolError: it is too long or no message.
    """
    json_length, blob_length = _LENGTHS.unpack(_exactly(channel, _LENGTHS.size, deadline))
    if json_length > MAX_JSON or blob_length > max_blob:
        raise ProtocolError(f"a message of {json_length + blob_length} bytes is too long")
    text = bytes(_exactly(channel, json_length, deadline))
    blob = _exactly(channel, blob_length, deadline)
    try:
        message = _unpacked(json.loads(text), memoryview(blob), [0], 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ProtocolError(f"not a message ({type(error).__name__})") from None
    if not isinstance(message, dict):
        raise ProtocolError("a message is a dict")
    return message


def _exactly(channel: socket.socket, length: int, deadline: float | None) -> bytearray:
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


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.ndarray():
            arrays.append(np.ascontiguousarray(value))
            return {"array": [value.dtype.name, list(value.shape)]}
        case list():
            return [_packed(item, arrays) for item in value]
        case tuple():
            return {"tuple": [_packed(item, arrays) for item in value]}
        case dict():
            return {"dict": {str(key): _packed(item, arrays) for key, item in value.items()}}
        case Foreign():
            return {"foreign": value.type_name}
    raise TypeError(f"cannot send a {type(value).__name__}")


def _unpacked(value: Any, blob: memoryview, taken: list[int], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [_unpacked(item, blob, taken, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tuple":
        return tuple(_unpacked(item, blob, taken, depth + 1) for item in content)
    if kind == "dict":
        return {key: _unpacked(item, blob, taken, depth + 1) for key, item in content.items()}
    if kind == "foreign":
        return Foreign(str(content)[:80])
    if kind != "array":
        raise ValueError("unknown kind")
    dtype, shape = content
    if dtype not in DTYPES or not all(type(size) is int and 0 <= size <= 2**31 for size in shape) or len(shape) > 8:
        raise ValueError("no array")
    count = math.prod(shape) * np.dtype(dtype).itemsize
    start = taken[0]
    taken[0] = start + count
    if taken[0] > len(blob):
        raise ValueError("an array longer than what came with it")
    return np.frombuffer(blob[start : taken[0]], dtype=dtype).reshape(shape)
