"""Figures laid out in inches, their captions, and how they are saved."""

import contextlib
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from geoae.errors import InputError, UsageError
from geoae.plots.style import SMALL, STYLE, WIDTH, style

__all__ = ["Page", "legend_columns", "save_figure", "text_width", "wrapped"]

_NO_DATES: dict[str, dict[str, Any]] = {
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
    ".png": {"Software": None},
}
"""Formats that can be written, and the metadata that would make equal figures differ."""

LINE = SMALL * 1.35 / 72
"""Height of a line of small text in inches."""


class Page(Figure):
    """A figure whose axes are placed in inches from its top left corner.

    It belongs to no window and no global list, so making a thousand leaks nothing; notebooks show it
    as a picture.

    Parameters
    ----------
    height
        In inches.
    width
        In inches.
    """

    def __init__(self, height: float, width: float = WIDTH) -> None:
        super().__init__(figsize=(width, height), dpi=STYLE["figure.dpi"])
        FigureCanvasAgg(self)

    def axes_at(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes whose top left corner is at ``(left, top)``; all in inches."""
        w, h = self.get_size_inches()
        return self.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))

    def text_at(self, left: float, top: float, text: str, **kwargs: Any) -> None:
        """Write text whose top left corner is at ``(left, top)`` in inches."""
        w, h = self.get_size_inches()
        kwargs = {"fontsize": SMALL, "va": "top", "ha": "left", "linespacing": 1.25, **kwargs}
        self.text(left / w, 1 - top / h, text, **kwargs)

    def savefig(self, fname: Any, **kwargs: Any) -> None:
        """Save as matplotlib does, with the settings of `STYLE`: some hold only while a file is written."""
        with style():
            super().savefig(fname, **{"facecolor": "white", **kwargs})

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=STYLE["figure.dpi"])
        return buffer.getvalue()


@lru_cache(maxsize=4096)
def text_width(text: str, size: float = SMALL) -> float:
    """Return the width of a line of text in inches."""
    font = FontProperties(family=STYLE["font.family"], size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, False)
    return float(width) / 72


def wrapped(text: str, width: float, size: float = SMALL) -> list[str]:
    """Break text into lines that are at most `width` inches wide; a longer word has its own line.

    Examples
    --------
    >>> wrapped("one two three", 0.5)
    ['one two', 'three']
    """
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def legend_columns(labels: Sequence[str], width: float) -> int:
    """Return the largest number of columns in which a legend of `labels` is at most `width` inches wide.

    Legends are filled column by column, each column as wide as its widest label.

    Examples
    --------
    >>> legend_columns(["a", "b", "c", "d"], 10), legend_columns(["a", "b", "c", "d"], 0.1)
    (4, 1)
    """
    for columns in range(len(labels), 1, -1):
        rows = -(-len(labels) // columns)
        if -(-len(labels) // rows) < columns:  # the last columns would be empty
            continue
        parts = [labels[i : i + rows] for i in range(0, len(labels), rows)]
        if sum(max(text_width(label) for label in part) + 0.34 for part in parts) <= width:
            return columns
    return 1


def save_figure(figure: Figure, path: str | Path, *, dpi: float | None = None) -> None:
    """Save a figure; equal figures give equal bytes.

    Parameters
    ----------
    figure
        The figure.
    path
        File to write: ``.pdf``, ``.svg`` or ``.png``.
    dpi
        Dots per inch of pictures and of the parts of a vector file that are pictures; None for 300.

    Raises
    ------
    UsageError
        If the ending is another one.
    InputError
        If the file cannot be written; what was there before is still there.
    """
    path = Path(path)
    metadata = _NO_DATES.get(path.suffix.lower())
    if metadata is None:
        raise UsageError(f"a figure is written as {', '.join(_NO_DATES)}, not {path.suffix or path.name!r}")
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with style():
            figure.savefig(partial, dpi=dpi or STYLE["savefig.dpi"], metadata=metadata, facecolor="white")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", hint="choose another place") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
