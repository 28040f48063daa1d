"""Every message between the grader, its fork server and its workers. A homework adds its own in `src/hwN/messages.py`.

grader → fork server    StartWorker (with two descriptors), CompareModel, EndWorker, Sweep, or what a homework prepares
fork server → grader    ForkServerReady, Forked, Compared, Ended, Swept, Prepared
worker → grader         Token (only where it connects by itself), WorkerReady, then Returned or Raised for each Call
grader → worker         StartWorker (only where it connects by itself), Call
grader → reader         Unpack
reader → grader         UnpackedFile for each file, then Unpacked; or Refused
"""

import contextlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.errors import printable
from src.grading.homework import Limits
from src.grading.sandbox.protocol import Array, Message


@dataclass(frozen=True)
class Foreign(Message):
    """A value that cannot be sent: only the name of its type is."""

    type_name: str


class Reference(Message):
    """Stands for an object that only the worker has; a homework declares which there are."""


Value = None | bool | int | float | str | Array | Foreign
Argument = None | bool | int | float | str | Array | Reference


@dataclass(frozen=True)
class StartWorker(Message):
    """Start a worker, and what it may use."""

    role: str  # "student", "reader" or "reference"
    questions: str  # the folder of student code; for a reader, the zip or folder that was handed in
    home: str  # the only folder in which it may write
    watched: bool  # whether it uses a copy of the model that the fork server can look at; only for a student
    user: int | None  # the unprivileged user that it becomes, where the grader is root
    keep_reading: bool  # whether that user may read files whatever their modes
    readable: tuple[str, ...]
    writable: tuple[str, ...]
    private: tuple[str, ...]  # what it must not be able to read, whatever contains it
    forbidden: tuple[str, ...]  # the packages that student code cannot import
    limits: Limits


@dataclass(frozen=True)
class EndWorker(Message):
    """End a worker after `patience` seconds to end by itself, and all other processes of its process group."""

    process: int
    patience: float
    sweep: bool  # and also all other processes of the worker's user


@dataclass(frozen=True)
class Sweep(Message):
    """End all processes of `user`, who belongs to one grading alone."""

    user: int


@dataclass(frozen=True)
class Swept(Message):
    """They have ended."""


@dataclass(frozen=True)
class CompareModel(Message):
    """Is the model that a student worker uses still what it was?"""

    process: int


@dataclass(frozen=True)
class Compared(Message):
    """Whether it is."""

    is_unchanged: bool


@dataclass(frozen=True)
class Prepared(Message):
    """What was asked for is ready for all workers that are started from now on."""


@dataclass(frozen=True)
class ForkServerReady(Message):
    """The fork server has loaded everything."""

    shared: int  # bytes of the model's weights, of which a watched worker gets a copy


@dataclass(frozen=True)
class Forked(Message):
    """A worker was started."""

    process: int


@dataclass(frozen=True)
class Ended(Message):
    """A worker has ended, with this exit status; negative for a signal."""

    status: int


@dataclass(frozen=True)
class Token(Message):
    """Proof that a connection comes from the worker which the grader has started."""

    token: str


@dataclass(frozen=True)
class WorkerReady(Message):
    """The worker has given up its rights; which protections are in place."""

    landlock: int  # its version; 0 where the kernel has none
    seccomp: bool
    own_disk: bool  # whether what it writes goes to a small disk of its own
    reads: str | None  # a private folder of the project that it can still read


@dataclass(frozen=True)
class Call(Message):
    """Call a student's function."""

    file: str
    function: str
    arguments: tuple[Argument, ...]  # an array becomes a tensor
    seed: int  # of all random numbers
    fresh: bool  # whether to import the student's files anew
    watch: bool  # whether to find out if the model was changed
    stand_in: Reference | None  # replaces another part's function, on which this one depends
    through: Reference | None = None  # what calls the function with the arguments instead, and measures what it does


DISK_FULL = "disk full"  # the `type_name` of an error that a limit of files or bytes has raised
BREAKPOINT, INPUT = "breakpoint()", "input()"  # the `type_name` of an error for want of a terminal


@dataclass(frozen=True)
class Raised(Message):
    """The function raised an error."""

    type_name: str
    text: str
    part: str | None  # the part whose block is not written yet, where that is the reason
    error: str = ""  # the error alone, "TypeError: …"
    line: str = ""  # of the student's code: the last that ran
    is_begun: bool = False  # whether the block of `part` holds other code, too


@dataclass(frozen=True)
class Returned(Message):
    """The function returned."""

    kind: str  # tensor, numpy, plain, several or other
    dtype: str  # of a tensor or an array; else the name of the type
    value: Value
    requires_grad: bool
    model_changed: bool
    tensors: tuple[Array, ...]  # the arrays among the arguments, as they were after the call
    items: tuple[Value, ...] = ()  # of a tuple or list, which is of the kind "several"

    @property
    def is_nothing(self) -> bool:
        """Whether the value is None."""
        return self.kind == "plain" and self.value is None

    def number(self) -> float | None:
        """The value as a float if it is one number or bool of any kind, or a string that holds one; else None."""
        if isinstance(self.value, np.ndarray) and self.value.size == 1:
            return float(self.value.reshape(()))
        if isinstance(self.value, (int, float)):
            with contextlib.suppress(OverflowError):
                return float(self.value)
        if isinstance(self.value, str):
            with contextlib.suppress(ValueError):
                return float({"True": "1", "False": "0"}.get(self.value, self.value))
        return None

    def description(self) -> str:
        """What it is, for a person, in a few words."""
        dtype = printable(self.dtype[:80])
        if isinstance(self.value, np.ndarray):
            what = "tensor" if self.kind == "tensor" else "NumPy array"
            content = f" with the value {self.value.reshape(()):.6g}" if self.value.size == 1 else ""
            return f"a {what} of shape {self.value.shape} and type {dtype}{content}"
        if self.value is None:
            return "nothing (None)"
        if self.kind == "plain":
            return f"{printable(str(self.value)[:60])} ({dtype})"
        if self.kind == "several":
            return f"a {dtype} of {len(self.items)}"
        return f"a value of type {dtype}"


# --- between the grader and a reader ---


@dataclass(frozen=True)
class Unpack(Message):
    """Send the files of the zip that was handed in."""

    name: str  # of the zip, for messages


@dataclass(frozen=True)
class UnpackedFile(Message):
    """One of them."""

    path: str  # in the submission
    content: NDArray[np.uint8]


@dataclass(frozen=True)
class Unpacked(Message):
    """That were all."""


@dataclass(frozen=True)
class Refused(Message):
    """The zip is refused."""

    text: str  # why, for a person
