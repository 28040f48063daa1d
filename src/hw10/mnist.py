"""Handwritten digits: the 5,000 that come with the homework, and all of MNIST, downloaded once.

Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits. Licence: CC BY-SA 3.0.
"""

import gzip
import hashlib
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.errors import DataError
from src.files import shown
from src.model.download import download

SUBSET = "mnist_5k.npz"
SUBSET_SHA256 = "ec56671eedea578fe38198d455616f721540adb79079f21462763a80602814a0"
HELD_OUT = 500  # images at the end of the subset: 50 of each digit

SIDE = 28  # pixels
PIXELS = SIDE * SIDE

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
FULL = {  # file → sha256
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_BYTES = 0x08  # what the third byte of an idx file says of its numbers: unsigned bytes


@dataclass(frozen=True)
class Digits:
    """Images to train with, and others that were held out."""

    train_images: Tensor  # (N, 784) float32, from 0 for black to 1 for white
    train_labels: Tensor  # (N,) int64, the digits
    test_images: Tensor  # (M, 784)
    test_labels: Tensor  # (M,)


def load(data: Path, full: bool) -> Digits:
    """The digits in the folder `data`: the bundled ones, or all of MNIST, which is downloaded where it is missing.

    Raises:
        DataError: a file is missing, damaged, or cannot be downloaded.
    """
    if not full:
        images, labels = _subset(data / SUBSET)
        return _digits(images[:-HELD_OUT], labels[:-HELD_OUT], images[-HELD_OUT:], labels[-HELD_OUT:])
    paths = [data / "mnist" / name for name in FULL]
    return _digits(*(read_idx(_full_file(path), path) for path in paths))


def _digits(*arrays: NDArray[np.uint8]) -> Digits:
    """From images (N, 28, 28) and labels (N,), to train with and held out."""
    train_images, train_labels, test_images, test_labels = map(torch.from_numpy, arrays)
    return Digits(_pixels(train_images), train_labels.long(), _pixels(test_images), test_labels.long())


def _pixels(images: Tensor) -> Tensor:
    return images.reshape(-1, PIXELS).float() / 255


def _subset(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    content = _read(path, SUBSET_SHA256, "restore it from the starter code")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return arrays["images"], arrays["labels"]


def _read(path: Path, sha256: str, remedy: str) -> bytes:
    """The bytes of the file, whose sha256 is right."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read ({error.strerror}); {remedy}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{shown(path)}: is damaged, or another file: its sha256 is not the expected one; {remedy}")
    return content


def _full_file(path: Path) -> bytes:
    """The bytes of a file of MNIST, which is downloaded from one of the mirrors where it is missing."""
    name, problem = path.name, None
    for mirror in MIRRORS if not path.exists() else ():
        print(f"downloading {mirror}/{name} into {shown(path.parent)}")
        problem = download(f"{mirror}/{name}", FULL[name], path)
        if problem is None:
            break
    if problem is not None:
        raise DataError(
            f"{shown(path)}: cannot be downloaded ({problem}). Run again, or save {MIRRORS[0]}/{name} there; "
            "or leave --full-mnist out"
        )
    return _read(path, FULL[name], "delete it, then run again with --full-mnist")


def read_idx(content: bytes, path: Path) -> NDArray[np.uint8]:
    """The array in a gzipped idx file of unsigned bytes: images (N, 28, 28) or labels (N,), by what the file says.

    An idx file starts with two zeros, the type of its numbers and the number of dimensions, a byte each. The length of
    each dimension follows in four bytes, the most significant first, then the numbers.

    Args:
        path: of the file with this `content`, for errors

    Raises:
        DataError: it is anything else, or has more or fewer bytes than its dimensions say.
    """
    try:
        plain = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{shown(path)}: is truncated or not a gzip file ({error})") from None
    dimensions = plain[3] if len(plain) > 3 else 0
    start = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(plain[4:start], ">u4").tolist()) if len(plain) >= start else ()
    if plain[:3] != bytes((0, 0, _BYTES)) or len(shape) not in (1, 3) or shape[1:] not in ((), (SIDE, SIDE)):
        raise DataError(f"{shown(path)}: starts with the bytes {plain[:16].hex()}: not an idx file of images or labels")
    if len(plain) - start != math.prod(shape):
        raise DataError(f"{shown(path)}: has {len(plain) - start} bytes of numbers, which are not an array {shape}")
    return np.frombuffer(plain, np.uint8, offset=start).reshape(shape).copy()
