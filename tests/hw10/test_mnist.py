"""The bundled digits, and all of MNIST from a server on this machine."""

import dataclasses
import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch

from src.errors import DataError
from src.files import ROOT
from src.hw10 import mnist
from tests.model.test_download import Server, nobody, serving

DATA = ROOT / "homework" / "hw10" / "data"


@pytest.fixture(scope="module")
def digits():
    return mnist.load(DATA, full=False)


def test_images_are_float32_between_zero_and_one(digits):
    images = torch.cat([digits.train_images, digits.test_images])
    assert images.shape == (5000, 784)
    assert images.dtype == torch.float32
    assert images.min() == 0
    assert images.max() == 1


def test_labels_are_int64_and_as_many_as_images(digits):
    assert digits.train_labels.dtype == digits.test_labels.dtype == torch.int64
    assert digits.train_labels.shape == (4500,)
    assert digits.test_labels.shape == (500,)


def test_fifty_of_each_digit_are_held_out(digits):
    assert digits.test_labels.bincount().tolist() == [50] * 10
    assert digits.train_labels.bincount().tolist() == [450] * 10


def test_no_held_out_image_is_trained_on(digits):
    seen = {image.numpy().tobytes() for image in digits.train_images}
    assert not seen & {image.numpy().tobytes() for image in digits.test_images}


def test_images_belong_to_their_labels(digits):
    """The mean image of a digit's training images is nearest for most held-out ones: 82% on MNIST, 10% by chance."""
    means = torch.stack([digits.train_images[digits.train_labels == digit].mean(0) for digit in range(10)])
    nearest = torch.cdist(digits.test_images, means).argmin(1)
    assert (nearest == digits.test_labels).float().mean() > 0.7


def test_a_missing_subset_is_a_line_with_a_remedy(tmp_path):
    with pytest.raises(DataError, match=r"mnist_5k\.npz: cannot be read .*restore it from the starter code") as caught:
        mnist.load(tmp_path, full=False)
    assert "\n" not in str(caught.value)


def test_a_damaged_subset_is_refused(tmp_path):
    content = bytearray((DATA / mnist.SUBSET).read_bytes())
    content[4000] ^= 1
    (tmp_path / mnist.SUBSET).write_bytes(content)
    with pytest.raises(DataError, match="sha256"):
        mnist.load(tmp_path, full=False)


def idx(array: np.ndarray) -> bytes:
    """A gzipped idx file of the array's bytes."""
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


@pytest.fixture
def small_mnist(monkeypatch):
    """MNIST's four files with 30 and 20 images, whose checksums are the expected ones."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, high, shape) for n in (30, 20) for high, shape in ((256, (n, 28, 28)), (10, (n,)))]
    files = {name: idx(array) for name, array in zip(mnist.FULL, arrays, strict=True)}
    monkeypatch.setattr(mnist, "FULL", {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    return files, arrays


def load_from(server: Server, folder, monkeypatch) -> mnist.Digits:
    monkeypatch.setattr(mnist, "MIRRORS", (server.url,))
    return mnist.load(folder, full=True)


def test_whole_files_are_downloaded_and_read(small_mnist, tmp_path, monkeypatch):
    files, arrays = small_mnist
    with serving(files) as server:
        digits = load_from(server, tmp_path, monkeypatch)
    got = [getattr(digits, field.name).numpy() for field in dataclasses.fields(digits)]
    expected = [arrays[0].reshape(30, 784) / 255, arrays[1], arrays[2].reshape(20, 784) / 255, arrays[3]]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)  # float32


def test_a_second_load_does_not_use_the_network(small_mnist, tmp_path, monkeypatch):
    with serving(small_mnist[0]) as server:
        load_from(server, tmp_path, monkeypatch)
        server.requests.clear()
        load_from(server, tmp_path, monkeypatch)
    assert server.requests == []


def test_the_second_mirror_serves_what_the_first_lacks(small_mnist, tmp_path, monkeypatch):
    with serving({}) as empty, serving(small_mnist[0]) as server:
        monkeypatch.setattr(mnist, "MIRRORS", (empty.url, server.url))
        assert len(mnist.load(tmp_path, full=True).train_images) == 30


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content[:-9], "damaged"),
        (lambda content: content[:20] + bytes([content[20] ^ 1]) + content[21:], "damaged"),
        (lambda content: None, "the server answered 404"),
    ],
    ids=["truncated", "wrong byte", "gone"],
)
def test_a_wrong_file_is_one_line_and_is_not_kept(small_mnist, tmp_path, monkeypatch, change, reason):
    name = "t10k-images-idx3-ubyte.gz"
    served = {**small_mnist[0], name: change(small_mnist[0][name])}
    with serving(served) as server, pytest.raises(DataError, match=reason) as caught:
        load_from(server, tmp_path, monkeypatch)
    assert name in str(caught.value)
    assert "leave --full-mnist out" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mnist" / name).exists()


def test_a_lost_connection_is_a_clear_error(small_mnist, tmp_path, monkeypatch):
    with nobody() as url:
        monkeypatch.setattr(mnist, "MIRRORS", (url,))
        with pytest.raises(DataError, match="no connection"):
            mnist.load(tmp_path, full=True)


def test_a_file_damaged_on_disk_is_refused(small_mnist, tmp_path, monkeypatch):
    with serving(small_mnist[0]) as server:
        load_from(server, tmp_path, monkeypatch)
        path = tmp_path / "mnist" / "train-labels-idx1-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(DataError, match=r"sha256 is not the expected one; delete it"):
            load_from(server, tmp_path, monkeypatch)


def test_the_checksums_are_those_of_four_different_files():
    assert len(set(mnist.FULL.values())) == 4
    assert all(len(bytes.fromhex(digest)) == 32 for digest in mnist.FULL.values())


IMAGES = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 28, 28)


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (b"", "not an idx file"),
        (IMAGES[:9], "not an idx file"),
        (bytes((0, 0, 9, 1)) + struct.pack(">I", 2) + bytes(2), "not an idx file"),
        (bytes((0, 0, 8, 2)) + struct.pack(">2I", 2, 2) + bytes(4), "not an idx file"),
        (bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 2, 2) + bytes(8), "not an idx file"),
        (IMAGES + bytes(2 * 784 - 1), "1567 bytes"),
        (IMAGES + bytes(2 * 784 + 1), "1569 bytes"),
        (bytes((0, 0, 8, 1)) + struct.pack(">I", 2**32 - 1) + bytes(5), "5 bytes"),
    ],
    ids=["empty", "cut header", "signed", "matrix", "small images", "too few", "too many", "huge"],
)
def test_a_malformed_idx_file_is_refused(tmp_path, plain, reason):
    with pytest.raises(DataError, match=f"images.gz: .*{reason}"):
        mnist.read_idx(gzip.compress(plain), tmp_path / "images.gz")


@pytest.mark.parametrize("content", [b"no gzip file", gzip.compress(bytes(5000))[:-9]], ids=["text", "cut"])
def test_what_is_not_gzip_is_refused(tmp_path, content):
    with pytest.raises(DataError, match="truncated or not a gzip file"):
        mnist.read_idx(content, tmp_path / "labels.gz")


def test_idx_files_are_read_as_they_were_written(tmp_path):
    images = np.arange(3 * 784).reshape(3, 28, 28) % 256
    np.testing.assert_array_equal(mnist.read_idx(idx(images), tmp_path), images)
