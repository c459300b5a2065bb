"""Thumbnails: a small picture of each patch as PNG, for tools that show pictures beside rows."""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoae.cube import Cube
from geoae.plots.pictures import Display, choose_display, read_rows, render, stretch_limits

__all__ = ["Thumbnails", "png"]

_SAMPLE = 512
"""Patches that say where colours and heights begin and end, so that all thumbnails share one scale."""

_LEVEL = 6

UInt8Array = npt.NDArray[np.uint8]


def png(image: UInt8Array) -> bytes:
    r"""Write a picture as PNG, without time or text: equal pictures are equal bytes.

    Parameters
    ----------
    image
        ``(y, x, 3)`` uint8.

    Examples
    --------
    >>> png(np.zeros((1, 1, 3), np.uint8))[:8]
    b'\x89PNG\r\n\x1a\n'
    """
    height, width, _ = image.shape
    # Filter 2: each row as the difference from the one above; pictures of the ground shrink by a third.
    rows = np.diff(image.reshape(height, -1), axis=0, prepend=np.uint8(0))
    filtered = np.concatenate([np.full((height, 1), 2, np.uint8), rows], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(filtered.tobytes(), _LEVEL)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def _smaller(image: UInt8Array, step: int) -> UInt8Array:
    """Average squares of `step` pixels; those at the right and lower edge may be smaller.

    Examples
    --------
    >>> _smaller(np.array([[[0], [2], [9]]], np.uint8), 2)[..., 0]
    array([[1, 9]], dtype=uint8)
    """
    if step == 1:
        return image
    starts = [np.arange(0, n, step) for n in image.shape[:2]]
    total = np.add.reduceat(np.add.reduceat(image.astype(np.float64), starts[0], 0), starts[1], 1)
    sizes = [np.diff(np.append(start, n)) for start, n in zip(starts, image.shape[:2], strict=True)]
    return np.asarray((total / np.outer(*sizes)[..., None]).round(), dtype=np.uint8)


@dataclass(frozen=True)
class Thumbnails:
    """Makes the thumbnails of some patches of a cube.

    Parameters
    ----------
    cube
        The cube.
    display
        What is shown.
    step
        Pixels along a side of the square that becomes one pixel.
    limits
        See `stretch_limits`.
    pixel
        Pixel size in metres, for relief.
    """

    cube: Cube
    display: Display
    step: int
    limits: npt.NDArray[np.float64]
    pixel: float

    @classmethod
    def of(cls, cube: Cube, rows: npt.NDArray[np.int64], side: int) -> "Thumbnails":
        """Choose what to show of these patches, on at most `side` pixels along a side.

        Raises
        ------
        InputError
            If none of them has a valid pixel.
        """
        display = choose_display(cube, rows)
        some = rows[:: -(-len(rows) // _SAMPLE)]
        limits = stretch_limits(display, *read_rows(cube, display, some))
        sizes = np.asarray(cube.array("pixel_size_x")[...])[rows]
        known = sizes[np.isfinite(sizes)]
        pixel = float(known[0]) if len(known) else 0.5
        return cls(cube, display, -(-cube.patch_size // side), limits, pixel)

    @property
    def side(self) -> int:
        """Pixels along a side of a thumbnail."""
        return -(-self.cube.patch_size // self.step)

    def of_rows(self, rows: npt.NDArray[np.int64]) -> list[bytes]:
        """Return the PNG of each of these patches."""
        cube = self.cube
        images = render(
            self.display,
            *read_rows(cube, self.display, rows),
            table=cube.catalog.class_tables.get(cube.catalog.default_class_table or ""),
            pixel=self.pixel,
            limits=self.limits,
        )
        return [png(_smaller(image, self.step)) for image in images]
