"""Render a page: one HTML file with its style, and under a policy that allows nothing but that.

Most of what a page shows was written by students. It is text and never markup (Jinja2's autoescape), characters that
steer the direction of text or a terminal are spelled out, and what is too long is cut.
"""

import base64
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from src.grading.pages.figures import figure

TEMPLATES = Path(__file__).parent / "templates"
MOST_BYTES = 95_000  # of a page about one submission
_LENGTHS = (4000, 1500, 500, 150, 40)  # characters of a text, from the first that makes the page small enough
_JOINERS = "\u200c\u200d\u00a0"  # which names and words in some scripts need


def rendered(
    template: str, folders: Iterable[Path] = (), script: str = "", style: str = "", most_bytes: int = 0, **context: Any
) -> str:
    """The page that `template` makes of `context`, with all texts cut as far as `most_bytes` demands (0: no limit).

    Args:
        folders: where templates are, besides those of this package
        script: the page's JavaScript
        style: what is added to the style of all pages
    """
    css = (TEMPLATES / "style.css").read_text(encoding="utf-8") + style
    context |= {"style": Markup(css), "script": Markup(script), "policy": _policy(css, script)}  # ours, not students'
    text = ""
    for length in _LENGTHS:
        text = _environment(length, tuple(folders)).get_template(template).render(context)
        if not most_bytes or len(text.encode()) <= most_bytes:
            break
    return text


def readable(text: str, length: int) -> str:
    r"""`text` without its middle where it is longer than `length`, and with "\u202e" for a character of that kind."""
    if len(text) > length:
        left_out = f" […{len(text) - length:,} characters…] "
        text = text[: length // 2] + left_out + text[-length // 2 :]
    return "".join(c if c.isprintable() or c in "\n\t" + _JOINERS else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


@functools.cache
def _environment(length: int, folders: tuple[Path, ...]) -> jinja2.Environment:
    def finalize(value: Any) -> Any:
        return readable(value, length) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, finalize=finalize,
    )  # fmt: skip
    environment.filters["prose"] = lambda text: _with_code(readable(text, length))
    environment.filters["points"] = lambda points: f"{points:.4g}"
    environment.globals["figure"] = figure
    return environment


def _with_code(text: str) -> Markup:
    """`text` with what stands between two backquotes as code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # one of them has no partner
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(pieces))


def _policy(style: str, script: str) -> str:
    """The Content-Security-Policy: this style and this script, and nothing from anywhere."""
    allowed = f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src '{_hash(style)}'"
    return f"{allowed}; script-src '{_hash(script)}'" if script else allowed


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
