"""Cut the homework's texts into the four pickles of `data/`, and write the snippets' labels for the staff.

    python -m staff.build_data                                    from data/papers.csv and data/plays.txt
    python -m staff.build_data --papers Papers.csv --plays plays.txt --out data

Each text is cut into pieces of 100 characters. The histograms take 100 consecutive pieces, the snippets 100 others of
the same text at random. Random letters are upper- and lower-case letters, each equally likely. The same seed gives the
same bytes. The label of a snippet is the name of its data set.
"""

import argparse
import json
import random
import string
from pathlib import Path

from src.errors import DataError, run_command
from src.files import ROOT, write_file
from src.hw1.artifacts import pickled
from src.hw1.dataset import (
    DATASETS,
    HISTOGRAM_PIECES,
    NEURIPS,
    PIECE_LENGTH,
    RANDOM,
    SHAKESPEARE,
    SNIPPETS,
    read_papers,
)

PER_DATASET = SNIPPETS // len(DATASETS)


def split(text: str, rng: random.Random, source: str) -> tuple[list[str], list[str]]:
    """100 consecutive pieces of `text` for the histogram, and 100 different ones for the snippets.

    Raises:
        DataError: the text is too short.
    """
    pieces = [text[i : i + PIECE_LENGTH] for i in range(0, len(text) - PIECE_LENGTH + 1, PIECE_LENGTH)]
    start = rng.randrange(max(1, len(pieces) - HISTOGRAM_PIECES + 1))
    histogram = pieces[start : start + HISTOGRAM_PIECES]
    rest = sorted(set(pieces[:start] + pieces[start + HISTOGRAM_PIECES :]) - set(histogram))
    if len(rest) < PER_DATASET:
        needed = (HISTOGRAM_PIECES + PER_DATASET) * PIECE_LENGTH
        raise DataError(
            f"{source}: has {len(text)} characters, but needs at least {needed}, with no piece of {PIECE_LENGTH} twice"
        )
    return histogram, rng.sample(rest, PER_DATASET)


def build(papers: Path, plays: Path, seed: int) -> tuple[dict[str, bytes], list[str]]:
    """The content of the four pickles by name, and the labels of the snippets in their order.

    Raises:
        UserError: a source cannot be read or is too short.
    """
    try:
        plays_text = plays.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{plays}: cannot be read as UTF-8 text ({error})") from None
    letters = random.Random(f"{seed} letters").choices(string.ascii_letters, k=2 * PIECE_LENGTH * HISTOGRAM_PIECES)
    texts = {
        RANDOM: ("".join(letters), RANDOM.label),
        SHAKESPEARE: (plays_text, str(plays)),
        NEURIPS: (" ".join(" ".join(paper["Abstract"].split()) for paper in read_papers(papers)), str(papers)),
    }
    files: dict[str, bytes] = {}
    labelled: list[tuple[str, str]] = []
    for dataset in DATASETS:
        text, source = texts[dataset]
        histogram, snippets = split(text, random.Random(f"{seed} {dataset.name}"), source)
        files[dataset.file] = pickled(dict(enumerate(histogram)))
        labelled += [(snippet, dataset.name) for snippet in snippets]
    random.Random(f"{seed} shuffle").shuffle(labelled)
    files["snippets.pkl"] = pickled([snippet for snippet, _ in labelled])
    return files, [label for _, label in labelled]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--papers", type=Path, default=ROOT / "data" / "papers.csv", help="CSV of papers")
    parser.add_argument("--plays", type=Path, default=ROOT / "data" / "plays.txt", help="plain text of plays")
    parser.add_argument("--out", type=Path, default=ROOT / "data", help="where the pickles go")
    parser.add_argument(
        "--labels", type=Path, default=ROOT / "staff" / "hw1" / "labels" / "snippets.json", help="for the staff"
    )
    parser.add_argument("--seed", type=int, default=20190929)
    args = parser.parse_args()
    files, labels = build(args.papers, args.plays, args.seed)
    for name, content in files.items():
        write_file(args.out / name, content)
    write_file(args.labels, (json.dumps(labels) + "\n").encode())
    print(f"wrote {', '.join(files)} to {args.out}, and the labels of the snippets to {args.labels}")
    return 0


if __name__ == "__main__":
    run_command(main)
