"""Cubes: open and read what ingestion and the later steps wrote.

`Cube` is a light handle on a committed store; `open_cube` gives everything as one lazy Dataset.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zarr
from affine import Affine

from geoae import schema
from geoae.catalog import Catalog
from geoae.commits import finish_swaps
from geoae.errors import GeoaeError, IncompleteError, IntegrityError, NotACubeError, UsageError
from geoae.grid import Grid
from geoae.location import Location, work_folder
from geoae.provenance import Record
from geoae.store import METADATA_DIGEST, metadata_digest, open_array, read_group

if TYPE_CHECKING:
    # put off: `geoae info` needs neither, and they take longer to import than it takes to answer
    import pandas as pd
    import xarray as xr

__all__ = ["Cube", "LayerInfo"]


@dataclass(frozen=True)
class LayerInfo:
    """A committed layer.

    Parameters
    ----------
    path
        Place below the root, ``latents/pca``.
    record
        Who made it, from what.
    digest
        Digest of its arrays.
    stale
        Inputs that have another digest now, or are gone.
    variables
        Names of its arrays.
    """

    path: str
    record: Record
    digest: str
    stale: tuple[str, ...]
    variables: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Kind of layer: ``latents``, ``clusters``, ..."""
        return self.path.split("/")[0]

    @property
    def name(self) -> str:
        """Name within its kind."""
        return self.path.split("/")[1]


class Cube:
    """A committed cube. Cheap to open; holds no pixels.

    Use `Cube.open`. All reads go to the store when they are made.
    """

    def __init__(self, location: Location, attributes: Mapping[str, Any]) -> None:
        self.location = location
        self.attrs = dict(attributes)

    @classmethod
    def open(cls, path: "str | os.PathLike[str] | Location | Cube") -> Self:
        """Open a cube by path or fsspec URL.

        Raises
        ------
        NotACubeError
            If the path holds no geoae cube, or one of a newer format.
        IncompleteError
            If an ingest into it was not finished.
        """
        location = path.location if isinstance(path, Cube) else Location.of(path)
        finish_swaps(location)
        document = read_group(location)
        if document is None:
            finish_swaps(location)  # which may have begun after the first look
            document = read_group(location)
        if document is None:
            if work_folder(location).exists("ingest/plan.json"):
                raise IncompleteError(
                    f"{location} is incomplete: its ingest was not finished",
                    hint="run the same `geoae ingest` again; it resumes",
                )
            raise NotACubeError(f"{location} is not a geoae cube", hint="make one with `geoae ingest FOLDER`")
        attributes = document.get("attributes")
        if not isinstance(attributes, dict) or not isinstance(attributes.get("geoae_format"), int):
            raise NotACubeError(f"{location} is a Zarr group, but not a geoae cube")
        if attributes["geoae_format"] > schema.FORMAT:
            raise NotACubeError(
                f"{location} has format {attributes['geoae_format']}, this geoae reads up to {schema.FORMAT}",
                hint="update geoae",
            )
        if attributes.get(METADATA_DIGEST) != metadata_digest(attributes):
            # They name classes, bands and units: a wrong one would go into every figure unseen.
            raise IntegrityError(
                f"the attributes of {location} were changed", hint="ingest again with --overwrite"
            )
        return cls(location, attributes)

    def check_there(self) -> None:
        """Refuse to go on if another cube has taken this one's place since it was opened.

        Raises
        ------
        GeoaeError
            If so: what was read may come from either.
        """
        document = read_group(self.location) or {}
        if document.get("attributes", {}).get("geoae_cube") != self.cube_id:
            raise GeoaeError(
                f"{self.location.name} was replaced while it was read", hint="run the same command again"
            )

    @property
    def path(self) -> str:
        """Path or URL."""
        return str(self.location)

    @property
    def cube_id(self) -> str:
        """Digest of plan and pixels."""
        return str(self.attrs["geoae_cube"])

    @cached_property
    def catalog(self) -> Catalog:
        """The catalog that the cube was made with."""
        return Catalog.model_validate(self.attrs["geoae_catalog"])

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the ingest: patch, stride, edge, min_valid, resolution."""
        options: Mapping[str, Any] = self.attrs["geoae_options"]
        return options

    @property
    def min_valid(self) -> float:
        """Share of valid pixels below which a patch is not used."""
        return float(self.options["min_valid"])

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return int(self.options["patch"])

    @property
    def stride(self) -> int:
        """Step between patches in pixels."""
        return int(self.options["stride"])

    @property
    def shard_length(self) -> int:
        """Patches in a shard of pixels."""
        return int(self.attrs["geoae_shard_length"])

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the catalog's order."""
        return tuple(str(name) for name in np.asarray(self.array(schema.MODALITY)[:]))

    def role(self, modality: str) -> str:
        """Return image, height or label."""
        return self.catalog.modalities[modality].role

    def by_role(self, role: str) -> tuple[str, ...]:
        """Return the modalities of a role."""
        return tuple(m for m in self.modalities if self.role(m) == role)

    def bands(self, modality: str) -> tuple[str, ...]:
        """Return the band names of an image; a height has one band of its own name."""
        if self.role(modality) != "image":
            return (modality,)
        return tuple(str(name) for name in np.asarray(self.array(schema.band_dim(modality))[:]))

    def array(self, name: str) -> "zarr.Array[Any]":
        """Open an array of the root, or of a layer by its path."""
        try:
            return open_array(self.location / name)
        except FileNotFoundError:  # also where another run removes it at this moment
            raise IntegrityError(f"{self.location}/{name} is missing", hint="run `geoae verify`") from None

    def values(self, name: str) -> np.ndarray[Any, Any]:
        """Read all values of one of the root's arrays; strings as objects."""
        values = np.asarray(self.array(name)[...])
        return values.astype(object) if values.dtype.kind == "T" else values

    @cached_property
    def n_patches(self) -> int:
        """Number of patches."""
        return int(self.array(schema.PATCH).shape[0])

    def shards(self) -> list[slice]:
        """Rows of each shard."""
        step = self.shard_length
        return [slice(a, min(a + step, self.n_patches)) for a in range(0, self.n_patches, step)]

    @cached_property
    def _tables(self) -> "tuple[pd.DataFrame, pd.DataFrame]":
        import pandas as pd  # put off, see above

        patches: dict[str, Any] = {}
        for name, (dims, dtype, _) in schema.PATCH_VARIABLES.items():
            values = np.asarray(self.array(name)[...])
            if dims:
                for i, label in enumerate(schema.FIXED_COORDINATES[dims[0]]):
                    patches[label] = values[:, i]
            else:
                patches[name] = values.astype(object) if dtype == "str" else values
        table = pd.DataFrame(patches).set_index("patch")
        table.index.name = "patch_id"
        fractions = np.asarray(self.array("valid_fraction")[...])
        for i, modality in enumerate(self.modalities):
            table[f"{modality}_valid_fraction"] = fractions[:, i]
        scenes: dict[str, Any] = {}
        for name, (dims, dtype, _) in schema.SCENE_VARIABLES.items():
            values = np.asarray(self.array(name)[...])
            if dims:
                scenes[name] = list(values)
            else:
                scenes[name] = values.astype(object) if dtype == "str" else values
        return table, pd.DataFrame(scenes)

    def table(self) -> "pd.DataFrame":
        """Return a row for each patch.

        Returns
        -------
        pandas.DataFrame
            Index ``patch_id``; columns scene_id, city, tile, view, scene_number, row, col, y_start,
            x_start, xmin, ymin, xmax, ymax, pixel_size_x, pixel_size_y and, for each modality,
            ``<name>_valid_fraction``.
        """
        return self._tables[0].copy()

    def scenes(self) -> "pd.DataFrame":
        """Return a row for each scene: name, city, tile, view, crs, transform, shape, status, modalities."""
        return self._tables[1].copy()

    def bad_scenes(self) -> dict[str, str]:
        """Return the scenes that could not be used, with the reason."""
        names, status = self.values("scene_name"), self.values("scene_status")
        return {name: why for name, why in zip(names, status, strict=True) if why != "ok"}

    def grid(self, scene_number: int) -> Grid:
        """Return the reference grid of a scene."""
        scene = self._tables[1].iloc[scene_number]
        shape = (int(scene.scene_shape[0]), int(scene.scene_shape[1]))
        return Grid(scene.scene_crs or None, Affine(*scene.scene_transform), shape)

    def valid_fraction(self, modalities: tuple[str, ...] | None = None) -> np.ndarray[Any, Any]:
        """Return ``(patch,)``: the smallest share of valid pixels among some modalities (images if None)."""
        names = modalities or self.by_role("image") or self.modalities
        columns = [f"{name}_valid_fraction" for name in names]
        return np.asarray(self._tables[0][columns].to_numpy().min(axis=1))

    def _layer_documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for kind in schema.LAYER_KINDS:
            for name in self.location.names(kind):
                document = read_group(self.location / kind / name)
                if document is None:
                    continue
                path, attributes = f"{kind}/{name}", document.get("attributes")
                if not isinstance(attributes, dict) or attributes.get(METADATA_DIGEST) != metadata_digest(
                    attributes
                ):
                    raise IntegrityError(
                        f"the attributes of {path} of {self.location.name} were changed",
                        hint=f"`geoae rm {path}`, then make it again",
                    )
                yield path, document

    def layers(self) -> tuple[LayerInfo, ...]:
        """Return all committed layers, in the order of their kinds and names.

        Raises
        ------
        IntegrityError
            If a layer's attributes are not what was written.
        """
        documents = dict(self._layer_documents())
        digests = {path: _layer_digest(path, document) for path, document in documents.items()}
        digests["cube"] = self.cube_id
        stale: dict[str, tuple[str, ...]] = {}
        infos = []
        for path, document in documents.items():
            record = Record.from_attributes(document["attributes"])
            # An input that is stale itself makes what was made from it stale; kinds come in that order.
            changed = tuple(
                name
                for name, digest in record.inputs.items()
                if digests.get(name) != digest or stale.get(name)
            )
            stale[path] = changed
            variables = tuple(document["attributes"]["geoae_arrays"])
            infos.append(LayerInfo(path, record, digests[path], changed, variables))
        return tuple(infos)

    def layer_info(self, path: str) -> LayerInfo:
        """Return one layer.

        Raises
        ------
        UsageError
            If there is none of that path.
        """
        kind = path.split("/")[0]
        if kind not in schema.LAYER_KINDS:
            raise UsageError(
                f"{path!r} names no layer", hint=f"KIND/NAME, the kind one of {', '.join(schema.LAYER_KINDS)}"
            )
        infos = self.layers()
        for info in infos:
            if info.path == path:
                return info
        there = ", ".join(i.name for i in infos if i.kind == kind) or "none"
        raise UsageError(f"{self.location.name} has no {path}", hint=f"{kind} there: {there}; see `geoae ls`")

    def layer_digest(self, path: str) -> str:
        """Return the digest of a layer, for the record of what is made from it."""
        return self.layer_info(path).digest

    def layer(self, path: str) -> "xr.Dataset":
        """Open one layer lazily."""
        import xarray as xr  # put off, see above

        if path.split("/")[0] not in schema.LAYER_KINDS or read_group(self.location / path) is None:
            self.layer_info(path)  # says what there is
        layer: xr.Dataset = xr.open_zarr(self.location.zarr(), group=path, chunks=None)
        return layer


def _layer_digest(path: str, document: Mapping[str, Any]) -> str:
    try:
        return str(document["attributes"]["geoae_digest"])
    except KeyError:
        raise IntegrityError(f"{path} was not written by geoae: no digest") from None
