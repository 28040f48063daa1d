"""`src/grading/safe_pickle.py`: it reads plain data and arrays of floats, and executes nothing."""

import os
import pickle

import numpy as np
import pytest

from src.errors import PickleError
from src.grading.safe_pickle import MAX_BYTES, read_float_array, read_plain


class Call:
    """An object whose pickle calls a function when `pickle.load` reads it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("read", [read_plain, read_float_array])
def test_a_pickle_that_calls_a_function_is_refused(tmp_path, protocol, read):
    path, created = tmp_path / "trap.pkl", tmp_path / "created"
    for trap in (
        Call(os.mkdir, str(created)),
        Call(eval, f"open({str(created)!r}, 'w')"),
        [Call(np.save, str(created), 1)],
    ):
        path.write_bytes(pickle.dumps(trap, protocol))
        with pytest.raises(PickleError, match=r"trap\.pkl: is damaged or holds more than plain data"):
            read(path)
        assert list(tmp_path.iterdir()) == [path]  # nothing was called


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_data_is_read(tmp_path, protocol):
    value = {0: "ünï", "list": [1, 2.5, True, False, None, [1, 2], 10**30], "bytes": [] if protocol < 3 else b"x"}
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(value, protocol))
    assert read_plain(tmp_path / "p.pkl") == value


@pytest.mark.parametrize("protocol", [3, 4])
def test_an_array_of_floats_is_read(tmp_path, protocol):
    array = np.linspace(-500, -1, 100)
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(array, protocol))
    np.testing.assert_array_equal(read_float_array(tmp_path / "p.pkl"), array)


@pytest.mark.parametrize("value", [np.zeros((2, 2)), np.zeros(3, dtype=np.int64), np.zeros(3, dtype=">f8"), [1.0], 3])
def test_an_array_of_another_kind_is_refused(tmp_path, value):
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(value, 4))
    with pytest.raises(PickleError, match="does not hold a one-dimensional NumPy array of float64"):
        read_float_array(tmp_path / "p.pkl")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04.",
        b"\x80\x04]",
        b"garbage",
        b"\x80\x04r\xff\xff\xff\xffN.",  # a memo with four billion entries
        b"\x80\x04B\xff\xff\xff\x7fx.",  # two gigabytes of bytes that are not in the file
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x0fx.",  # an exabyte of bytearray
        b"(" * 100_000 + b".",
        b"\x80\x04})" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"Ns.",  # a key of 2**60 parts
        pickle.dumps(dict.fromkeys(range(100), "x" * 100), 4)[:-50],
    ],
)
def test_a_damaged_pickle_is_one_line_of_error(tmp_path, content):
    (tmp_path / "p.pkl").write_bytes(content)
    for read in (read_plain, read_float_array):
        with pytest.raises(PickleError) as caught:
            read(tmp_path / "p.pkl")
        assert "\n" not in str(caught.value)


def test_a_missing_pickle_is_a_pickle_error(tmp_path):
    with pytest.raises(PickleError, match=r"none\.pkl: cannot be read"):
        read_plain(tmp_path / "none.pkl")


def test_a_huge_pickle_is_refused(tmp_path):
    (tmp_path / "huge.pkl").write_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(PickleError, match="cannot be right"):
        read_plain(tmp_path / "huge.pkl")
