"""Commits: how layers become visible, are replaced and are taken away, whatever kills the process.

Every commit holds the ``commit`` lock, writes down first what it is about to do, and ends by writing the
root's consolidated metadata anew. What a crash cuts in two is ended by whoever opens the cube next.
"""

from collections.abc import Sequence
from typing import Any

from geoae import schema
from geoae.errors import IntegrityError, LockedError
from geoae.location import Location, is_partial, work_folder
from geoae.store import (
    METADATA,
    METADATA_DIGEST,
    consolidated,
    group_document,
    metadata_digest,
    read_group,
)

__all__ = ["LAYERS_LOCK", "consolidate_root", "finish_swaps", "layer_members", "publish", "swap", "withdraw"]

LAYERS_LOCK = "layers"
"""Lock that all writers of layers share; who replaces the cube holds it alone."""

_INTENT = "swap.json"
"""File beside the store that says which moves a commit consists of; it is there while they are made."""


def consolidate_root(cube: Location) -> None:
    """Write the root's ``zarr.json`` anew with all committed layers. Hold the ``commit`` lock.

    Layers that are being written have no ``zarr.json`` and stay invisible; a consolidation by zarr
    itself would be right too, but reads every array of every group.
    """
    root = read_group(cube)
    if root is None:
        raise IntegrityError(f"{cube} has no {METADATA}")
    attributes = root["attributes"]
    if attributes.get(METADATA_DIGEST) != metadata_digest(attributes):
        # Writing them again would sign the damage.
        raise IntegrityError(f"the attributes of {cube} were changed", hint="run `geoae verify`")
    members = consolidated(cube, list(attributes["geoae_arrays"]))
    layers = layer_members(cube)
    members |= layers
    for kind in schema.LAYER_KINDS:
        if kind in layers and not (cube / kind).exists(METADATA):
            (cube / kind).put(METADATA, group_document({}))
    _sweep(cube)
    cube.put(METADATA, group_document(attributes, members))


def _sweep(cube: Location) -> None:
    """Remove what commits that were killed left half-written; arrays are their writers' business."""
    for place in (cube, *(cube / kind for kind in schema.LAYER_KINDS)) if cube.is_local else ():
        for name in filter(is_partial, place.names()):
            place.remove_file(name)


def layer_members(cube: Location) -> dict[str, Any]:
    """Collect the metadata of all committed layers for the root's consolidated metadata."""
    members: dict[str, Any] = {}
    for kind in schema.LAYER_KINDS:
        layers = {name: read_group(cube / kind / name) for name in cube.names(kind)}
        committed = {name: document for name, document in layers.items() if document is not None}
        if not committed:
            continue
        members[kind] = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        for name, document in committed.items():
            try:
                inside = document.pop("consolidated_metadata")["metadata"]
            except (KeyError, TypeError):
                raise IntegrityError(
                    f"{kind}/{name} of {cube} lacks its metadata", hint=f"geoae rm {kind}/{name}"
                ) from None
            members[f"{kind}/{name}"] = document
            members |= {f"{kind}/{name}/{array}": meta for array, meta in inside.items()}
    return members


def publish(cube: Location, layer: Location, document: bytes) -> None:
    """Make a layer visible that was written in its place. Hold the ``commit`` lock.

    Parameters
    ----------
    cube, layer
        The cube and the layer's place in it.
    document
        The ``zarr.json`` of the layer's group.
    """
    _intend(cube)
    layer.put(METADATA, document)
    _finish(cube)


def withdraw(cube: Location, layer: Location) -> None:
    """Take a layer away, first its name, then its data. Hold the ``commit`` lock."""
    path = layer.root.removeprefix(f"{cube.root}/")
    away = f"{work_folder(cube).name}/replaced/{path.replace('/', '_')}"
    _intend(cube, [(f"{cube.name}/{path}", away)])
    layer.remove_file(METADATA)
    _finish(cube)


def swap(cube: Location, moves: Sequence[tuple[str, str]]) -> None:
    """Replace folders by complete new ones. Hold the ``commit`` lock.

    What is to be done is written down first, so that after a crash `finish_swaps` ends it: the old
    folder or the new one is there, whole, and no data is lost in between.

    Parameters
    ----------
    cube
        The cube.
    moves
        Pairs of new folder and its place, relative to the folder that holds the cube.
    """
    _intend(cube, moves)
    _finish(cube)


def _intend(cube: Location, moves: Sequence[tuple[str, str]] = ()) -> None:
    """Write down that folders are to be moved and the root is to be consolidated after that."""
    work_folder(cube).put_json(_INTENT, [list(move) for move in moves])


def _finish(cube: Location) -> None:
    work = work_folder(cube)
    moves = work.get_json(_INTENT)
    if moves is None:
        return
    parent = Location(cube.fs, cube.root.rsplit("/", 1)[0])
    for fresh, target in moves:
        if not (parent / fresh).exists():
            continue  # moved before the crash
        trash = work / "replaced" / fresh.replace("/", "_")
        if (parent / target).exists():
            trash.remove()
            (parent / target).move_to(trash)
        (parent / fresh).move_to(parent / target)
    # A new cube comes with its own root; anything else changes the layers of this one.
    if all(target != cube.name for _, target in moves) and cube.exists(METADATA):
        consolidate_root(cube)
    work.remove_file(_INTENT)
    (work / "replaced").remove()
    for name in filter(is_partial, work.names()) if work.is_local else ():
        work.remove_file(name)  # a note of a commit that was killed while it wrote it


def finish_swaps(cube: Location) -> None:
    """End a commit that a crash has cut in two; wait for one that is under way."""
    work = work_folder(cube)
    if not work.exists(_INTENT):
        return
    try:
        with work.lock("commit", wait=True):
            _finish(cube)
    except LockedError:
        return  # on an object store nobody waits: its own run is ending it
