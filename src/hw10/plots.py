"""Pictures that several experiments draw. matplotlib is slow to import, so only experiments import this module."""

import io
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

ROWS, COLUMNS = 10, 20  # of a grid of digits


def digit_grid(images: Tensor) -> bytes:
    """The 200 `images` (200, 28, 28), from 0 for black to 1 for white, in 10 rows of 20, as a PNG file."""
    pixels = images.detach().cpu().reshape(ROWS, COLUMNS, 28, 28).clamp(0, 1).numpy()
    tiled = np.full((ROWS * 30 + 2, COLUMNS * 30 + 2), 0.25)
    for row in range(ROWS):
        for column in range(COLUMNS):
            top, left = 2 + row * 30, 2 + column * 30
            tiled[top : top + 28, left : left + 28] = pixels[row, column]
    buffer = io.BytesIO()
    enlarged = np.kron(tiled, np.ones((2, 2)))
    matplotlib.image.imsave(buffer, enlarged, cmap="gray", vmin=0, vmax=1, format="png")
    return buffer.getvalue()


def curves(series: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], x: str, y: str, title: str) -> bytes:
    """Lines in one diagram, as a PNG file; `series` has a label → the x and y of its points, (N,) each."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for label, (xs, ys) in series.items():
        axes.plot(xs, ys, label=label, linewidth=1.4)
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def png(figure: Figure) -> bytes:
    """`figure` as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": f"matplotlib {matplotlib.__version__}"})
    return buffer.getvalue()
