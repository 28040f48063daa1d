"""Parts of documents that commands write: what stands between `<!-- MARK -->` and `<!-- /MARK -->`."""

import re
from pathlib import Path

from src.errors import UserError
from src.files import write_file


def rewrite(document: Path, mark: str, lines: list[str]) -> None:
    """Put `lines` between the marks of a document.

    Raises:
        UserError: the marks are gone.
    """
    text = document.read_text(encoding="utf-8")
    marked = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    if not marked.search(text):
        raise UserError(f"{document}: the marks <!-- {mark} --> and <!-- /{mark} -->, around the table, are missing")
    new = marked.sub(lambda match: match[1] + "".join(f"{line}\n" for line in lines) + match[2], text)
    if new != text:
        write_file(document, new.encode())
