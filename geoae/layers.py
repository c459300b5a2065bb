"""Layers: everything that is derived from a cube and stored in it.

A layer is a group ``<kind>/<name>``. It is written like the cube: arrays first, the group's
``zarr.json`` last, by one atomic put. Overwriting builds the new one aside and swaps it in whole.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from geoae import schema
from geoae.commits import LAYERS_LOCK, publish, swap, withdraw
from geoae.cube import Cube, LayerInfo
from geoae.errors import IntegrityError, StoreExistsError
from geoae.journal import note, noted
from geoae.location import Location, work_folder
from geoae.provenance import Record, digest_of
from geoae.store import (
    METADATA,
    ArraySpec,
    array_digest,
    check_shards,
    consolidated,
    create_array,
    group_document,
    is_array,
    open_array,
    read_group,
    shard_key,
    write_array,
    write_shard,
)

__all__ = ["LayerWriter", "dependants", "made_otherwise", "remove_layer", "would_write", "write_layer"]


def _options_digest(record: Record, specs: Mapping[str, ArraySpec]) -> str:
    """Name the work: what is made from what with which options; counts come out of the work."""
    described = {name: [list(s.shape), s.dtype, s.shard, s.chunk] for name, s in specs.items()}
    return digest_of({"record": record.model_dump(mode="json", exclude={"counts"}), "arrays": described})


class LayerWriter(AbstractContextManager["LayerWriter"]):
    """Write a layer shard by shard; a killed run resumes where it was.

    Use it as a context manager: it holds the layer's lock. Nothing is visible before `commit`.

    Parameters
    ----------
    cube
        The cube.
    path
        Place of the layer, ``latents/pca``.
    record
        Who makes it, from what, with which options.
    specs
        Arrays that are written by shards.
    overwrite
        Replace a layer of that name.
    wait
        Wait for another run that writes this layer; for layers that are written in a moment.

    Raises
    ------
    StoreExistsError
        If the layer exists, was made otherwise, and `overwrite` is off.
    LockedError
        If another run writes this layer, or is putting another cube in this one's place.
    GeoaeError
        If another cube has taken its place since it was opened.
    """

    def __init__(
        self,
        cube: Cube,
        path: str,
        record: Record,
        specs: Mapping[str, ArraySpec],
        *,
        overwrite: bool = False,
        wait: bool = False,
    ) -> None:
        schema.layer_path(*path.split("/", 1))
        self._cube = cube
        self._path = path
        self._record = record
        self._specs = dict(specs)
        self._overwrite = overwrite
        self._wait = wait
        self._root = cube.location
        self._work = work_folder(self._root)
        self._state = self._work / "layers" / path
        self._key = _options_digest(record, specs)
        self.exists = False
        """Whether an equal layer is there already: nothing is to be done."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._work.lock(self._path, wait=self._wait))
            # Against an ingest that replaces the cube: what is written here would get into its successor.
            stack.enter_context(self._work.lock(LAYERS_LOCK, wait=self._wait, shared=True))
            self._cube.check_there()
            self._prepare()
            self._locks = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._locks.__exit__(kind, error, trace)

    def _prepare(self) -> None:
        document = read_group(self._root / self._path)
        equal = document is not None and document["attributes"].get("geoae_work") == self._key
        if equal and not self._overwrite:  # whoever says overwrite may doubt the bytes
            self.exists = True
            self._state.remove()  # left by a run that died right after it had committed
            return
        if document is not None and not self._overwrite:
            raise made_otherwise(self._root, self._path)
        # A layer that exists stays readable until its successor is complete.
        self._replaces = document is not None
        self._place = self._state / "next" if self._replaces else self._root / self._path
        self._journal = self._state / "journal"
        try:
            begun = self._state.get_json("begun.json")
        except IntegrityError:
            begun = None  # nobody knows what lies there; it is made again
        if begun != {"work": self._key}:
            self._state.remove()
            self._place.remove()
            self._state.put_json("begun.json", {"work": self._key})
        self._place.sweep()
        for name, spec in self._specs.items():
            if not is_array(self._place / name):
                create_array(self._place / name, spec)
        self._arrays = {n: open_array(self._place / n, read_only=False) for n in self._specs}

    @property
    def n_shards(self) -> int:
        """Number of shards of the sharded arrays."""
        return max((spec.n_shards for spec in self._specs.values()), default=0)

    def done(self) -> set[int]:
        """Return the shards that an earlier run wrote and whose files are still what it wrote."""
        done = set()
        for shard in range(self.n_shards):
            entry = noted(self._journal, shard)
            if entry is not None and all(
                (self._place / name).sha256(key) == digest for name, (key, digest, _) in entry.items()
            ):
                done.add(shard)
        return done

    def write(self, shard: int, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write one whole shard of every sharded array.

        Raises
        ------
        ValueError
            If an array is missing or has another shape than the shard.
        """
        if set(values) != set(self._specs):
            raise ValueError(f"shard {shard} needs {sorted(self._specs)}, not {sorted(values)}")
        entry = {}
        for name, array in self._arrays.items():
            digest, size = write_shard(self._place / name, array, shard, values[name])
            entry[name] = [shard_key(shard, array.ndim), digest, size]
        # Not before the disk has it, as in an ingest: both are compared when work is resumed.
        note(self._journal, shard, entry, durable=False)

    def read(self, name: str) -> npt.NDArray[Any]:
        """Read back all of a sharded array before it is committed."""
        return np.asarray(self._arrays[name][...])

    def commit(
        self,
        small: Mapping[str, tuple[ArraySpec, npt.NDArray[Any]]],
        attributes: Mapping[str, Any],
        *,
        coordinates: tuple[str, ...] = (),
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Verify everything and make the layer visible.

        Parameters
        ----------
        small
            Arrays that are written whole, by name.
        attributes
            Attributes of the group, beside the record.
        coordinates
            Which arrays are coordinates.
        counts
            Counts for the record.

        Raises
        ------
        IntegrityError
            If a shard is missing or has changed; running the command again mends it.
        """
        digests = {}
        for name, spec in self._specs.items():
            known: dict[str, str] = {}
            sizes: dict[str, int] = {}
            for shard in range(spec.n_shards):
                entry = noted(self._journal, shard) or {}
                if name in entry:
                    key, known[key], sizes[key] = entry[name][0], entry[name][1], entry[name][2]
            problems = check_shards(self._place / name, spec, sizes)
            if problems or len(known) != spec.n_shards:
                what = problems[0] if problems else "a shard is missing"
                raise IntegrityError(f"{self._path}: {what}", hint="run the same command again")
            digests[name] = array_digest(self._place / name, shards=known)[0]
        for name, (spec, values) in small.items():
            write_array(self._place / name, spec, values)
            digests[name] = array_digest(self._place / name)[0]
        record = self._record.model_copy(update={"counts": dict(counts or {})})
        document = {
            **attributes,
            **record.to_attributes(),
            "Conventions": "CF-1.11",
            "geoae_work": self._key,
            "geoae_arrays": digests,
            "geoae_digest": digest_of({"arrays": digests, "record": record.model_dump(mode="json")}),
        }
        if coordinates:
            document["coordinates"] = " ".join(coordinates)
        self._publish(group_document(document, consolidated(self._place, list(digests))))

    def _publish(self, document: bytes) -> None:
        self._place.flush()  # shards did not wait for the disk
        with self._work.lock("commit", wait=True):
            if self._replaces:
                self._place.put(METADATA, document)
                fresh = f"{self._work.name}/layers/{self._path}/next"
                swap(self._root, [(fresh, f"{self._root.name}/{self._path}")])
            else:
                publish(self._root, self._place, document)
        self._state.remove()


def made_otherwise(root: Location, path: str) -> StoreExistsError:
    """Return the error for a layer that is there and was made otherwise."""
    return StoreExistsError(
        f"{path} of {root.name} exists and was made otherwise",
        hint="--overwrite replaces it, --name makes another one",
    )


def would_write(
    cube: Cube, path: str, record: Record, specs: Mapping[str, ArraySpec], *, overwrite: bool = False
) -> bool:
    """Say whether a `LayerWriter` would write a layer; False if an equal one is there. Writes nothing.

    Raises
    ------
    StoreExistsError
        If the layer exists, was made otherwise, and `overwrite` is off.
    """
    document = read_group(cube.location / path)
    if document is None or overwrite:
        return True
    if document["attributes"].get("geoae_work") != _options_digest(record, specs):
        raise made_otherwise(cube.location, path)
    return False


def write_layer(
    cube: Cube, path: str, dataset: xr.Dataset, record: Record, *, overwrite: bool = False
) -> None:
    """Write a layer that fits in memory.

    Parameters
    ----------
    cube
        The cube.
    path
        Place of the layer, ``clusters/pca``.
    dataset
        Its variables, coordinates and attributes; a ``patch`` dimension has the length of the cube.
        The coordinate ``patch`` is added.
    record
        Who made it, from what.
    overwrite
        Replace a layer of that name.

    Raises
    ------
    StoreExistsError
        If the layer exists, was made otherwise, and `overwrite` is off.
    ValueError
        If the patch dimension has another length.
    """
    if dataset.sizes.get(schema.PATCH, cube.n_patches) != cube.n_patches:
        raise ValueError(f"{path} has {dataset.sizes[schema.PATCH]} patches, the cube {cube.n_patches}")
    _, dtype, attributes = schema.PATCH_VARIABLES[schema.PATCH]
    rows = xr.Variable((schema.PATCH,), np.arange(cube.n_patches, dtype=dtype), dict(attributes))
    dataset = dataset.assign_coords({schema.PATCH: rows})
    small = {str(name): _spec_and_values(variable) for name, variable in dataset.variables.items()}
    with LayerWriter(cube, path, record, {}, overwrite=overwrite, wait=True) as writer:
        if not writer.exists:
            writer.commit(
                small,
                dataset.attrs,
                coordinates=tuple(str(n) for n in dataset.coords if n not in dataset.dims),
                counts=record.counts,
            )


def _spec_and_values(variable: xr.Variable) -> tuple[ArraySpec, npt.NDArray[Any]]:
    values = np.asarray(variable.values)
    text = values.dtype.kind in "OUT"
    if text:
        values = values.astype(np.dtypes.StringDType())
    dtype = "str" if text else values.dtype.name
    dims = tuple(str(d) for d in variable.dims)
    return ArraySpec(values.shape, dims, dtype, attributes=_plain(variable.attrs)), values


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Turn numpy scalars and arrays into JSON values."""
    return {
        str(k): v.tolist() if isinstance(v, np.ndarray | np.generic) else v for k, v in attributes.items()
    }


def dependants(cube: Cube, path: str) -> tuple[LayerInfo, ...]:
    """Return the layers that were made from a layer."""
    return tuple(info for info in cube.layers() if path in info.record.inputs)


def remove_layer(cube: Cube, path: str, *, dry_run: bool = False) -> None:
    """Remove a layer; what was made from it becomes stale. A dry run only says whether it is there.

    Raises
    ------
    UsageError
        If there is none of that path.
    LockedError
        If another run writes it.
    """
    kind, _, name = path.partition("/")
    if kind not in schema.LAYER_KINDS or name not in cube.location.names(kind):
        cube.layer_info(path)  # says what there is; a damaged layer can be removed, too
    if dry_run:
        return
    work = work_folder(cube.location)
    place: Location = cube.location / path
    with work.lock(path), work.lock("commit", wait=True):
        withdraw(cube.location, place)
