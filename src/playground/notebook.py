"""The tokens of a text as HTML, for a notebook: no server, no script, and no style from outside."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from src.files import ROOT
from src.model.config import model_config
from src.playground.mind import Mind, Piece, Reading, Seen, load
from src.playground.problem import Problem, has_functions

if TYPE_CHECKING:
    from src.playground.yours import Likelihood, Yours

# Up to which rank; background; underline, for those who do not see the colour. As on the page.
_STYLES = (
    (10, "#d8f0de", "none"),
    (100, "#fbeaae", "underline dotted 2px"),
    (1000, "#fdd3cb", "underline dashed 2px"),
    (float("inf"), "#e2d6fb", "underline double 2px"),
)
_GIVEN = "#e6e9ef"
_TOKEN = Markup(
    '<span title="{}" style="background:{};color:#1b1f27;text-decoration:{};text-underline-offset:.25em;'
    'border-radius:3px;padding:.1em .05em;unicode-bidi:isolate">{}</span>'
)
_VISIBLE = {" ": "·", "\n": "⏎\n", "\t": "⇥", "\r": "␍"}


@dataclass(frozen=True)
class TokenView:
    """The tokens of a text. As the last value of a notebook's cell, it is displayed."""

    reading: Reading
    yours: "Likelihood | Problem | None"  # what log_likelihood says, in homework 1

    def _repr_html_(self) -> str:
        tokens = Markup().join(map(_token, self.reading.tokens))
        legend = Markup(" ").join(
            Markup('<span style="background:{};color:#1b1f27;text-decoration:{};padding:0 .3em">{}</span>').format(
                colour, line, f"rank up to {most:,}" if most < float("inf") else "above"
            )
            for most, colour, line in _STYLES
        )
        return Markup(
            '<div dir="auto" style="line-height:2;white-space:pre-wrap;overflow-wrap:anywhere">{}</div>'
            '<p style="font-size:.85em">{}</p><pre style="white-space:pre-wrap">{}</pre>'
        ).format(tokens, legend, self._totals())

    def __repr__(self) -> str:
        return self._totals()

    def _totals(self) -> str:
        total = f"log-likelihood of {len(self.reading.tokens)} tokens: {self.reading.total:.3f} nats"
        if self.yours is None:
            return total
        if isinstance(self.yours, Problem):
            return f"{total}\nyour log_likelihood: {self.yours.text}\n{self.yours.details}".rstrip()
        difference = 0.0 if self.yours.is_same else self.yours.difference
        return f"{total}\nyour log_likelihood: {self.yours.value:.3f}, difference {difference:.3g}"


def view(text: str, model: str, questions: Path | str) -> TokenView:
    """See `src.playground.show`."""
    folder = ROOT / questions  # an absolute path stays as it is
    mind = _mind(model_config(model).name)
    ids = mind.ids_of(text)
    reading = mind.read(ids)
    yours = _yours(folder) if has_functions(folder) else None
    return TokenView(reading, yours.log_likelihood(mind, ids, reading.total) if yours else None)


@functools.lru_cache(maxsize=2)
def _mind(name: str) -> Mind:
    return load(name)


@functools.cache
def _yours(questions: Path) -> "Yours":
    from src.playground.yours import Yours

    return Yours(questions)


def _token(seen: Seen) -> Markup:
    what = "given" if seen.rank is None else f"rank {seen.rank:,}, log p = {seen.log_p:.3f}"
    _, colour, line = next(style for style in _STYLES if (seen.rank or 1) <= style[0])
    return _TOKEN.format(what, _GIVEN if seen.rank is None else colour, line, _shown(seen.piece))


def _shown(piece: Piece) -> str:
    return "".join(_VISIBLE.get(character, character) for character in piece.text) or f"[{piece.bytes}]"
