"""Training that can be interrupted: its state is saved now and then, and the same command goes on from there."""

import contextlib
import hashlib
import io
import json
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from tqdm import tqdm

from src.files import shown, write_file

SAVE_SECONDS = 20.0  # between two saves


class Stateful(Protocol):
    """A module, an optimiser, or anything else with a state of tensors and plain values."""

    def state_dict(self) -> Mapping[str, Any]:
        """The state."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Take over the state."""


class _Interruption:
    """Lets Ctrl-C wait for the end of an iteration, so that no half of one is saved; a second one does not wait."""

    def __init__(self) -> None:
        self._requested = False
        self._before: Any = None

    def __enter__(self) -> "_Interruption":
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
            self._before = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raise what Ctrl-C asked for.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        if self._requested:
            raise KeyboardInterrupt("interrupted; the same command goes on from here")

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True


class Loop:
    """The iterations of a training, with progress, saved in a file that is removed at the end.

        with Loop(folder, "vae", key, 5000, {"vae": vae, "adam": adam}) as loop:
            for iteration in loop:
                …
                loop.record(loss=loss.item())
        curve = loop.history["loss"]

    Random numbers go on where they were, so an interrupted training ends with the same weights as another one, on the
    same machine.
    """

    def __init__(self, folder: Path, name: str, key: object, iterations: int, state: Mapping[str, Stateful]):
        """Args:
        folder: where the state is saved
        name: of the training, for its file and its progress
        key: everything that the result depends on, as plain values; a state with another key is not used
        iterations: how many in all
        state: what is saved, by name
        """
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        self.history: dict[str, list[float]] = {}
        self._name = name
        self._path = folder / f"{name}-{digest}.pt"
        self._iterations = iterations
        self._state = state
        self._done = self._restored()
        self._is_whole = False  # whether the last iteration has ended
        self._saved = time.monotonic()

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._path.unlink(missing_ok=True)
        elif self._is_whole:  # else the state may hold half an iteration; what was saved before it stays
            self._save()

    def __iter__(self) -> Iterator[int]:
        bar = tqdm(total=self._iterations, initial=self._done, desc=self._name, unit="step", leave=False)
        with bar, _Interruption() as interruption:
            while self._done < self._iterations:
                self._is_whole = False
                yield self._done
                self._done, self._is_whole = self._done + 1, True
                bar.update()
                interruption.check()
                if time.monotonic() > self._saved + SAVE_SECONDS:
                    self._save()

    def record(self, **values: float) -> None:
        """Append to the `history` of each name."""
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)

    def _save(self) -> None:
        content = {
            "done": self._done,
            "history": self.history,
            "random": torch.get_rng_state(),
            "state": {name: thing.state_dict() for name, thing in self._state.items()},
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_file(self._path, buffer.getvalue())
        self._saved = time.monotonic()

    def _restored(self) -> int:
        """How many iterations are done already; the saved state is taken over."""
        with contextlib.suppress(OSError, pickle.UnpicklingError, RuntimeError, KeyError, ValueError, EOFError):
            saved = torch.load(self._path, weights_only=True)
            for name, thing in self._state.items():
                thing.load_state_dict(saved["state"][name])
            torch.set_rng_state(saved["random"])
            self.history = saved["history"]
            print(f"{self._name}: going on at iteration {saved['done']:,} of {shown(self._path)}")
            return int(saved["done"])
        return 0
