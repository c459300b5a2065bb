"""From a cube to the exported table: which layers, which patches, which columns."""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xarray as xr
from affine import Affine

from geoae.citations import encoders_of
from geoae.cube import Cube, LayerInfo
from geoae.exports.qml import cluster_categories
from geoae.exports.selection import ExportLayers, Rows, choose_layers, choose_rows
from geoae.exports.table import Category, Column, ExportTable, TileLayer
from geoae.exports.tiles import tile_layers
from geoae.grid import Grid
from geoae.provenance import canonical_json
from geoae.schema import SPLIT_NAMES, UNUSED

__all__ = ["export_table"]

Values = npt.NDArray[Any]

_ARRAYS = (
    *("scene_number", "row", "col", "y_start", "x_start"),
    *("scene_name", "scene_city", "scene_tile", "scene_view", "scene_crs", "scene_transform", "scene_shape"),
)


def export_table(
    cube: Cube,
    *,
    clusters: str | None = None,
    table: str | None = None,
    projection: str | None = None,
    cities: Sequence[str] = (),
    scenes: Sequence[str] = (),
    split: str | None = None,
    latents: str | None = None,
) -> ExportTable:
    """Gather what is exported of a cube.

    Parameters
    ----------
    cube
        The cube.
    clusters, table, projection
        Names of the layers of clusters, summaries (a class table) and projections. Without a name:
        the only one; of the class tables the catalog's default; of the projections the only one of
        the latents that were clustered.
    cities, scenes
        Keep only patches of these cities, these scenes.
    split
        Keep only one part of a split: ``train``, or ``name:test``.
    latents
        Name of latents that are exported, too.

    Raises
    ------
    UsageError
        If a layer, city, scene or split is not there, or there are several and none is named.
    InputError
        If no patch is left.
    """
    layers = choose_layers(cube, clusters, table, projection, split, latents=latents)
    # Not `Cube.table`: it makes texts of every patch, and these come from the few of the scenes.
    arrays = {name: np.asarray(cube.array(name)[...]) for name in _ARRAYS}
    rows = choose_rows(cube, arrays, cities=cities, scenes=scenes, split=layers.split, part=split)
    number = arrays["scene_number"][rows]
    used = np.unique(number)
    table_columns = [*_place_columns(arrays, rows)]
    clusters_legend: tuple[Category, ...] = ()
    classes_legend: tuple[Category, ...] = ()
    table_columns.append(_split_column(cube, layers.split, rows))
    table_columns += _valid_columns(cube, rows)
    summary = None if layers.summary is None else cube.layer(layers.summary.path)
    table_columns += _summary_columns(cube, summary, rows)
    if summary is not None and "class_code" in summary.variables:
        classes_legend = _class_categories(summary)
    if layers.clusters is None:
        table_columns.append(Column("cluster", pa.nulls(len(rows), pa.int32()), "Cluster"))
    else:
        found = cube.layer(layers.clusters.path)
        label = found["cluster"].to_numpy()[rows]
        table_columns.append(Column("cluster", pa.array(label, mask=label == UNUSED), "Cluster"))
        clusters_legend = cluster_categories(found.sizes["cluster_id"])
    table_columns += _latent_columns(cube, layers.latents, rows)
    table_columns += _projection_columns(cube, layers.projection, rows)
    tiles: tuple[TileLayer, ...] = ()
    lost: tuple[str, ...] = ()
    if layers.footprints is not None:
        legends = (clusters_legend, classes_legend)
        tiles, lost = tile_layers(cube, layers.footprints, rows, table_columns, *legends)
    return ExportTable(
        columns=tuple(table_columns),
        scene_number=number,
        y_start=arrays["y_start"][rows],
        x_start=arrays["x_start"][rows],
        patch=cube.patch_size,
        grids={int(i): _grid(arrays, i) for i in used},
        places={int(i): (str(arrays["scene_city"][i]), str(arrays["scene_tile"][i])) for i in used},
        clusters=clusters_legend,
        classes=classes_legend,
        title="Patches" if layers.clusters is None else f"Clusters {layers.clusters.name}",
        description=_description(cube, layers),
        metadata=_metadata(cube, layers),
        warnings=(*_warnings(layers), *lost),
        tiles=tiles,
        projection=None if layers.projection is None else layers.projection.path,
    )


def _grid(arrays: Mapping[str, Values], scene: int) -> Grid:
    height, width = arrays["scene_shape"][scene]
    crs = str(arrays["scene_crs"][scene]) or None
    return Grid(crs, Affine(*arrays["scene_transform"][scene]), (int(height), int(width)))


def _place_columns(arrays: Mapping[str, Values], rows: Rows) -> Iterable[Column]:
    yield Column("patch_id", pa.array(rows), "Patch number")
    index = pa.array(arrays["scene_number"][rows])
    for name, variable, title in (
        ("scene_id", "scene_name", "Scene"),
        ("city", "scene_city", "City"),
        ("tile", "scene_tile", "Tile"),
        ("view", "scene_view", "View"),
    ):
        # One text a scene, taken by number: a list of one text a patch is far slower.
        yield Column(name, pa.array(arrays[variable].tolist(), pa.string()).take(index), title)
    for name, title in (
        ("row", "Patch row in the scene"),
        ("col", "Patch column in the scene"),
        ("y_start", "First pixel row (px)"),
        ("x_start", "First pixel column (px)"),
    ):
        yield Column(name, pa.array(arrays[name][rows]), title)


def _split_column(cube: Cube, split: LayerInfo | None, rows: Rows) -> Column:
    if split is None:
        return Column("split", pa.nulls(len(rows), pa.string()), "Split")
    code = cube.layer(split.path)["split"].to_numpy()[rows]
    values = pa.array(SPLIT_NAMES, pa.string()).take(pa.array(code.astype(np.int32), mask=code == UNUSED))
    return Column("split", values, f"Split ({split.name})")


def _valid_columns(cube: Cube, rows: Rows) -> Iterable[Column]:
    fraction = np.asarray(cube.array("valid_fraction")[...])[rows]  # (patch, modality)
    for position, modality in enumerate(cube.modalities):
        title = f"Valid part of {modality} (0 to 1)"
        yield Column(f"{modality}_valid_fraction", _floats(fraction[:, position]), title)


def _summary_columns(cube: Cube, summary: xr.Dataset | None, rows: Rows) -> Iterable[Column]:
    code = np.full(len(rows), UNUSED, dtype=np.int16)
    names: list[str] = []
    position = code
    if summary is not None and "dominant_class" in summary.variables:
        code = summary["dominant_class"].to_numpy()[rows]
        names = [str(name) for name in summary["class"].to_numpy()]
        codes = summary["class_code"].to_numpy()
        order = np.argsort(codes)
        position = order[np.searchsorted(codes, code, sorter=order).clip(max=len(codes) - 1)]
    unknown = code == UNUSED
    yield Column("dominant_class", pa.array(code, mask=unknown), "Dominant class (code)")
    index = pa.array(position.astype(np.int32), mask=unknown)
    yield Column("class_name", pa.array(names, pa.string()).take(index), "Dominant class")
    height = "height"
    if summary is not None and "mean_height" in summary.variables:
        modality = str(summary["mean_height"].attrs["height_modality"])
        surface = cube.catalog.modalities[modality].quantity != "above-ground"
        height = f"{'surface height' if surface else 'height above ground'}, {modality}"
    for name, variable, title in (
        ("purity", "purity", "Purity: part of the dominant class (0 to 1)"),
        ("mean_height_m", "mean_height", f"Mean {height} (m)"),
        ("height_valid", "height_valid", "Part with known height (0 to 1)"),
    ):
        if summary is not None and variable in summary.variables:
            yield Column(name, _floats(summary[variable].to_numpy()[rows]), title)
        else:
            yield Column(name, pa.nulls(len(rows), pa.float32()), title)


def _class_categories(summary: xr.Dataset) -> tuple[Category, ...]:
    columns = (summary["class_code"], summary["class"], summary["class_color"])
    return tuple(
        Category(int(code), str(name), str(color))
        for code, name, color in zip(*(column.to_numpy() for column in columns), strict=True)
    )


def _latent_columns(cube: Cube, latents: LayerInfo | None, rows: Rows) -> Iterable[Column]:
    if latents is not None and "error" in latents.variables:
        values = cube.layer(latents.path)["error"].to_numpy()[rows]
        yield Column("error", _floats(values), f"Reconstruction error, {latents.name} (deviations)")


def _projection_columns(cube: Cube, projection: LayerInfo | None, rows: Rows) -> Iterable[Column]:
    xy = np.empty((len(rows), 0), dtype=np.float32)
    title = "Projection"
    if projection is not None:
        dataset = cube.layer(projection.path)
        xy = dataset["xy"].to_numpy()[rows]
        title = f"Projection {projection.name} ({dataset.attrs.get('method', 'unknown method')})"
    for axis, name in enumerate("xy"):
        known = axis < xy.shape[1]
        values = _floats(xy[:, axis]) if known else pa.nulls(len(rows), pa.float32())
        yield Column(f"proj_{name}", values, f"{title}, {name}")


def _floats(values: Values) -> pa.Array:
    """Turn numbers into an array with null for NaN."""
    return pa.array(values.astype(np.float32), from_pandas=True)


def _description(cube: Cube, layers: ExportLayers) -> str:
    """Say in a few sentences what the map shows and where it comes from."""
    parts = [f"Made by geoae {version('geoae')} from the cube {cube.cube_id}"]
    for info in layers.all():
        options = ", ".join(
            f"{key} {value}" for key, value in info.record.options.items() if value is not None
        )
        parts.append(f"{info.path} ({options})" if options else info.path)
    catalog = cube.catalog
    parts.append(f"Data: {catalog.title}")
    parts += [
        f"{what}: {text}" for what, text in (("Cite", catalog.citation), ("Licence", catalog.licence)) if text
    ]
    return ". ".join(" ".join(part.split()).rstrip(".") for part in parts)


def _metadata(cube: Cube, layers: ExportLayers) -> dict[str, str]:
    catalog = cube.catalog
    records = {
        info.path: {"digest": info.digest, "record": json.loads(info.record.model_dump_json())}
        for info in layers.all()
    }
    return {
        "geoae_version": version("geoae"),
        "cube_id": cube.cube_id,
        "catalog": catalog.name,
        "title": catalog.title,
        "citation": catalog.citation,
        "licence": catalog.licence,
        "attribution": _attribution(cube, layers),
        "layers": canonical_json(records),
    }


def _attribution(cube: Cube, layers: ExportLayers) -> str:
    """Say in one line what whoever shows the map has to name."""
    catalog = cube.catalog
    parts = [f"Data: {catalog.title or catalog.name}"]
    parts += [text for text in (catalog.citation, catalog.licence and f"Licence: {catalog.licence}") if text]
    makers = [str(one) for one in encoders_of(layers.all())]
    parts.append(f"Made with geoae {version('geoae')}" + (f", encoder {', '.join(makers)}" if makers else ""))
    return ". ".join(" ".join(part.split()).rstrip(".") for part in parts)


def _warnings(layers: ExportLayers) -> tuple[str, ...]:
    return tuple(
        f"{info.path} is stale: {', '.join(info.stale)} changed since it was made"
        for info in layers.all()
        if info.stale
    )
