"""Scatter plots of latents: one panel coloured by class, one by height, markers by city."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import IdentityTransform

from geoae.plots.figure import LINE, Page, legend_columns, wrapped
from geoae.plots.style import SMALL, UNKNOWN, WIDTH, city_markers, style

__all__ = ["Coloring", "Points", "draw_points", "plot_points", "point_style"]

HEIGHT_COLORS = "cividis"
"""Colour map of heights: perceptually even, also with colour-blind eyes and in grey."""

RASTERIZE = 5000
"""More points than this are one picture inside a vector file; axes and letters stay vectors."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Coloring:
    """What the colour of points means.

    Parameters
    ----------
    kind
        ``groups`` for classes, clusters or cities; ``amount`` for heights.
    title
        Of the panel.
    values
        ``(n,)``: position of the group, -1 for none; or the amount, NaN where unknown.
    names, colors
        Of the groups.
    unknown
        What the legend says of points without a value.
    """

    kind: Literal["groups", "amount"]
    title: str
    values: npt.NDArray[Any]
    names: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    unknown: str = "unknown"

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """``(n,)`` bool: which points have a value."""
        return np.asarray(self.values >= 0 if self.kind == "groups" else np.isfinite(self.values))


@dataclass(frozen=True)
class Points:
    """Points to draw.

    Parameters
    ----------
    xy
        ``(n, 2)`` finite places.
    city
        ``(n,)`` names, which choose markers.
    axes
        Labels of the axes.
    linear
        Whether the axes are directions in the latents: then both have one scale.
    caption
        What stands under the figure.
    city_titles
        Names of the catalog's cities, for the legend.
    """

    xy: FloatArray
    city: npt.NDArray[Any]
    axes: tuple[str, str]
    linear: bool
    caption: str
    city_titles: dict[str, str]


def point_style(n: int) -> tuple[float, float, float]:
    """Return area (square points), opacity and width of the white rim of `n` points.

    Examples
    --------
    >>> [round(v, 2) for v in point_style(100)], [round(v, 2) for v in point_style(20_000)]
    ([22.0, 0.9, 0.4], [2.83, 0.44, 0.0])
    """
    area = float(np.clip(400 / np.sqrt(max(n, 1)), 1.5, 22))
    opacity = float(np.clip(3.2 * max(n, 1) ** -0.2, 0.3, 0.9))
    return area, opacity, 0.4 if n <= 1500 else 0.0


def draw_points(
    ax: Axes, points: Points, coloring: Coloring, *, seed: int = 0, cmap: str = HEIGHT_COLORS
) -> ScalarMappable | None:
    """Draw one panel.

    Points without a value are hollow and lie below. The others are drawn in random order, markers
    mixed, so that no class and no city hides another.

    Parameters
    ----------
    ax
        Where to draw.
    points, coloring
        What to draw.
    seed
        Seed of the order.
    cmap
        Colour map of amounts.

    Returns
    -------
    ScalarMappable or None
        What a colour bar needs; None for groups.
    """
    n = len(points.xy)
    area, opacity, rim = point_style(n)
    order = np.random.default_rng(seed).permutation(n)
    order = np.concatenate([order[~coloring.known[order]], order[coloring.known[order]]])
    known = coloring.known[order]
    face = np.zeros((n, 4))
    mappable = None
    if coloring.kind == "groups":
        if coloring.colors:
            palette = to_rgba_array(list(coloring.colors))  # a tuple of two would be colour and opacity
            face[known] = palette[coloring.values[order][known]]
    else:
        mappable = ScalarMappable(_limits(coloring.values), matplotlib.colormaps[cmap])
        face[known] = mappable.to_rgba(coloring.values[order][known])
    face[known, 3] = opacity
    edge = np.tile(to_rgba_array("white"), (n, 1))
    edge[~known] = to_rgba_array(UNKNOWN, 0.7)
    markers = city_markers(points.city, points.city_titles)
    # A collection takes a path for each of its points: that is what lets markers mix in any order.
    shape = {city: _marker_path(marker) for city, marker in markers.items()}
    collection = PathCollection(
        [shape[city] for city in points.city[order]],
        sizes=[area],
        facecolors=face,
        edgecolors=edge,
        linewidths=np.where(known, rim, 0.5),
        offsets=points.xy[order],
        offset_transform=ax.transData,
        rasterized=n > RASTERIZE,
        zorder=2,
    )
    collection.set_transform(IdentityTransform())  # sizes are in points, not in units of the axes
    ax.add_collection(collection)
    ax.set_title(coloring.title)
    _frame(ax, points)
    return mappable


def _marker_path(marker: str) -> Any:
    style_ = MarkerStyle(marker)
    return style_.get_path().transformed(style_.get_transform())


def _limits(values: FloatArray) -> Normalize:
    known = values[np.isfinite(values)]
    # A few towers would leave one colour for the rest of the city.
    low, high = np.percentile(known, [2, 98]) if known.size else (0.0, 1.0)
    return Normalize(low, high if high > low else low + 1.0)


def _box(points: Points, aspect: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return limits of x and y around the points; with one scale for both if the axes are linear.

    `aspect` is the panel's height by its width.
    """
    if not len(points.xy):
        return (-1.0, 1.0), (-1.0, 1.0)
    low, high = points.xy.min(axis=0), points.xy.max(axis=0)
    half = np.where(high > low, 0.54 * (high - low), 1.0)
    if points.linear:
        half[0] = max(half[0], half[1] / aspect)
        half[1] = half[0] * aspect
    left, right = (low + high) / 2 - half, (low + high) / 2 + half
    return (left[0], right[0]), (left[1], right[1])


def _tick(value: float, _position: int | None = None) -> str:
    """Write a number of an axis in at most six characters.

    Examples
    --------
    >>> _tick(-20000), _tick(0.5), _tick(3e6), _tick(0)
    ('−20000', '0.5', '3e6', '0')
    """
    small = value == 0 or 1e-3 <= abs(value) < 1e5
    text = (
        f"{value:g}" if small else f"{value:.1e}".replace(".0e", "e").replace("e+0", "e").replace("e-0", "e−")
    )
    return text.replace("-", "−")


def _frame(ax: Axes, points: Points) -> None:
    ax.set_xlabel(points.axes[0])
    ax.set_ylabel(points.axes[1])
    place, figure = ax.get_position(), ax.get_figure(root=True)
    width, height = (1.0, 1.0) if figure is None else figure.get_size_inches()
    x, y = _box(points, place.height * height / (place.width * width))
    ax.set_xlim(*x)
    ax.set_ylim(*y)
    if points.linear:
        ax.set_aspect("equal", adjustable="box")
        ax.locator_params(nbins=4)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(FuncFormatter(_tick))
        ax.axhline(0, color="#dddddd", linewidth=0.5, zorder=0)
        ax.axvline(0, color="#dddddd", linewidth=0.5, zorder=0)
    else:  # the numbers mean nothing
        ax.set_xticks([])
        ax.set_yticks([])


def group_handles(coloring: Coloring) -> list[Line2D]:
    """Return the legend of the groups that occur, with their number of points."""
    handles = []
    for position, (name, color) in enumerate(zip(coloring.names, coloring.colors, strict=True)):
        count = int((coloring.values == position).sum())
        if count:
            handles.append(_handle("o", name, color=color, count=count))
    missing = int((~coloring.known).sum())
    if missing:
        handles.append(_handle("o", coloring.unknown, color=None, count=missing))
    return handles


def city_handles(points: Points) -> list[Line2D]:
    """Return the legend of the markers; none for a single city."""
    markers = city_markers(points.city, points.city_titles)
    if len(markers) < 2:
        return []
    return [
        _handle(
            marker,
            points.city_titles.get(city, city) or "no city",
            color="#444444",
            count=int((points.city == city).sum()),
        )
        for city, marker in markers.items()
    ]


def _handle(marker: str, name: str, *, color: str | None, count: int) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="",
        marker=marker,
        markersize=4.5,
        markerfacecolor=color or "none",
        markeredgecolor=color or UNKNOWN,
        markeredgewidth=0.0 if color else 0.6,
        label=f"{name} ({count:,})",
    )


def plot_points(
    points: Points,
    colorings: Sequence[Coloring],
    *,
    ax: Axes | Sequence[Axes] | None = None,
    seed: int = 0,
    cmap: str = HEIGHT_COLORS,
) -> Figure:
    """Draw a panel for each colouring, with legends, colour bars and a caption.

    Parameters
    ----------
    points, colorings
        What to draw.
    ax
        Axes to draw in, one a panel; None makes a figure fit for two columns of a journal.
    seed
        Seed of the order in which points are drawn.
    cmap
        Colour map of amounts.

    Raises
    ------
    ValueError
        If the number of axes is not that of the panels.
    """
    if ax is None:
        with style():
            return _page(points, colorings, seed, cmap)
    axes = [ax] if isinstance(ax, Axes) else list(ax)
    if len(axes) != len(colorings):
        raise ValueError(f"needs {len(colorings)} axes for as many panels, got {len(axes)}")
    for panel, coloring in zip(axes, colorings, strict=True):
        mappable = draw_points(panel, points, coloring, seed=seed, cmap=cmap)
        if mappable is None:
            panel.legend(
                handles=group_handles(coloring) + city_handles(points), fontsize=SMALL, frameon=False
            )
        else:
            panel.figure.colorbar(mappable, ax=panel, extend="both", label="m")
    figure = axes[0].get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure")
    width = axes[0].get_position().width * figure.get_figwidth()
    axes[0].annotate(
        "\n".join(wrapped(points.caption, width, SMALL - 1)),
        (0, 0),
        (0, -32),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=SMALL - 1,
        va="top",
    )
    return figure


def _page(points: Points, colorings: Sequence[Coloring], seed: int, cmap: str) -> Figure:
    left, gap, right, top = 0.7, 0.3, 0.16, 0.28
    n = len(colorings)
    width = WIDTH if n > 1 else left + 3.6 + right
    panel = (width - left - right - gap * (n - 1)) / n
    # With one scale for both axes a flat cloud would leave most of a square empty.
    side = panel * (float(np.clip(_extent(points), 0.62, 1.0)) if points.linear else 0.85)
    handles = [group_handles(c) if c.kind == "groups" else [] for c in colorings]
    cities = city_handles(points)
    columns = [_columns(row, panel) for row in handles]
    rows = max(-(-len(row) // c) for row, c in zip(handles, columns, strict=True))
    below = max(rows * LINE * 1.15, 0.4 if any(c.kind == "amount" for c in colorings) else 0.0)
    # Markers hold for all panels: their legend has a line of its own, under the first.
    city_columns = _columns(cities, width - 0.4)
    city_rows = -(-len(cities) // city_columns)
    caption = wrapped(points.caption, width - 0.2)
    under = top + side + 0.46
    city_top = under + (rows * LINE * 1.15 if handles[0] else below) + 0.04
    foot = max(under + below, city_top + city_rows * LINE * 1.15 if cities else 0.0) + 0.1
    page = Page(foot + len(caption) * LINE + 0.06, width)
    for i, coloring in enumerate(colorings):
        start = left + i * (panel + gap)
        ax = page.axes_at(start, top, panel, side)
        mappable = draw_points(ax, points, coloring, seed=seed, cmap=cmap)
        if n > 1:
            ax.set_title(f"({'abcdefgh'[i]}) {coloring.title}")
        if i:  # the same axis as in the first panel
            ax.set_ylabel("")
            ax.tick_params(labelleft=False)
        if mappable is None:
            _legend(page, handles[i], columns[i], start, under)
        else:
            strip = page.axes_at(start + 0.1 * panel, under + 0.03, 0.8 * panel, 0.1)
            bar = page.colorbar(mappable, cax=strip, orientation="horizontal", extend="both")
            bar.set_label("m", labelpad=1)
    if cities:
        _legend(page, cities, city_columns, left, city_top)
    page.text_at(0.1, foot, "\n".join(caption), color="#333333")
    return page


def _extent(points: Points) -> float:
    if len(points.xy) < 2:
        return 1.0
    width, height = np.ptp(points.xy, axis=0)
    return float(height / width) if width > 0 else 1.0


def _columns(handles: Sequence[Line2D], width: float) -> int:
    return legend_columns([str(h.get_label()) for h in handles], width)


def _legend(page: Page, handles: list[Line2D], columns: int, left: float, top: float) -> Legend:
    width, height = page.get_size_inches()
    return page.legend(
        handles=handles,
        ncols=columns,
        loc="upper left",
        bbox_to_anchor=(left / width, 1 - top / height),
        labelspacing=0.35,
        handlelength=0.8,
    )
