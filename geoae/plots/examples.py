"""Examples of clusters: for each one the patches nearest to its centre, its size and its classes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from geoae.cube import Cube
from geoae.plots.figure import LINE, Page, legend_columns, wrapped
from geoae.plots.latents import choose_summary
from geoae.plots.pictures import choose_display, read_rows, render
from geoae.plots.style import SMALL, UNKNOWN, WIDTH, cluster_colors, spoken, style
from geoae.schema import layer_path

__all__ = ["class_mix", "nearest_patches", "plot_cluster_examples"]

IntArray = npt.NDArray[np.int64]


def nearest_patches(distance: npt.NDArray[Any], place: Sequence[Any], count: int) -> IntArray:
    """Choose patches near the centre of their cluster, from different places where there are enough.

    Overlapping views of one place look alike: the nearest patches alone may be one roof ten times.

    Parameters
    ----------
    distance
        ``(n,)`` distances from the centre.
    place
        ``(n,)`` where each patch lies; equal ones are one place.
    count
        How many to choose at most.

    Returns
    -------
    numpy.ndarray
        Positions, by increasing distance; equal distances keep their order.

    Examples
    --------
    >>> nearest_patches(np.array([0.1, 0.2, 0.3, 0.4]), ["a", "a", "b", "a"], 3)
    array([0, 1, 2])
    >>> nearest_patches(np.array([0.1, 0.2, 0.3, 0.4]), ["a", "a", "b", "a"], 2)
    array([0, 2])
    """
    order = np.argsort(distance, kind="stable")
    # How many patches of its place come before each: first all firsts, then all seconds, ...
    seen: dict[Any, int] = {}
    turn = np.empty(order.size, dtype=np.int64)
    for i, row in enumerate(order):
        turn[i] = seen[place[row]] = seen.get(place[row], -1) + 1
    chosen = np.sort(np.argsort(turn, kind="stable")[:count])
    return order[chosen]


def class_mix(cluster: IntArray, fraction: npt.NDArray[Any], k: int) -> npt.NDArray[np.float64]:
    """Average the class fractions of the patches of each cluster.

    Parameters
    ----------
    cluster
        ``(patch,)``, -1 for none.
    fraction
        ``(patch, class)``, NaN where no pixel has a class; such patches do not count.
    k
        Number of clusters.

    Returns
    -------
    numpy.ndarray
        ``(k, class)`` float64; NaN for a cluster without a labelled patch.

    Examples
    --------
    >>> class_mix(np.array([0, 0, 1]), np.array([[1.0, 0.0], [0.5, 0.5], [np.nan, np.nan]]), 2)
    array([[0.75, 0.25],
           [ nan,  nan]])
    """
    mix = np.full((k, fraction.shape[1]), np.nan)
    labelled = np.isfinite(fraction).all(axis=1)
    for i in range(k):
        inside = fraction[(cluster == i) & labelled]
        if len(inside):
            mix[i] = inside.mean(axis=0, dtype=np.float64)
    return mix


@dataclass(frozen=True)
class _Row:
    """One cluster: its number, colour, patches, share, pictures, classes and height."""

    number: int
    color: str
    size: int
    share: float
    pictures: npt.NDArray[np.uint8]
    mix: npt.NDArray[np.float64] | None
    height: float


def plot_cluster_examples(
    cube: Cube | str | os.PathLike[str],
    clusters: str,
    *,
    count: int = 8,
    max_clusters: int = 12,
    table: str | None = None,
) -> Figure:
    """Plot, for each cluster, the patches nearest to its centre, its size, mean height and classes.

    Parameters
    ----------
    cube
        The cube, or its path.
    clusters
        Name of a layer of clusters.
    count
        Patches of each cluster, from different tiles where there are that many.
    max_clusters
        Most clusters that are shown; the largest ones.
    table
        Summary to take classes and heights from; None for the default.

    Returns
    -------
    Figure
        Never shown; `geoae.plots.save_figure` writes it.

    Raises
    ------
    UsageError
        If the layer is not there.
    InputError
        If no patch has a valid pixel.
    """
    if count < 1 or max_clusters < 1:
        raise ValueError(f"needs at least one patch and one cluster, not {count} and {max_clusters}")
    cube = Cube.open(cube)
    path = layer_path("clusters", clusters)
    layer = cube.layer(path)
    cluster = layer["cluster"].to_numpy().astype(np.int64)
    summary = choose_summary(cube, table)
    rows = _rows(cube, layer, cluster, summary, count, max_clusters)
    shown = choose_display(cube, np.flatnonzero(cluster >= 0)).title
    options = cube.layer_info(path).record.options
    caption = (
        f"Clusters of {layer.attrs['latents']} by {options['method']} (k = {layer.sizes['cluster_id']}, "
        f"seed {options['seed']}): the patches nearest to each centre, nearest first, one a tile where there "
        f"are enough tiles. {shown}; patches of {cube.patch_size} × {cube.patch_size} pixels. In brackets: "
        f"share of the {int((cluster >= 0).sum()):,} patches that have a cluster."
    )
    if len(rows) < layer.sizes["cluster_id"]:
        caption += f" The {len(rows)} largest clusters are shown."
    if summary is not None and "class_fraction" in summary:
        caption += f" Bars: mean fractions of classes (table {summary.attrs['class_table']})."
    classes = None
    if summary is not None and "class_fraction" in summary:
        names = [spoken(n) for n in summary["class"].to_numpy()]
        classes = list(zip(names, (str(c) for c in summary["class_color"].to_numpy()), strict=True))
    with style():
        return _page(rows, count, classes, caption)


def _rows(
    cube: Cube,
    layer: xr.Dataset,
    cluster: IntArray,
    summary: xr.Dataset | None,
    count: int,
    max_clusters: int,
) -> list[_Row]:
    k = layer.sizes["cluster_id"]
    distance = layer["distance"].to_numpy()
    patches = cube.table()
    place = list(zip(patches["city"], patches["tile"], strict=True))
    used = int((cluster >= 0).sum())
    colors = cluster_colors(k)
    chosen: list[IntArray] = []
    for i in range(min(k, max_clusters)):
        inside = np.flatnonzero(cluster == i)
        near = nearest_patches(distance[inside], [place[j] for j in inside], count)
        chosen.append(inside[near])
    display = choose_display(cube, np.concatenate(chosen))
    # One call for all: what is stretched is stretched alike, so patches can be compared.
    wanted = np.concatenate(chosen)
    order = np.argsort(wanted)
    pixels, valid = read_rows(cube, display, wanted[order])
    name = cube.catalog.default_class_table
    classes = cube.catalog.class_tables.get(name) if name else None
    pictures = np.empty((wanted.size, *pixels.shape[-2:], 3), dtype=np.uint8)
    sizes = patches["pixel_size_x"].to_numpy()[wanted]
    pixel = float(np.median(sizes[np.isfinite(sizes)])) if np.isfinite(sizes).any() else 0.5
    pictures[order] = render(display, pixels, valid, table=classes, pixel=pixel)
    mix = height = None
    if summary is not None and "class_fraction" in summary:
        mix = class_mix(cluster, summary["class_fraction"].to_numpy(), k)
    if summary is not None and "mean_height" in summary:
        height = class_mix(cluster, summary["mean_height"].to_numpy()[:, None], k)[:, 0]
    stops = np.cumsum([c.size for c in chosen])[:-1]
    return [
        _Row(
            number=i,
            color=colors[i],
            size=int((cluster == i).sum()),
            share=float((cluster == i).sum()) / used,
            pictures=part,
            mix=None if mix is None else mix[i],
            height=np.nan if height is None else float(height[i]),
        )
        for i, part in enumerate(np.split(pictures, stops))
    ]


def _page(rows: list[_Row], count: int, classes: list[tuple[str, str]] | None, caption: str) -> Figure:
    left, space, top, right = 0.95, 0.05, 0.22, 0.1
    bar = 1.35 if classes else 0.0
    side = min((WIDTH - left - right - bar - (0.12 if bar else 0.0)) / count - space, 0.95)
    lines = wrapped(caption, WIDTH - 0.2)
    handles = [Patch(facecolor=color, label=name) for name, color in classes or ()]
    columns = legend_columns([str(h.get_label()) for h in handles], WIDTH * 0.92)
    legend = -(-len(handles) // columns) * LINE * 1.2 if handles else 0.0
    under = top + len(rows) * (side + space) + 0.06
    page = Page(under + legend + 0.1 + len(lines) * LINE + 0.06)
    for i, row in enumerate(rows):
        y = top + i * (side + space)
        _label(page.axes_at(0.1, y, left - 0.14, side), row)
        for j, picture in enumerate(row.pictures):
            ax = page.axes_at(left + j * (side + space), y, side, side)
            ax.imshow(picture, interpolation="antialiased")
            _bare(ax)
        if classes and row.mix is not None:
            start = left + count * (side + space) + 0.08
            _bar(page.axes_at(start, y + 0.22 * side, WIDTH - right - start, 0.56 * side), row.mix, classes)
    page.text_at(left, 0.07, "Patches nearest to the centre", fontweight="bold", fontsize=SMALL + 0.5)
    if classes:
        page.text_at(
            left + count * (side + space) + 0.08, 0.07, "Classes", fontweight="bold", fontsize=SMALL + 0.5
        )
        page.legend(
            handles=handles,
            ncols=columns,
            loc="upper center",
            bbox_to_anchor=(0.5, 1 - under / page.get_figheight()),
            handlelength=1.2,
            handleheight=0.9,
            labelspacing=0.35,
        )
    page.text_at(0.1, under + legend + 0.1, "\n".join(lines), color="#333333")
    return page


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _label(ax: Axes, row: _Row) -> None:
    _bare(ax)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.add_patch(Rectangle((0, 0), 0.24, 1, facecolor=row.color))
    # The contrast of black or white on the colour, by its luminance (Rec. 709).
    dark = float(np.dot(to_rgb(row.color), (0.2126, 0.7152, 0.0722))) > 0.45
    ax.text(
        0.12,
        0.5,
        str(row.number),
        ha="center",
        va="center_baseline",
        fontweight="bold",
        color="black" if dark else "white",
    )
    text = f"n = {row.size:,}\n({row.share:.0%})"
    if np.isfinite(row.height):
        text += f"\n{row.height:.1f} m"
    ax.text(0.32, 0.5, text, va="center", fontsize=SMALL - 0.5, linespacing=1.15)


def _bar(ax: Axes, mix: npt.NDArray[np.float64], classes: list[tuple[str, str]]) -> None:
    _bare(ax)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    if not np.isfinite(mix).all():
        ax.text(0, 0.5, "no labels", va="center", fontsize=SMALL, color=UNKNOWN)
        return
    start = 0.0
    for share, (_, color) in zip(mix, classes, strict=True):
        ax.add_patch(
            Rectangle((start, 0), float(share), 1, facecolor=color, edgecolor="white", linewidth=0.4)
        )
        if share >= 0.22:
            dark = float(np.dot(to_rgb(color), (0.2126, 0.7152, 0.0722))) > 0.45
            ax.text(
                start + share / 2,
                0.5,
                f"{share:.0%}",
                ha="center",
                va="center_baseline",
                fontsize=SMALL - 0.5,
                color="black" if dark else "white",
            )
        start += float(share)
