"""Read pickles of plain data and of flat NumPy arrays without executing anything in them.

`pickle.load` calls whatever a file tells it to. Here the opcodes are first listed without being run, and refused unless
they build plain data. The names that a pickled array needs are replaced by inert objects, so that not even NumPy's own
code sees what the file says.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.errors import PickleError

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

MAX_BYTES = 4_000_000

_PLAIN = {
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG1",
    "BINFLOAT", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES",
    "EMPTY_LIST", "APPEND", "APPENDS", "LIST", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS",
    "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET",
}  # fmt: skip
# No tuples above: a few dozen of them, nested in each other and used as a key, would take days to hash.
_TUPLES = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_ARRAY = _PLAIN - {"DICT", "SETITEM", "SETITEMS"} | _TUPLES | {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"}
_ARRAY_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"),  # NumPy 2
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _Inert:
    """What a name in an array's pickle becomes: it records what it is given and does nothing."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()):
        self.name = name
        self.arguments = arguments
        self.state: Any = None

    def __call__(self, *arguments: Any) -> "_Inert":
        return _Inert(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state


# Python's own unpickler: the one in C allocates what a length field says before it reads it.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> _Inert:
        if (module, name) not in _ARRAY_NAMES:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return _Inert(name)


def read_plain(path: Path) -> Any:
    """The content of the pickle at `path`, if that is only dicts, lists, str, bytes, numbers, bools and None.

    Raises:
        PickleError: the file is missing, too large, damaged, or holds anything else.
    """
    return _read(path, _PLAIN)


def read_float_array(path: Path) -> "NDArray[float64]":
    """The one-dimensional NumPy array of float64 that is pickled at `path`.

    Raises:
        PickleError: the file is missing, too large, damaged, or holds anything else.
    """
    import numpy as np  # here, because a homework's declaration imports this module, and must be quick

    match _read(path, _ARRAY):
        case _Inert(
            name="_reconstruct",
            state=(_, (int(length),), _Inert(name="dtype", arguments=("f8", *_), state=(_, "<", *_)), _, bytes(raw)),
        ) if len(raw) == 8 * length:
            return np.frombuffer(raw, dtype="<f8").astype(np.float64)
    raise PickleError(f"{path}: does not hold a one-dimensional NumPy array of float64")


def _read(path: Path, allowed: set[str]) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PickleError(f"{path}: has {path.stat().st_size} bytes; more than {MAX_BYTES} cannot be right")
        content = path.read_bytes()
    except OSError as error:
        raise PickleError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name not in allowed:
                raise pickle.UnpicklingError(f"uses {opcode.name}")
            if opcode.name.endswith("PUT") and int(argument or 0) > len(content):
                raise pickle.UnpicklingError("numbers its parts absurdly")
        return _Unpickler(io.BytesIO(content)).load()
    except PickleError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise PickleError(f"{path}: is damaged or holds more than plain data ({reason})") from None
