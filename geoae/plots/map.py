"""The map of clusters: where they lie in a scene, beside the picture of it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geoae.cube import Cube
from geoae.errors import UsageError
from geoae.plots.figure import LINE, Page, legend_columns, wrapped
from geoae.plots.panels import (
    Cells,
    MapScale,
    cells_of,
    draw_clusters,
    draw_north,
    draw_picture,
    draw_scale_bar,
    legend_patches,
)
from geoae.plots.pictures import ScenePicture, scene_picture
from geoae.plots.style import SMALL, WIDTH, style
from geoae.schema import layer_path

__all__ = ["most_varied_scene", "plot_map"]

TALLEST = 5.5
"""Largest height of a panel in inches."""

IntArray = npt.NDArray[np.int64]


def most_varied_scene(scene: IntArray, cluster: IntArray) -> int:
    """Return the scene whose clusters are mixed most evenly (largest entropy); the first of equals.

    Parameters
    ----------
    scene, cluster
        ``(patch,)`` numbers; cluster -1 does not count.

    Examples
    --------
    >>> most_varied_scene(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 2, -1]))
    1
    """
    best, most = int(scene[0]), -1.0
    for number in np.unique(scene):
        inside = cluster[(scene == number) & (cluster >= 0)]
        share = np.bincount(inside) / max(inside.size, 1) if inside.size else np.zeros(1)
        share = share[share > 0]
        # Rounded: sums of equal shares in another order must not decide.
        entropy = round(float(-(share * np.log(share)).sum()), 9) if share.size else -0.5
        if entropy > most:
            best, most = int(number), entropy
    return best


def plot_map(
    cube: Cube | str | os.PathLike[str],
    clusters: str,
    *,
    scene: str | None = None,
    ax: Sequence[Axes] | None = None,
) -> Figure:
    """Plot the clusters where they lie in a scene, beside its picture.

    Parameters
    ----------
    cube
        The cube, or its path.
    clusters
        Name of a layer of clusters.
    scene
        Key of the scene; None for the one whose clusters are mixed most evenly.
    ax
        Two axes, for the picture and for the clusters; None makes a figure.

    Returns
    -------
    Figure
        Never shown; `geoae.plots.save_figure` writes it.

    Raises
    ------
    UsageError
        If the layer or the scene is not there.
    InputError
        If the scene has no valid pixel.
    """
    cube = Cube.open(cube)
    path = layer_path("clusters", clusters)
    layer = cube.layer(path)
    cluster = layer["cluster"].to_numpy().astype(np.int64)
    patches = cube.table()
    numbers = patches["scene_number"].to_numpy().astype(np.int64)
    number = most_varied_scene(numbers, cluster) if scene is None else _scene_number(cube, scene)
    rows = np.flatnonzero(numbers == number)
    if not rows.size:
        raise UsageError(f"scene {scene} has no patch", hint="it is smaller than a patch")
    city = cube.catalog.cities.get(str(patches["city"].iloc[rows[0]]))
    name = cube.catalog.default_class_table
    picture = scene_picture(cube, number, table=cube.catalog.class_tables.get(name) if name else None)
    scale = MapScale.of(picture.grid, picture.window, city.gsd if city else None)
    y, x = (patches[c].to_numpy()[rows].astype(np.int64) for c in ("y_start", "x_start"))
    box = cells_of(y, x, picture.window, cube.patch_size, cube.stride)
    cells = Cells(box, cluster[rows], layer.sizes["cluster_id"])
    key = str(patches["scene_id"].iloc[rows[0]])
    caption = _caption(cube, path, layer.attrs, picture, key, cells, scale)
    titles = (key, f"{cells.k} clusters of {layer.attrs['latents']}")
    if ax is not None:
        first, second = ax
        inch = picture.window.width / max(second.get_position().width * _root(second).get_figwidth(), 0.1)
        _panels(first, second, picture, cells, scale, inch)
        first.set_title(titles[0])
        second.set_title(titles[1])
        second.legend(
            handles=legend_patches(cells),
            fontsize=SMALL,
            loc="upper left",
            bbox_to_anchor=(1.02, 1),
            frameon=False,
        )
        return _root(first)
    with style():
        return _page(picture, cells, scale, titles, caption)


def _root(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure")
    return figure


def _scene_number(cube: Cube, scene: str) -> int:
    names = cube.scenes()["scene_name"].tolist()
    if scene not in names:
        near = ", ".join(names[:3])
        raise UsageError(
            f"{cube.location.name} has no scene {scene!r}", hint=f"it has {near}, ...; see `geoae info`"
        )
    return int(names.index(scene))


def _panels(
    first: Axes, second: Axes, picture: ScenePicture, cells: Cells, scale: MapScale, inch: float
) -> None:
    width, height = picture.window.width * scale.x, picture.window.height * scale.y
    draw_picture(first, picture, scale)
    draw_scale_bar(first, scale, width, height)
    draw_north(first, picture.grid, width, height)
    draw_picture(second, picture, scale, dimmed=True)
    draw_clusters(second, cells, scale, inch=inch)
    for ax in (first, second):
        ax.set_xlim(0, width)
        ax.set_ylim(height, 0)
    second.set_yticklabels([])


def _page(
    picture: ScenePicture, cells: Cells, scale: MapScale, titles: tuple[str, str], caption: str
) -> Figure:
    left, gap, right, top = 0.56, 0.18, 0.12, 0.28
    window = picture.window
    aspect = (window.height * scale.y) / (window.width * scale.x)
    panel = (WIDTH - left - gap - right) / 2
    height = panel * aspect
    if height > TALLEST:
        panel, height = TALLEST / aspect, TALLEST
    start = left + (WIDTH - left - gap - right - 2 * panel) / 2
    handles = legend_patches(cells)
    columns = legend_columns([str(h.get_label()) for h in handles], WIDTH * 0.92)
    rows = -(-len(handles) // columns)
    lines = wrapped(caption, WIDTH - 0.2)
    under = top + height + 0.4
    page = Page(under + rows * LINE * 1.2 + 0.1 + len(lines) * LINE + 0.06)
    first = page.axes_at(start, top, panel, height)
    second = page.axes_at(start + panel + gap, top, panel, height)
    _panels(first, second, picture, cells, scale, inch=window.width / panel)
    first.set_ylabel(scale.unit, labelpad=2)
    first.set_title(f"(a) {titles[0]}")
    second.set_title(f"(b) {titles[1]}")
    total = page.get_figheight()
    page.legend(
        handles=handles,
        ncols=columns,
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - under / total),
        handlelength=1.3,
        handleheight=0.9,
        labelspacing=0.35,
    )
    page.text_at(0.1, under + rows * LINE * 1.2 + 0.1, "\n".join(lines), color="#333333")
    return page


def _caption(
    cube: Cube,
    path: str,
    attributes: Mapping[Any, Any],
    picture: ScenePicture,
    scene: str,
    cells: Cells,
    scale: MapScale,
) -> str:
    options = cube.layer_info(path).record.options
    size = f"{cube.patch_size} × {cube.patch_size} pixels"
    if scale.metres:
        size += f" of {'nominally ' if scale.nominal else ''}{scale.x * scale.metres:.3g} m"
    stated = f"k = {cells.k}, seed {options['seed']}" + (", whitened" if options["whiten"] else "")
    sentences = [
        f"(a) Scene {scene}: {picture.display.title}.",
        f"(b) Clusters of {attributes['latents']} by {options['method']} ({stated}),",
        "numbered by decreasing size in the cube; in brackets their share of the scene's",
        f"{len(cells.cluster):,} patches of {size}.",
    ]
    if cube.stride < cube.patch_size:
        sentences.append(f"Patches overlap; a cell is the middle {cube.stride} pixels of its patch.")
    if (cells.cluster < 0).any():
        sentences.append("Hatched: patches without latents.")
    return " ".join(sentences)
