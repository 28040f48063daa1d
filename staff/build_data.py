"""Cut the homework's texts into the four pickles of `data/`, and keep the snippets' true kinds for the staff.

    python -m staff.build_data                                    from data/papers.csv and data/plays.txt
    python -m staff.build_data --papers Papers.csv --plays plays.txt --out data

Each text is cut into pieces of 100 characters. For the histograms, 100 consecutive pieces are taken; for the snippets,
100 others of the same text at random. Random text is made of upper- and lower-case letters, each equally likely. The
same seed gives the same bytes.
"""

import argparse
import json
import random
import string
import sys
from pathlib import Path

from src.artifacts import pickled, write_file
from src.config import ROOT
from src.dataset import HISTOGRAM_PIECES, PIECE_LENGTH, SNIPPETS, DataError, read_papers
from src.errors import UserError

KINDS = ("random", "shakespeare", "neurips")
PER_KIND = SNIPPETS // len(KINDS)


def split(text: str, rng: random.Random, source: str) -> tuple[list[str], list[str]]:
    """100 consecutive pieces of `text` for the histogram, and 100 other ones for the snippets; none is in both.

    Raises:
        DataError: the text is too short.
    """
    pieces = [text[i : i + PIECE_LENGTH] for i in range(0, len(text) - PIECE_LENGTH + 1, PIECE_LENGTH)]
    start = rng.randrange(max(1, len(pieces) - HISTOGRAM_PIECES + 1))
    histogram = pieces[start : start + HISTOGRAM_PIECES]
    rest = sorted(set(pieces[:start] + pieces[start + HISTOGRAM_PIECES :]) - set(histogram))
    if len(rest) < PER_KIND:
        needed = (HISTOGRAM_PIECES + PER_KIND) * PIECE_LENGTH
        raise DataError(f"{source}: gives {len(text)} characters, but at least {needed} are needed, none of them twice")
    return histogram, rng.sample(rest, PER_KIND)


def build(papers: Path, plays: Path, seed: int) -> tuple[dict[str, bytes], list[str]]:
    """The content of the four pickles by name, and the snippets' kinds in their order.

    Raises:
        UserError: a source cannot be read or is too short.
    """
    try:
        plays_text = plays.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{plays}: cannot be read as UTF-8 text ({error})") from None
    letters = random.Random(f"{seed} letters").choices(string.ascii_letters, k=2 * PIECE_LENGTH * HISTOGRAM_PIECES)
    texts = {
        "random": ("".join(letters), "random letters"),
        "shakespeare": (plays_text, str(plays)),
        "neurips": (" ".join(" ".join(paper["Abstract"].split()) for paper in read_papers(papers)), str(papers)),
    }
    files, labelled = {}, []
    for kind in KINDS:
        text, source = texts[kind]
        histogram, snippets = split(text, random.Random(f"{seed} {kind}"), source)
        files[f"{kind}.pkl"] = pickled(dict(enumerate(histogram)))
        labelled += [(snippet, kind) for snippet in snippets]
    random.Random(f"{seed} shuffle").shuffle(labelled)
    files["snippets.pkl"] = pickled([snippet for snippet, _ in labelled])
    return files, [kind for _, kind in labelled]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--papers", type=Path, default=ROOT / "data" / "papers.csv", help="CSV of papers")
    parser.add_argument("--plays", type=Path, default=ROOT / "data" / "plays.txt", help="plain text of plays")
    parser.add_argument("--out", type=Path, default=ROOT / "data", help="where the pickles go")
    parser.add_argument(
        "--labels", type=Path, default=ROOT / "staff" / "labels" / "snippets.json", help="for the staff"
    )
    parser.add_argument("--seed", type=int, default=20190929)
    args = parser.parse_args()
    files, kinds = build(args.papers, args.plays, args.seed)
    for name, content in files.items():
        write_file(args.out / name, content)
    write_file(args.labels, (json.dumps(kinds) + "\n").encode())
    print(f"wrote {', '.join(files)} to {args.out}, and the snippets' true kinds to {args.labels}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
