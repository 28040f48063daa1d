"""staff/hw10/build_data.py on small CSV files."""

import gzip
import io

import numpy as np
import pytest

from src.errors import DataError
from staff.hw10.build_data import build


def write_csv(path, labels, width=784, high=256):
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(0, high, (len(labels), width)), labels])
    path.write_bytes(gzip.compress("\n".join(",".join(map(str, row)) for row in rows).encode()))
    return rows


def test_digits_come_in_turn_each_in_the_order_of_the_csv(tmp_path):
    rows = write_csv(tmp_path / "digits.csv.gz", np.repeat(range(10), 3))
    with np.load(io.BytesIO(build(tmp_path / "digits.csv.gz"))) as arrays:
        np.testing.assert_array_equal(arrays["labels"], list(range(10)) * 3)
        np.testing.assert_array_equal(arrays["images"].reshape(30, 784)[10], rows[1, :-1])  # the second 0


@pytest.mark.parametrize(
    ("labels", "options", "reason"),
    [
        (range(9), {}, "as many images of each digit"),
        ([*range(10), 10], {}, "as many images of each digit"),
        (range(10), {"width": 783}, "784 pixels"),
        (range(10), {"high": 1000}, "from 0 to 255"),
    ],
    ids=["no nine", "a ten", "narrow", "bright"],
)
def test_another_csv_is_refused(tmp_path, labels, options, reason):
    write_csv(tmp_path / "digits.csv.gz", labels, **options)
    with pytest.raises(DataError, match=reason):
        build(tmp_path / "digits.csv.gz")


def test_a_text_that_is_no_csv_is_refused(tmp_path):
    (tmp_path / "digits.csv.gz").write_bytes(gzip.compress(b"not,numbers"))
    with pytest.raises(DataError, match="not a gzipped CSV file of numbers"):
        build(tmp_path / "digits.csv.gz")
