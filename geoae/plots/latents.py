"""The scatter plot of a layer of latents: what is read from the cube, and the caption."""

import os
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geoae.cube import Cube
from geoae.errors import InputError, UsageError
from geoae.plots.scatter import HEIGHT_COLORS, Coloring, Points, plot_points
from geoae.plots.style import cluster_colors, spoken
from geoae.projections import pca
from geoae.schema import layer_path

__all__ = ["Color", "choose_summary", "plot_latents"]

Color = Literal["class", "height", "cluster"]
COLORS: tuple[str, ...] = get_args(Color)

MAX_POINTS = 20_000
"""More points only make the plot slower; a sample of this size has the same look."""

IntArray = npt.NDArray[np.int64]


def plot_latents(
    cube: Cube | str | os.PathLike[str],
    latents: str,
    *,
    projection: str | None = None,
    color: Color | Sequence[Color] | None = None,
    table: str | None = None,
    clusters: str | None = None,
    seed: int = 0,
    max_points: int = MAX_POINTS,
    cmap: str = HEIGHT_COLORS,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Plot the latents of the patches on two axes.

    By default there are two panels: coloured by dominant class and by mean height; where one of them
    is not known, clusters take its place. Markers tell cities apart.

    Parameters
    ----------
    cube
        The cube, or its path.
    latents
        Name of a layer of latents.
    projection
        Name of a layer of projections of these latents; None for the first two principal axes.
    color
        One panel each: ``class``, ``height``, ``cluster``.
    table
        Class table, or ``heights``: the summary to take classes and heights from; None for the default.
    clusters
        Layer of clusters; None for the one named like the latents.
    seed
        Seed of the order of drawing, and of the sample.
    max_points
        Most points that are drawn; a random sample of them where there are more.
    cmap
        Colour map of heights.
    ax
        Axes to draw in, one a panel; None makes a figure.

    Returns
    -------
    Figure
        Never shown; `geoae.plots.save_figure` writes it.

    Raises
    ------
    UsageError
        If a layer that was asked for is not there.
    InputError
        If no patch has latents.
    """
    cube = Cube.open(cube)
    source = layer_path("latents", latents)
    xy, ratio, axes, method = _places(cube, source, projection)
    rows = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if not rows.size:
        raise InputError(f"{source} of {cube.path} has no patch with latents", hint="see `geoae info`")
    used = rows.size
    if used > max_points:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_points, replace=False))
    colorings, sentences = _colorings(cube, latents, color, table, clusters, rows)
    count = (
        f"{used:,} patches" if rows.size == used else f"{rows.size:,} of {used:,} patches, drawn at random"
    )
    if len(xy) > used:
        count += f" ({len(xy) - used:,} more have no latents)"
    linear = ratio is not None
    caption = f"{method}; {count}, drawn in random order (seed {seed}). {_distances(ratio)} "
    points = Points(
        xy=xy[rows].astype(np.float64),
        city=cube.table()["city"].to_numpy()[rows],
        axes=axes,
        linear=linear,
        caption=caption + " ".join(sentences),
        city_titles={key: city.title for key, city in cube.catalog.cities.items()},
    )
    return plot_points(points, colorings, ax=ax, seed=seed, cmap=cmap)


def _places(
    cube: Cube, source: str, projection: str | None
) -> tuple[npt.NDArray[np.float64], list[float] | None, tuple[str, str], str]:
    """Return places ``(patch, 2)``, the variance on the axes, labels of the axes, and the method in words."""
    if projection is None:
        z = cube.layer(source)["z"].to_numpy()
        xy = np.full((len(z), 2), np.nan)
        usable = np.isfinite(z).all(axis=1)
        ratio = [0.0, 0.0]
        if usable.any():
            axes = min(2, z.shape[1])
            found = pca(z[usable], axes)
            xy[usable] = 0.0  # the second axis of latents with one component
            xy[usable, :axes] = found.xy
            if found.explained_variance_ratio is not None:
                ratio[:axes] = found.explained_variance_ratio.tolist()
        words = f"Principal axes of {source} ({z.shape[1]} components)"
        return xy, ratio, _labels(ratio, "PC"), words
    path = layer_path("projections", projection)
    layer, record = cube.layer(path), cube.layer_info(path).record
    if layer.attrs.get("latents") != source:
        raise UsageError(f"{path} is not of {source} but of {layer.attrs.get('latents')}")
    xy = layer["xy"].to_numpy().astype(np.float64)
    if xy.shape[1] < 2:
        raise UsageError(f"{path} has one axis", hint="make one with --components 2")
    stated = {k: v for k, v in record.options.items() if k not in ("components", "method")}
    method = str(layer.attrs["method"])
    names = {"pca": "Principal axes", "tsne": "t-SNE", "umap": "UMAP"}
    words = f"{names.get(method, method)} of {source}"
    if layer.attrs.get("linear"):
        ratio = [float(r) for r in layer.attrs["explained_variance_ratio"][:2]]
        return xy[:, :2], ratio, _labels(ratio, "PC"), words
    words += f" ({', '.join(f'{k} {v}' for k, v in stated.items())})"
    return xy[:, :2], None, (f"{names.get(method, method)} 1", f"{names.get(method, method)} 2"), words


def _labels(ratio: Sequence[float], name: str) -> tuple[str, str]:
    first, second = (f"{name} {i + 1} ({r:.1%} of variance)" for i, r in enumerate(ratio))
    return first, second


def _distances(ratio: list[float] | None) -> str:
    if ratio is None:
        return "Distances between groups, their sizes and their density are not to scale."
    return (
        f"The projection is linear and shows {sum(ratio):.1%} of the variance, both axes to one scale: "
        "what lies together here may lie apart in other components."
    )


def _colorings(
    cube: Cube,
    latents: str,
    color: Color | Sequence[Color] | None,
    table: str | None,
    clusters: str | None,
    rows: IntArray,
) -> tuple[list[Coloring], list[str]]:
    """Return the panels, and what the caption says of each."""
    there = {info.path for info in cube.layers()}
    summary = choose_summary(cube, table)
    cluster_path = layer_path("clusters", clusters or latents)
    made = {
        "class": lambda: _by_class(summary, rows),
        "height": lambda: _by_height(summary, cube, rows),
        "cluster": lambda: (
            _by_cluster(cube, cluster_path, rows) if cluster_path in there or clusters else None
        ),
    }
    if color is None:
        found = [panel for name in ("class", "height") if (panel := made[name]()) is not None]
        if len(found) < 2 and (panel := made["cluster"]()) is not None:
            found.append(panel)
        if not found:
            plain = Coloring(
                "groups", "Patches", np.zeros(rows.size, dtype=np.int64), ("patch",), ("#444444",)
            )
            found.append((plain, "Run `geoae summarize` to colour them."))
    else:
        found = []
        for name in [color] if isinstance(color, str) else color:
            if name not in COLORS:
                raise ValueError(f"unknown color {name!r}; known: {', '.join(COLORS)}")
            panel = made[name]()
            if panel is None:
                command = "geoae cluster" if name == "cluster" else "geoae summarize"
                raise UsageError(
                    f"{cube.path} has no {name} of its patches", hint=f"`{command}` may make them"
                )
            found.append(panel)
    return [panel for panel, _ in found], [sentence for _, sentence in found]


def choose_summary(cube: Cube, table: str | None) -> xr.Dataset | None:
    """Open the summary of a class table; None: of the default, else any that there is, else None."""
    if table is not None:
        return cube.layer(layer_path("summaries", table))
    summaries = [info.path for info in cube.layers() if info.kind == "summaries"]
    default = f"summaries/{cube.catalog.default_class_table}"
    path = default if default in summaries else next(iter(summaries), None)
    return None if path is None else cube.layer(path)


def _by_class(summary: xr.Dataset | None, rows: IntArray) -> tuple[Coloring, str] | None:
    if summary is None or "dominant_class" not in summary:
        return None
    codes = summary["class_code"].to_numpy()
    dominant = summary["dominant_class"].to_numpy()[rows]
    position = np.full(rows.size, -1, dtype=np.int64)
    for i, code in enumerate(codes):
        position[dominant == code] = i
    if not (position >= 0).any():
        return None
    panel = Coloring(
        "groups",
        "Dominant class",
        position,
        tuple(spoken(name) for name in summary["class"].to_numpy()),
        tuple(str(color) for color in summary["class_color"].to_numpy()),
        unknown="no class",
    )
    return panel, f"Classes: most frequent one of the patch in the table {summary.attrs['class_table']}."


def _by_height(summary: xr.Dataset | None, cube: Cube, rows: IntArray) -> tuple[Coloring, str] | None:
    if summary is None or "mean_height" not in summary:
        return None
    heights = summary["mean_height"].to_numpy()[rows].astype(np.float64)
    if not np.isfinite(heights).any():
        return None
    modality = cube.catalog.modalities[str(summary.attrs["height_modality"])]
    ground = " above ground" if modality.quantity == "above-ground" else ""
    missing = int((~np.isfinite(heights)).sum())
    sentence = (
        f"Heights: mean of {summary.attrs['height_modality']}, colours from the 2nd to the 98th percentile"
    )
    sentence += f"; {missing:,} without height are hollow." if missing else "."
    return Coloring("amount", f"Mean height{ground}", heights), sentence


def _by_cluster(cube: Cube, path: str, rows: IntArray) -> tuple[Coloring, str] | None:
    layer, options = cube.layer(path), cube.layer_info(path).record.options
    label = layer["cluster"].to_numpy()[rows].astype(np.int64)
    k = layer.sizes["cluster_id"]
    panel = Coloring(
        "groups", "Cluster", label, tuple(str(i) for i in range(k)), cluster_colors(k), unknown="none"
    )
    return (
        panel,
        f"Clusters: {path} of {layer.attrs['latents']} ({options['method']}, seed {options['seed']}).",
    )
