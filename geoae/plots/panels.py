"""Panels of a map: the picture of a scene, cells of clusters, a scale bar, north."""

import math
from dataclasses import dataclass

import matplotlib.patheffects as effects
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba_array
from matplotlib.patches import Patch, Polygon, Rectangle

from geoae.grid import Grid, Window
from geoae.plots.pictures import ScenePicture
from geoae.plots.style import SMALL, UNKNOWN, cluster_colors

__all__ = [
    "Cells",
    "MapScale",
    "cells_of",
    "draw_clusters",
    "draw_north",
    "draw_picture",
    "draw_scale_bar",
    "legend_patches",
    "nice_length",
]

OPACITY = 0.62
"""Of the cells: the picture below stays recognisable, colours stay apart."""

KILOMETRES = 5000.0
"""From this length on in metres, axes are in kilometres."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """The patches of one scene as cells of a map.

    Parameters
    ----------
    box
        ``(n, 4)`` left, top, right and bottom, in pixels of the picture's window.
    cluster
        ``(n,)``, -1 for none.
    k
        Number of clusters of the whole cube.
    """

    box: npt.NDArray[np.float64]
    cluster: IntArray
    k: int


def cells_of(y: IntArray, x: IntArray, window: Window, patch: int, stride: int) -> npt.NDArray[np.float64]:
    """Return the cell of each patch: as wide as the step between patches, in the middle of the patch.

    Parameters
    ----------
    y, x
        ``(n,)`` first pixel of each patch in the scene.
    window
        The picture's part of the scene; cells end at its edges.
    patch, stride
        In pixels. Where patches overlap, a cell shows the middle that is nearest to this patch.

    Examples
    --------
    >>> cells_of(np.array([0]), np.array([4]), Window(0, 0, 8, 12), 8, 4)
    array([[ 6.,  2., 10.,  6.]])
    """
    side = min(patch, stride)
    margin = (patch - side) / 2
    left, top = x - window.x + margin, y - window.y + margin
    box = np.stack([left, top, left + side, top + side], axis=1).astype(np.float64)
    box[:, 0::2] = box[:, 0::2].clip(0, window.width)
    box[:, 1::2] = box[:, 1::2].clip(0, window.height)
    return box


@dataclass(frozen=True)
class MapScale:
    """Units of a panel's axes: ``x`` and ``y`` units in a pixel, name of the unit, metres in a unit."""

    x: float
    y: float
    unit: str
    metres: float | None
    nominal: bool = False

    @classmethod
    def of(cls, grid: Grid, window: Window, gsd: float | None) -> "MapScale":
        """Choose units for a window: km or m where the grid has a CRS, else pixels.

        `gsd` is the nominal pixel size of the catalog in metres, for pixels without a CRS.
        """
        x, y = grid.pixel_size_metres()
        if not (math.isfinite(x) and math.isfinite(y)):
            return cls(1.0, 1.0, "pixels", gsd, nominal=True)
        if max(window.width * x, window.height * y) >= KILOMETRES:
            return cls(x / 1000, y / 1000, "km", 1000.0)
        return cls(x, y, "m", 1.0)


def draw_picture(ax: Axes, picture: ScenePicture, scale: MapScale, *, dimmed: bool = False) -> None:
    """Draw the picture of a scene; `dimmed` in pale grey, as the ground for colours."""
    image = picture.image
    if dimmed:
        # Weights of Rec. 709; half way to white.
        grey = image.astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722])
        image = np.repeat((96 + grey * 0.62).round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    window = picture.window
    extent = (0.0, window.width * scale.x, window.height * scale.y, 0.0)
    ax.imshow(image, extent=extent, interpolation="antialiased", aspect="equal", zorder=0)
    ax.set_xlabel(f"{scale.unit}", labelpad=1)
    ax.locator_params(nbins=5)
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)


def draw_clusters(ax: Axes, cells: Cells, scale: MapScale, *, inch: float) -> None:
    """Draw cells in the colours of their clusters, with numbers where they fit.

    Parameters
    ----------
    ax
        Where to draw.
    cells
        The cells.
    scale
        Units of the axes.
    inch
        Pixels of the scene in an inch of the panel.
    """
    box = cells.box * np.array([scale.x, scale.y, scale.x, scale.y])
    corners = np.stack([box[:, [0, 1]], box[:, [2, 1]], box[:, [2, 3]], box[:, [0, 3]]], axis=1)
    known = cells.cluster >= 0
    palette = to_rgba_array(list(cluster_colors(cells.k)), OPACITY)  # of a pair: colour, opacity
    side = float(np.median(cells.box[:, 2] - cells.box[:, 0])) / inch if len(box) else 0.0
    line = 0.4 if side > 0.12 else 0.0
    if known.any():
        ax.add_collection(
            PolyCollection(
                list(corners[known]),
                facecolors=palette[cells.cluster[known]],
                edgecolors=(1, 1, 1, 0.7 if line else 0.0),
                linewidths=line,
                antialiaseds=bool(line),  # else hair lines show between cells that touch
                zorder=1,
                label="clusters",
            )
        )
    if not known.all():
        ax.add_collection(
            PolyCollection(
                list(corners[~known]),
                facecolors="none",
                edgecolors=UNKNOWN,
                linewidths=line or 0.2,
                hatch="//////",
                zorder=1,
                label="no cluster",
            )
        )
    if side >= 0.16:
        size = min(SMALL, side * 72 * 0.45)
        for (left, top, right, bottom), cluster in zip(box[known], cells.cluster[known], strict=True):
            ax.text(
                (left + right) / 2,
                (top + bottom) / 2,
                str(cluster),
                fontsize=size,
                ha="center",
                va="center_baseline",
                color="#111111",
                path_effects=[effects.withStroke(linewidth=1.2, foreground="white", alpha=0.75)],
                zorder=3,
            )


def nice_length(longest: float) -> float:
    """Return the largest of 1, 2, 5, 10, ... that is at most `longest`.

    Examples
    --------
    >>> nice_length(73.0), nice_length(0.3)
    (50.0, 0.2)
    """
    power = 10.0 ** math.floor(math.log10(longest))
    factor = next(f for f in (5, 2, 1) if f * power <= longest * (1 + 1e-9))
    return round(factor * power, 12)


def draw_scale_bar(ax: Axes, scale: MapScale, width: float, height: float) -> None:
    """Draw a scale bar in the lower left corner; `width` and `height` of the picture in axis units.

    Without a coordinate reference system the length follows from the nominal pixel size of the
    catalog, marked as approximate, or is in pixels.
    """
    metres = scale.metres
    length = nice_length(0.3 * width * (metres or 1.0))
    bar = length / (metres or 1.0)
    label = f"{length:g} px"
    if metres is not None:
        label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
        label = f"≈ {label}" if scale.nominal else label
    x, y, thick = 0.04 * width, 0.955 * height, 0.012 * max(width, height)
    ax.add_patch(
        Rectangle((x, y - thick), bar, thick, facecolor="white", edgecolor="black", lw=0.6, zorder=4)
    )
    ax.text(
        x + bar / 2,
        y - 1.5 * thick,
        label,
        fontsize=SMALL,
        ha="center",
        va="bottom",
        color="white",
        path_effects=[effects.withStroke(linewidth=1.6, foreground="black")],
        zorder=4,
    )


def draw_north(ax: Axes, grid: Grid, width: float, height: float) -> None:
    """Draw an arrow to grid north in the upper right corner; nothing without a CRS.

    `width` and `height` of the picture in axis units. The picture stays as its raster is, so in a
    rotated or south-up one the arrow does not point up.
    """
    if grid.crs is None:
        return
    inverse = ~grid.transform
    # Where one step north goes in columns and rows, which are the axes' directions (y downwards).
    columns, rows = inverse.b, inverse.e
    pixel_x, pixel_y = grid.pixel_size
    north = np.array([columns * pixel_x, rows * pixel_y])
    north /= np.linalg.norm(north)
    east = np.array([-north[1], north[0]])
    length = 0.075 * min(width, height)
    middle = np.array([width, 0.0]) + np.array([-1.0, 1.0]) * 1.25 * length
    kite = np.stack(
        [
            middle + 0.75 * length * north,
            middle - 0.5 * length * north + 0.42 * length * east,
            middle - 0.2 * length * north,
            middle - 0.5 * length * north - 0.42 * length * east,
        ]
    )
    ax.add_patch(Polygon(kite, closed=True, facecolor="white", edgecolor="black", linewidth=0.7, zorder=5))
    place = middle - 0.95 * length * north
    ax.text(
        float(place[0]),
        float(place[1]),
        "N",
        fontsize=SMALL,
        fontweight="bold",
        ha="center",
        va="center",
        color="white",
        path_effects=[effects.withStroke(linewidth=1.6, foreground="black")],
        zorder=5,
    )


def legend_patches(cells: Cells) -> list[Patch]:
    """Return the legend: each cluster of the scene with its share of the scene's patches."""
    n = len(cells.cluster)
    handles = [
        Patch(facecolor=(*to_rgba_array(color)[0][:3], 0.85), label=f"{i}  ({share:.0%})", linewidth=0)
        for i, color in enumerate(cluster_colors(cells.k))
        if (share := float((cells.cluster == i).sum()) / n) > 0
    ]
    missing = int((cells.cluster < 0).sum())
    if missing:
        handles.append(
            Patch(
                facecolor="none",
                edgecolor=UNKNOWN,
                hatch="//////",
                linewidth=0.4,
                label=f"none  ({missing / n:.0%})",
            )
        )
    return handles
