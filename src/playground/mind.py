"""A model, and what it says of a text: each token's rank and probability, and the distribution of the next one.

Results of the model are kept, so that another temperature, or a token more, costs no second look at the whole text.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from src.errors import PlaygroundError
from src.model import checkpoint
from src.model.codec import Codec
from src.model.config import Config, model_config, option
from src.model.device import choose_device
from src.model.gpt2 import GPT2
from src.playground import numbers
from src.playground.numbers import SHOWN, Joint, Logits, Setting

Ids = tuple[int, ...]
K = TypeVar("K")
V = TypeVar("V")

ALTERNATIVES = 5  # shown for a token of a text
STEPS = 64  # of a path whose entropies are shown
_MOST_STATES, _MOST_ROWS, _MOST_JOINTS = 12, 400, 12  # that are kept
_LONGEST_STEP = 32  # tokens that may be new to the model for its memory of the text before them to be used


@dataclass(frozen=True)
class Piece:
    """A token, for a person."""

    id: int
    text: str  # "" where its bytes are no whole characters
    bytes: str  # then these, as "E2 80"


@dataclass(frozen=True)
class Seen:
    """A token of a text; the first one is given, so it has no probability."""

    piece: Piece
    log_p: float | None
    rank: int | None
    instead: tuple[tuple[Piece, float], ...]  # the likeliest tokens at its place


@dataclass(frozen=True)
class Reading:
    """What a model says of a whole text."""

    tokens: tuple[Seen, ...]
    total: float  # log p of all tokens after the first, in nats


@dataclass(frozen=True)
class Bars:
    """A distribution: the shares of the tokens that have a bar, in the order of `Next.tokens`, and the rest."""

    p: tuple[float, ...]
    tail: float
    entropy: float

    @property
    def choices(self) -> float:
        """Among how many equally likely tokens one would choose as freely."""
        return float(np.exp(self.entropy))


@dataclass(frozen=True)
class Step:
    """A token of the path, and how free the choice was."""

    piece: Piece
    log_p: float
    rank: int
    entropy: float


@dataclass(frozen=True)
class Next:
    """What may follow a text."""

    length: int  # tokens of the text
    candidates: int  # of how many tokens horizon 2 looks at what follows them
    tokens: tuple[Piece, ...]  # those with a bar, the likeliest first
    horizons: tuple[Bars, ...]  # of horizon 1 and 2
    path: tuple[Step, ...]


@dataclass(frozen=True)
class State:
    """The model after a text: its memory, and the logits (V,) of what follows."""

    past: Any
    row: Logits


@dataclass
class Mind:
    """One model. Not for several threads at once."""

    model: GPT2
    codec: Codec
    config: Config
    device: str
    weights_sha256: str
    _states: OrderedDict[Ids, State] = field(default_factory=OrderedDict, repr=False)
    _rows: OrderedDict[Ids, Logits] = field(default_factory=OrderedDict, repr=False)
    _surprises: OrderedDict[Ids, tuple[float, int]] = field(default_factory=OrderedDict, repr=False)
    _joints: OrderedDict[tuple[Ids, int], Joint] = field(default_factory=OrderedDict, repr=False)

    def ids_of(self, text: str, more: Sequence[int] = (), room: int = 0) -> Ids:
        """The token ids of `text`, followed by `more`; `room` is for tokens that come after them.

        Raises:
            PlaygroundError: the model cannot read them.
        """
        try:
            ids = (*self.codec.encode(text)[0].tolist(), *more)
        except ValueError as error:
            raise PlaygroundError(f"{error}; delete it") from None
        if not ids:
            raise PlaygroundError("there is no text yet; type some, one character is enough")
        most = self.config.n_ctx - room
        if len(ids) > most:
            name = option(self.config.name)
            raise PlaygroundError(f"the text has {len(ids):,} tokens, but {name} reads at most {most:,}; shorten it")
        return ids

    def piece(self, token: int) -> Piece:
        """The token with this id, for a person."""
        content = self.codec.token_bytes(token)
        try:
            return Piece(token, content.decode(), "")
        except UnicodeDecodeError:
            return Piece(token, "", content.hex(" ").upper())

    def tensor(self, ids: Ids) -> Tensor:
        """`ids`, (1, T), on the model's device."""
        return torch.tensor([ids], device=self.device)

    def read(self, ids: Ids) -> Reading:
        """Look at a whole text, in one call of the model."""
        rows, _ = self._look(ids, None)
        tokens = [Seen(self.piece(ids[0]), None, None, ())]
        for row, token in zip(rows, ids[1:], strict=False):
            log_p, rank = numbers.surprise(row, token)
            likeliest = _largest(row, ALTERNATIVES)
            p = numbers.kept(row, 0)[likeliest].tolist()
            tokens.append(Seen(self.piece(token), log_p, rank, tuple(zip(map(self.piece, likeliest), p, strict=True))))
        return Reading(tuple(tokens), float(sum(seen.log_p or 0.0 for seen in tokens)))

    def after(self, ids: Ids) -> State:
        """The model after `ids`."""
        if ids in self._states:
            self._states.move_to_end(ids)
            return self._states[ids]
        known = next((n for n in range(len(ids) - 1, len(ids) - _LONGEST_STEP, -1) if ids[:n] in self._states), 0)
        rows, past = self._look(ids[known:], self._states[ids[:known]].past if known else None)
        for back in range(min(len(rows), STEPS + 1)):
            _keep(self._rows, ids[: len(ids) - back], rows[-1 - back].copy(), _MOST_ROWS)
        return _keep(self._states, ids, State(past, rows[-1].copy()), _MOST_STATES)

    def next(self, ids: Ids, setting: Setting, steps: int = 0) -> Next:
        """What may follow `ids`, of which the last `steps` were chosen."""
        row = self.after(ids).row
        shown = _largest(row, SHOWN)
        both = (self.distribution(ids, setting, horizon) for horizon in (1, 2))
        horizons = tuple(Bars(tuple(p[shown].tolist()), _without(p, shown), numbers.entropy(p)) for p in both)
        path = self._path(ids, setting, min(steps, STEPS))
        return Next(len(ids), setting.candidates, tuple(map(self.piece, shown)), horizons, path)

    def distribution(self, ids: Ids, setting: Setting, horizon: int) -> numbers.Floats:
        """The probabilities (V,) of the token after `ids`."""
        row = self.after(ids).row
        if horizon == 1:
            return numbers.next_token(row, setting)
        return numbers.next_of_two(self._joint(ids, setting.candidates), setting, len(row))

    def last_step(self, ids: Ids, setting: Setting) -> Step:
        """The last of `ids`, after those before it."""
        return self._path(ids, setting, 1)[0]

    def draw(self, ids: Ids, setting: Setting, horizon: int, seed: int) -> int:
        """A token drawn from `distribution`."""
        p = self.distribution(ids, setting, horizon)
        return int(np.random.default_rng(seed).choice(len(p), p=p))

    def _joint(self, ids: Ids, k: int) -> Joint:
        if (ids, k) in self._joints:
            return self._joints[ids, k]
        state = self.after(ids)
        candidates = np.array(_largest(state.row, k))
        with torch.inference_mode():
            second, _ = self.model(torch.from_numpy(candidates).to(self.device)[:, None], past=state.past)
            likeliest = _likeliest(second[:, -1], k)
        pairs = numbers.joint(state.row, likeliest.cpu().numpy(), candidates, k)
        return _keep(self._joints, (ids, k), pairs, _MOST_JOINTS)

    def _path(self, ids: Ids, setting: Setting, steps: int) -> tuple[Step, ...]:
        steps = min(steps, len(ids) - 1)
        befores = [ids[:n] for n in range(len(ids) - steps, len(ids))]
        if any(before not in self._rows for before in befores):
            rows, _ = self._look(ids[:-1], None)
            for before in befores:
                _keep(self._rows, before, rows[len(before) - 1].copy(), _MOST_ROWS)
        path = []
        for before in befores:
            row, token = self._rows[before], ids[len(before)]
            entropy = numbers.entropy(numbers.next_token(numbers.possible(row, setting.top_k), setting))
            path.append(Step(self.piece(token), *self._surprise(before, token), entropy))
        return tuple(path)

    def _surprise(self, before: Ids, token: int) -> tuple[float, int]:
        key = (*before, token)
        if key not in self._surprises:
            _keep(self._surprises, key, numbers.surprise(self._rows[before], token), _MOST_ROWS)
        return self._surprises[key]

    def _look(self, ids: Ids, past: Any) -> tuple[Logits, Any]:
        """The logits (T, V) after each of `ids`, and the model's memory."""
        with torch.inference_mode():
            logits, presents = self.model(self.tensor(ids), past=past)
        return logits[0].cpu().numpy(), presents


def load(name: str) -> Mind:
    """The model `name`.

    Raises:
        UserError: there is no such model, or its files cannot be used.
    """
    config, device = model_config(name), choose_device("auto")
    files = checkpoint.locate(config)
    return Mind(*checkpoint.load(config, files, device, fast=True), config, device, files.weights_sha256)


def _likeliest(logits: Tensor, k: int) -> Tensor:
    """The k largest logits of each row (K, V), and as many more as one row has that are equal to its k-th."""
    smallest = logits.topk(min(k, logits.size(1))).values[:, -1:]
    return logits.topk(int((logits >= smallest).sum(dim=1).max())).values


def _largest(row: Logits, k: int) -> list[int]:
    """The tokens with the k largest of these logits (V,), the largest first."""
    k = min(k, len(row))
    some = np.argpartition(row, len(row) - k)[len(row) - k :]
    return [int(token) for token in some[np.argsort(-row[some], kind="stable")]]


def _without(p: numbers.Floats, shown: list[int]) -> float:
    """The share of all tokens but those that are `shown`."""
    return float(np.delete(p, shown).sum())


def _keep(kept: OrderedDict[K, V], key: K, value: V, most: int) -> V:
    """Put `value` into `kept`, which forgets the oldest; returns it."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return value
