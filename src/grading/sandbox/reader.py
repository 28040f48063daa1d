"""Reading what a student handed in, without trusting any of it: in a process that is confined as student code is.

A *reader* runs only this project's own code, but on a student's bytes: it unpacks a zip, and reads run.json and the
artifacts. Files made to take forever, or all memory, cost the reader its process, and the grader one line.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from src.errors import IntakeError, ProtocolError
from src.grading.intake import TAKEN, Submission, unpack, write_files
from src.grading.sandbox.client import WorkerClient
from src.grading.sandbox.messages import Refused, Unpack, Unpacked, UnpackedFile
from src.grading.sandbox.protocol import M, Message, receive, send
from src.grading.sandbox.sandbox import Sandbox

SECONDS, MEMORY = 15, 150_000_000  # for each reader, on a machine that is not slow; bytes
_FAILED = f"cannot be read within {SECONDS} s and {MEMORY / 1e6:.0f} MB; pack it again with make_submission.sh"


def unpack_confined(sandbox: Sandbox, source: Path, into: Path) -> Submission:
    """What `intake.unpack` returns, with a zip read by a reader.

    Raises:
        IntakeError: see there; or it takes too long, or too much memory.
    """
    if not source.is_file():
        return unpack(sandbox.homework, source, into)  # a folder: no bytes in it are read before they are needed
    with _started(sandbox, source) as reader:
        return write_files(sandbox.homework, source, _files(sandbox, reader, source), into)


def _files(sandbox: Sandbox, reader: WorkerClient, source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    deadline = time.monotonic() + SECONDS * sandbox.slowness
    try:
        send(reader.channel, Unpack(str(source)))
        while True:
            message: Message = receive(reader.channel, UnpackedFile, Unpacked, Refused, deadline=deadline)
            if isinstance(message, UnpackedFile):
                path = PurePosixPath(message.path)
                if ".." in path.parts or path.parts[:1] not in [(folder,) for folder in TAKEN]:
                    raise ProtocolError(f"{path} is no file of a submission")
                yield path, message.content.tobytes()
            elif isinstance(message, Refused):
                raise IntakeError(message.text)
            else:
                return
    except (ProtocolError, EOFError, OSError):
        raise IntakeError(f"{source}: {_FAILED}") from None


def read_confined(sandbox: Sandbox, submission: Submission, question: Message, expected: type[M]) -> M:
    """A reader's answer to `question` about the unpacked `submission`, a message of the class `expected`.

    Raises:
        IntakeError: it takes too long, or too much memory.
    """
    with _started(sandbox, sandbox.lend(submission.submit.parent)) as reader:
        try:
            send(reader.channel, question)
            deadline = time.monotonic() + SECONDS * sandbox.slowness
            return receive(reader.channel, expected, deadline=deadline)
        except (ProtocolError, EOFError, OSError):
            raise IntakeError(f"submit/: {_FAILED}") from None


def _started(sandbox: Sandbox, source: Path) -> WorkerClient:
    limits = sandbox.homework.limits
    return sandbox.start("reader", source, replace(limits, memory=MEMORY, cpu_seconds=60, threads=4))
