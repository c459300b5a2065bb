"""Which layers and which patches of a cube an export takes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geoae.cube import Cube, LayerInfo
from geoae.errors import InputError, UsageError
from geoae.schema import SPLIT_NAMES, layer_path
from geoae.splits import parse_split

__all__ = ["ExportLayers", "Rows", "choose_layers", "choose_rows"]

Rows = npt.NDArray[np.int64]
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ExportLayers:
    """The layers that an export reads; None for those that the cube does not have."""

    clusters: LayerInfo | None
    summary: LayerInfo | None
    projection: LayerInfo | None
    split: LayerInfo | None
    latents: LayerInfo | None
    footprints: LayerInfo | None = None

    def all(self) -> list[LayerInfo]:
        """Return those that are there, in the order in which they are made."""
        chosen = (self.split, self.latents, self.summary, self.clusters, self.projection, self.footprints)
        return [info for info in chosen if info is not None]


def choose_layers(
    cube: Cube,
    clusters: str | None,
    table: str | None,
    projection: str | None,
    split: str | None,
    *,
    latents: str | None = None,
) -> ExportLayers:
    """Choose the layers of an export: those that are named, else the only ones.

    Parameters
    ----------
    cube
        The cube.
    clusters, table, projection, split
        As `geoae.export_geopackage` takes them.
    latents
        Name of latents that are exported, too: of clusters and projections only theirs count, then.

    Raises
    ------
    UsageError
        If a layer is not there, or there are several and none is named.
    """
    infos = cube.layers()
    there = {info.path for info in infos if info.kind == "latents"}
    if latents is not None:
        there &= {layer_path("latents", latents)}
        of_it = [info for info in infos if info.kind != "clusters" or there & set(info.record.inputs)]
        chosen = _choose(cube, of_it if clusters is None else infos, "clusters", clusters, "--clusters")
    else:
        chosen = _choose(cube, infos, "clusters", clusters, "--clusters")
        if chosen is not None:
            there &= set(chosen.record.inputs)
    related = [
        info for info in infos if info.kind != "projections" or not there or there & set(info.record.inputs)
    ]
    split_name = parse_split(split)[0] if split is not None else None
    return ExportLayers(
        clusters=chosen,
        summary=_choose(cube, infos, "summaries", table, "--table", cube.catalog.default_class_table),
        projection=_choose(
            cube, related if projection is None else infos, "projections", projection, "--projection"
        ),
        split=_choose(cube, infos, "splits", split_name, "--split NAME:PART", "default"),
        latents=next((info for info in infos if {info.path} == there), None),
        footprints=_choose(cube, infos, "footprints", None, "geoae rm, leaving one", "tiles"),
    )


def _choose(
    cube: Cube,
    infos: Iterable[LayerInfo],
    kind: str,
    name: str | None,
    option: str,
    default: str | None = None,
) -> LayerInfo | None:
    """Return the layer of that name, else the default, else the only one; None if there is none."""
    if name is not None:
        return cube.layer_info(layer_path(kind, name))
    there = [info for info in infos if info.kind == kind]
    for info in there:
        if info.name == default:
            return info
    if len(there) > 1:
        names = ", ".join(info.name for info in there)
        raise UsageError(
            f"{cube.location.name} has several {kind}: {names}", hint=f"choose one with {option}"
        )
    return there[0] if there else None


def choose_rows(
    cube: Cube,
    arrays: Arrays,
    *,
    cities: Sequence[str],
    scenes: Sequence[str],
    split: LayerInfo | None,
    part: str | None,
) -> Rows:
    """Return the rows of the cube that are exported.

    Parameters
    ----------
    cube
        The cube.
    arrays
        Its arrays ``scene_number``, ``scene_city`` and ``scene_name``.
    cities, scenes
        Keep only patches of these; all if empty.
    split, part
        Keep only one part of this split; all if None.

    Raises
    ------
    UsageError
        If a city or scene has no patches.
    InputError
        If no patch is left.
    """
    number = arrays["scene_number"]
    keep = np.ones(len(number), dtype=bool)
    for variable, names, what in (("scene_city", cities, "city"), ("scene_name", scenes, "scene")):
        if names:
            of_scene = arrays[variable].astype(object)
            there = set(of_scene[np.unique(number)].tolist())
            for name in names:
                if name not in there:
                    known = ", ".join(sorted(there)[:5]) + (", ..." if len(there) > 5 else "")
                    raise UsageError(
                        f"{cube.location.name} has no patches of the {what} {name!r}", hint=f"there: {known}"
                    )
            keep &= np.isin(of_scene, list(names))[number]
    if split is not None and part is not None:
        code = SPLIT_NAMES.index(parse_split(part)[1])
        keep &= cube.layer(split.path)["split"].to_numpy() == code
    rows = np.flatnonzero(keep)
    if not rows.size:
        raise InputError(
            f"{cube.location.name}: no patch to export", hint="check --city, --scene and --split"
        )
    return rows
