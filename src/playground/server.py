"""The server of the page: what it answers to each request, as JSON."""

import dataclasses
import functools
import json
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from src.errors import PlaygroundError, UserError
from src.files import ROOT, shown
from src.model.config import model_config, model_names, option
from src.playground import histograms
from src.playground.guard import Guard
from src.playground.mind import Ids, Mind, load
from src.playground.numbers import Setting
from src.playground.problem import Problem
from src.playground.worker import Worker

if TYPE_CHECKING:
    from src.playground.yours import Yours

STATIC = Path(__file__).parent / "static"
LONGEST_TEXT = 100_000  # characters
LONGEST_CONTINUATION = 200  # tokens
_LARGEST_SEED = 2**53 - 1  # that JavaScript can hold


@dataclass
class Playground:
    """What the server answers from. All work is done in one thread, one request after the other."""

    first_model: str
    yours: "Yours | None"  # the student's functions; None: the page shows the model alone
    data: Path
    worker: Worker = field(default_factory=Worker)
    minds: dict[str, Mind] = field(default_factory=dict)
    is_ending: bool = False

    def mind(self, name: str) -> Mind:
        """The model `name`, which is loaded when it is first asked for."""
        if name not in self.models():
            raise PlaygroundError(f"there is no model {name} here; known are {', '.join(self.models())}")
        if name not in self.minds:
            self.minds[name] = load(name)
        return self.minds[name]

    def models(self) -> list[str]:
        """The models whose weights are there: the page downloads nothing."""
        known = [name for name in model_names() if name == self.first_model or _is_here(name)]
        return sorted(known, key=lambda name: name != self.first_model)


@dataclass(frozen=True)
class Asked:
    """A request about a text and what follows it."""

    mind: Mind
    ids: Ids
    setting: Setting
    horizon: int
    seed: int
    steps: int  # how many of the ids come after the text
    count: int  # tokens to draw
    is_yours: bool  # whether the student's code draws


def application(playground: Playground, port: int) -> Starlette:
    """The server."""
    answers = {
        "about": _about, "pieces": _pieces, "tokens": _tokens, "read": _read, "read/yours": _read_yours, "next": _next,
        "next/yours": _next_yours, "draw": _draw, "questions": _questions,
    }  # fmt: skip
    routes: list[Route | Mount] = [Route("/", lambda _: FileResponse(STATIC / "index.html"))]
    for name, answer in answers.items():
        routes.append(Route(f"/api/{name}", functools.partial(_answered, playground, answer), methods=["POST"]))
    for name, stream in {"histograms": _histograms, "continue": _continue}.items():
        routes.append(Route(f"/api/{name}", functools.partial(_streamed, playground, stream), methods=["POST"]))
    routes.append(Mount("/static", StaticFiles(directory=STATIC)))
    return Starlette(routes=routes, middleware=[Middleware(Guard, port=port)])


async def _answered(playground: Playground, answer: Callable[[Playground, Any], Any], request: Request) -> Response:
    """What `answer` returns, computed in the worker's thread."""
    try:
        asked = await _json(request)
        found = await playground.worker.do(lambda: answer(playground, asked))
    except UserError as error:
        return JSONResponse({"error": str(error)}, 422)
    return JSONResponse(_plain(found))


async def _streamed(
    playground: Playground, stream: Callable[[Playground, Any], AsyncIterator[Any]], request: Request
) -> Response:
    """What `stream` yields, a line each."""
    asked = await _json(request)

    async def lines() -> AsyncIterator[str]:
        try:
            async for each in stream(playground, asked):
                yield json.dumps(_plain(each)) + "\n"
                if playground.is_ending:
                    return
        except UserError as error:
            yield json.dumps({"error": str(error)}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def _json(request: Request) -> dict[str, Any]:
    try:
        asked = json.loads(await request.body())
    except (ValueError, RecursionError):
        asked = None
    return asked if isinstance(asked, dict) else {}


def _about(playground: Playground, _: Any) -> Any:
    config = playground.mind(playground.first_model).config
    return {
        "models": [{"name": name, "option": option(name)} for name in playground.models()],
        "questions": shown(playground.yours.folder.resolve()) if playground.yours else None,
        "top_k": config.top_k,
        "seed": config.seed,
        "longest_text": LONGEST_TEXT,
        **_questions(playground, _),
    }


def _pieces(playground: Playground, _: Any) -> Any:
    return histograms.texts(playground.data) if playground.yours else []


def _tokens(playground: Playground, given: Any) -> Any:
    mind = playground.mind(_model(playground, given))
    return [mind.piece(token) for token in _ids(given, mind)]


def _questions(playground: Playground, _: Any) -> Any:
    return {"stamp": playground.yours.stamp() if playground.yours else ""}


def _read(playground: Playground, asked: Any) -> Any:
    mind = playground.mind(_model(playground, asked))
    return {**_plain(mind.read(mind.ids_of(_text(asked)))), "context": mind.config.n_ctx}


def _read_yours(playground: Playground, asked: Any) -> Any:
    mind = playground.mind(_model(playground, asked))
    ids = mind.ids_of(_text(asked))
    return {"log_likelihood": _result(_yours(playground).log_likelihood(mind, ids, mind.read(ids).total))}


def _next(playground: Playground, given: Any) -> Any:
    asked = _asked(playground, given)
    return asked.mind.next(asked.ids, asked.setting, asked.steps)


def _next_yours(playground: Playground, given: Any) -> Any:
    asked = _asked(playground, given)
    both = [_yours(playground).scaled(asked.mind, asked.ids, asked.setting, horizon) for horizon in (1, 2)]
    return {"horizons": [_result(each) for each in both]}


def _draw(playground: Playground, given: Any) -> Any:
    asked = _asked(playground, given)
    token = _drawn(playground, asked, asked.ids)
    return _result(token) if isinstance(token, Problem) else asked.mind.piece(token)


async def _continue(playground: Playground, given: Any) -> AsyncIterator[Any]:
    """Draw one token after the other, until there are enough, the context is full, or the reader leaves."""
    asked = await playground.worker.do(lambda: _asked(playground, given))
    ids = asked.ids
    for _ in range(min(asked.count, asked.mind.config.n_ctx - len(ids))):
        token = await playground.worker.do(lambda ids=ids: _drawn(playground, asked, ids))  # type: ignore[misc]
        if isinstance(token, Problem):
            yield _result(token)
            return
        ids = (*ids, token)
        seen = await playground.worker.do(lambda ids=ids: asked.mind.last_step(ids, asked.setting))  # type: ignore[misc]
        yield seen
    yield {"end": True}


async def _histograms(playground: Playground, given: Any) -> AsyncIterator[Any]:
    """The log-likelihoods of all strings; while they are computed, how many are done."""
    name = _model(playground, given)
    mind = await playground.worker.do(lambda: playground.mind(name))
    data = histograms.texts(playground.data)
    values = histograms.cached(mind, data)
    if values is None:
        total, values = sum(len(each.pieces) for each in data), {}
        for each in data:
            values[each.name] = []
            for piece in each.pieces:
                value = await playground.worker.do(lambda piece=piece: mind.read(mind.ids_of(piece)).total)  # type: ignore[misc]
                values[each.name].append(value)
                yield {"done": sum(map(len, values.values())), "of": total}
        histograms.keep(mind, data, values)
    yield {"values": [{"label": each.label, "values": values[each.name]} for each in data]}


def _drawn(playground: Playground, asked: Asked, ids: Ids) -> int | Problem:
    seed = (asked.seed + len(ids)) % 2**63  # another one for each place, the same whenever it is drawn again
    if asked.is_yours:
        return _yours(playground).draw(asked.mind, ids, asked.setting, asked.horizon, seed)
    return asked.mind.draw(ids, asked.setting, asked.horizon, seed)


def _yours(playground: Playground) -> "Yours":
    """The student's functions.

    Raises:
        PlaygroundError: there are none.
    """
    if playground.yours is None:
        raise PlaygroundError("there are no functions of yours here: only the model answers")
    return playground.yours


def _asked(playground: Playground, given: Any) -> Asked:
    mind = playground.mind(_model(playground, given))
    more = _ids(given, mind)
    setting = Setting(
        _number(given, "temperature", 0.05, 10), _whole(given, "top_k", 0, mind.config.vocab_size, mind.config.top_k)
    )
    return Asked(
        mind, mind.ids_of(_text(given), more, room=1), setting, _whole(given, "horizon", 1, 2, 1),
        _whole(given, "seed", 0, _LARGEST_SEED, mind.config.seed), len(more),
        _whole(given, "count", 1, LONGEST_CONTINUATION, 1), given.get("code", "yours") == "yours",
    )  # fmt: skip


def _ids(given: Any, mind: Mind) -> Ids:
    ids = given.get("ids", [])
    if not isinstance(ids, list) or any(type(token) is not int for token in ids):
        raise PlaygroundError("ids must be a list of whole numbers")
    if any(not 0 <= token < mind.config.vocab_size for token in ids):
        raise PlaygroundError(
            f"a token is not in the vocabulary of {option(mind.config.name)}; start again from the text"
        )
    return tuple(ids)


def _model(playground: Playground, given: Any) -> str:
    name = given.get("model") or playground.first_model
    return model_config(str(name)[:100]).name


def _text(given: Any) -> str:
    text = given.get("text", "")
    if not isinstance(text, str):
        raise PlaygroundError("text must be a string")
    if len(text) > LONGEST_TEXT:
        raise PlaygroundError(f"the text has {len(text):,} characters; at most {LONGEST_TEXT:,} are read: shorten it")
    return text


def _number(given: Any, name: str, least: float, most: float) -> float:
    value = given.get(name, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise PlaygroundError(f"{name} is {json.dumps(value)[:40]}, but must lie between {least:g} and {most:g}")
    return float(value)


def _whole(given: Any, name: str, least: int, most: int, default: int) -> int:
    value = given.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise PlaygroundError(
            f"{name} is {json.dumps(value)[:40]}, but must be a whole number from {least:,} to {most:,}"
        )
    return value


def _result(value: Any) -> Any:
    """A value of the student's code, or why there is none."""
    return {"problem": value} if isinstance(value, Problem) else value


def _plain(value: Any) -> Any:
    """`value` as JSON has it: dataclasses as objects, with their properties."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        names += [name for name, member in vars(type(value)).items() if isinstance(member, property)]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _is_here(name: str) -> bool:
    try:
        weights = model_config(name).checkpoint.weights
    except UserError:
        return False
    return any((ROOT / "checkpoints" / name / each.file).exists() for each in weights)
