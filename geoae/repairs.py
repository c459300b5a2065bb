"""Repair: make again what was damaged, from the sources, the journal and the records.

Equal plans give equal bytes, and layers say how they were made. So what is repaired is what was there
before, and its digests prove it.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoae import schema
from geoae.assembly import assemble
from geoae.clusters import cluster
from geoae.commits import consolidate_root
from geoae.cube import Cube, LayerInfo
from geoae.encoding import encode
from geoae.errors import GeoaeError, IntegrityError, UsageError
from geoae.journal import planned
from geoae.location import work_folder
from geoae.models import models_folder, read_spec
from geoae.planning import IngestPlan, Selection, plan_ingest
from geoae.projections import project
from geoae.splits import split
from geoae.store import METADATA, METADATA_DIGEST, group_document, metadata_digest, read_group
from geoae.summaries import summarize
from geoae.verification import VerifyReport, verify

__all__ = ["RepairReport", "repair"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RepairReport:
    """What a repair did.

    Parameters
    ----------
    before, after
        What verification found before and after; the same in a dry run.
    repaired
        What was made again: ``pixels``, ``metadata``, or the path of a layer.
    impossible
        What could not be, with the reason.
    """

    before: VerifyReport
    after: VerifyReport
    repaired: tuple[str, ...]
    impossible: tuple[str, ...]


def repair(
    cube: Cube | str,
    folder: str | Path | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> RepairReport:
    """Make again what verification finds damaged.

    Pixels need the folder that the cube was made from, unchanged: shards whose bytes are right stay,
    the others are read from the sources again. Layers are computed again by what their records say;
    attached layers and models that are gone cannot be.

    Parameters
    ----------
    cube
        The cube, or its path.
    folder
        Folder with the rasters; needed for pixels and tables of the root only.
    workers
        Threads; all processors if None.
    progress
        Called as ``progress(stage, done, total)``.
    dry_run
        Say what would be made again, write nothing. What is damaged behind damaged metadata is known only
        when that is repaired, so it may be less.

    Returns
    -------
    RepairReport

    Raises
    ------
    UsageError
        If pixels are damaged and no folder is given, or the folder no longer gives this cube.
    IntegrityError
        If the repaired bytes are not those that were written.
    """
    cube = Cube.open(cube)
    before = found = verify(cube, workers=workers, progress=progress)
    repaired: list[str] = []
    impossible: list[str] = []
    if not before.ok and _restore_metadata(cube, dry_run):
        repaired.append("metadata")
        found = found if dry_run else verify(cube, workers=workers, progress=progress)
    damaged = [finding for finding in found.findings if finding.kind == "damaged"]
    layers = set(_layers_of(found))
    impossible += [finding.what for finding in damaged if _of_model(finding.what)]
    if any(_of_root(finding.what) for finding in damaged):
        if not dry_run:
            _repair_pixels(cube, folder, workers, progress)
        elif folder is not None or not repaired:
            _plan_again(cube, _given(folder))
        repaired.append("pixels")
    for path in sorted(layers, key=lambda p: (schema.LAYER_KINDS.index(p.split("/")[0]), p)):
        try:
            _refuse_impossible(cube, info := _info(cube, path))
            if not dry_run:
                _make_again(cube, info)
            repaired.append(path)
        except GeoaeError as error:
            if dry_run and "metadata" in repaired:
                repaired.append(path)  # what it says is in the copy
            else:
                impossible.append(f"{path}: {error}")
    if dry_run:
        return RepairReport(before, before, tuple(repaired), tuple(impossible))
    if damaged:
        with work_folder(cube.location).lock("commit", wait=True):
            consolidate_root(cube.location)
    after = verify(cube, workers=workers, progress=progress)
    return RepairReport(before, after, tuple(repaired), tuple(impossible))


def _restore_metadata(cube: Cube, dry_run: bool) -> bool:
    """Write each ``zarr.json`` that differs from its copy in the root's consolidated metadata.

    Returns
    -------
    bool
        Whether one was written, or would be. Nothing is done if the root's own attributes were changed.
    """
    root = cube.location
    document = read_group(root) or {}
    if document["attributes"].get(METADATA_DIGEST) != metadata_digest(document["attributes"]):
        return False
    members: dict[str, Any] = document["consolidated_metadata"]["metadata"]
    written = False
    with nullcontext() if dry_run else work_folder(root).lock("commit", wait=True):
        for path, node in members.items():
            if node["node_type"] == "array":
                content = json.dumps(node, indent=2).encode()  # as zarr writes it
            elif "/" in path:
                inside = {
                    p.removeprefix(f"{path}/"): n for p, n in members.items() if p.startswith(f"{path}/")
                }
                content = group_document(node["attributes"], inside)
            else:
                content = group_document({})
            if (root / path).get(METADATA) != content:
                if not dry_run:
                    (root / path).put(METADATA, content)
                written = True
    return written


def _layers_of(report: VerifyReport) -> Iterator[str]:
    """Return the layers that are damaged."""
    for finding in report.findings:
        for word in finding.what.split() if finding.kind == "damaged" else ():
            parts = word.strip(":,").split("/")
            if parts[0] in schema.LAYER_KINDS and len(parts) > 1 and parts[1] != METADATA:
                yield "/".join(parts[:2])


def _of_model(what: str) -> bool:
    """Say whether a finding is about a model beside the cube; nobody can fit it again unasked."""
    return what.startswith("model ")


def _of_root(what: str) -> bool:
    """Say whether a finding is about the root's own arrays or attributes."""
    first = what.split()[0].strip(":,").split("/")[0]
    if _of_model(what):
        return False
    about_layers = any(word.strip(":,").split("/")[0] in schema.LAYER_KINDS for word in what.split())
    return not about_layers and "consolidated metadata" not in what and bool(first)


def _plan_again(cube: Cube, folder: str | Path) -> IngestPlan:
    """Plan the cube's own ingest once more.

    Raises
    ------
    UsageError
        If the folder gives another plan: files changed, came or went.
    """
    options = cube.options
    plan = plan_ingest(
        folder,
        cube.catalog,
        patch=cube.patch_size,
        stride=cube.stride,
        edge=options["edge"],
        min_valid=cube.min_valid,
        selection=Selection(scenes=_scenes_of(cube)),
        resolution=options["resolution"],
        mixed_resolution=True,
        skip_bad=True,
    )
    if plan.digest != cube.attrs["geoae_plan"]:
        raise UsageError(
            f"{folder} no longer gives this cube: its files, or geoae's ways, have changed",
            hint="ingest again with --overwrite; layers must be made again, too",
        )
    return plan


def _scenes_of(cube: Cube) -> tuple[str, ...]:
    """Return the scenes of a cube; from its plan, since the table may be what is damaged."""
    begun = planned(work_folder(cube.location) / "ingest")
    if begun is not None and begun["digest"] == cube.attrs["geoae_plan"]:
        return tuple(scene["key"] for scene in begun["plan"]["scenes"])
    try:
        return tuple(str(name) for name in cube.scenes()["scene_name"])
    except (GeoaeError, ValueError, OSError) as error:
        raise IntegrityError(
            f"the tables of {cube.location.name} are damaged, and its plan is gone: {error}",
            hint="ingest again with --overwrite",
        ) from None


def _given(folder: str | Path | None) -> str | Path:
    if folder is None:
        raise UsageError("pixels are damaged", hint="geoae repair --source FOLDER reads them again")
    return folder


def _repair_pixels(
    cube: Cube, folder: str | Path | None, workers: int | None, progress: Progress | None
) -> None:
    plan = _plan_again(cube, _given(folder))
    root, work = cube.location, work_folder(cube.location)
    begun = planned(work / "ingest")
    if begun is None or begun["digest"] != plan.digest:
        # Without a journal of this plan every shard is made again; the layers stay where they are.
        (work / "ingest").remove()
        work.put_json("ingest/plan.json", {"digest": plan.digest, "plan": plan.document})
    with work.lock("ingest"):
        assemble(plan, root, work / "ingest", workers, None, skip_bad=True, progress=progress)
    found = Cube.open(root)
    if found.cube_id != cube.cube_id:
        raise IntegrityError(
            f"{root} was made again and is not what it was: a file changed without changing its size",
            hint="ingest again with --overwrite",
        )


def _info(cube: Cube, path: str) -> LayerInfo:
    try:
        return cube.layer_info(path)
    except (IntegrityError, KeyError, ValueError) as error:
        raise IntegrityError(f"its record cannot be read ({error})", hint=f"geoae rm {path}") from None


def _refuse_impossible(cube: Cube, info: LayerInfo) -> None:
    """Refuse a layer that needs what is not there.

    Raises
    ------
    UsageError
        If it was attached from a file, its model is gone, or it is not geoae's.
    """
    options, maker = dict(info.record.options), info.record.made_by
    if maker == "attach":
        raise UsageError(
            f"it needs the file that it was attached from, {options['file']} ({options['sha256'][:19]})",
            hint=_attach_again(info.name, options),
        )
    if maker == "encode":
        _model_of(cube, options["model"])
    elif maker not in ("split", "summarize", "cluster", "project"):
        raise UsageError(f"{info.path} was made by {maker}, outside geoae's reach")


def _make_again(cube: Cube, info: LayerInfo) -> None:
    """Call the function that made a layer with the options of its record."""
    options: dict[str, Any] = dict(info.record.options)
    name = info.name
    source = next((p.split("/")[1] for p in info.record.inputs if p.startswith("latents/")), "")
    if info.record.made_by == "split":
        chosen = {k: options[k] for k in ("by", "fractions", "test", "seed")}
        split(cube, name=name, overwrite=True, **chosen)
    elif info.record.made_by == "summarize":
        table = None if options["table"] == "heights" else options["table"]
        summarize(
            cube,
            table=table,
            percentiles=options["percentiles"],
            min_valid=options["min_valid"],
            overwrite=True,
        )
    elif info.record.made_by == "cluster":
        chosen = {k: options[k] for k in ("k", "method", "whiten", "seed", "split")}
        cluster(cube, latents=source, name=name, overwrite=True, **chosen)
    elif info.record.made_by == "project":
        chosen = {k: options[k] for k in ("method", "components", "seed")}
        project(cube, latents=source, name=name, overwrite=True, **chosen)
    elif info.record.made_by == "encode":
        model = _model_of(cube, options["model"])
        encode(
            cube,
            model=model,
            name=name,
            min_valid=options["min_valid"],
            reconstructions=options.get("reconstructions", False),
            overwrite=True,
        )


def _attach_again(name: str, options: Mapping[str, Any]) -> str:
    """Return the command that attaches a file once more as it was attached."""
    words = ["geoae", "attach", options["file"], "--name", name]
    by = None if options["matched_by"] == "order" else options["matched_by"]
    said = {"--vector": options["vector"], "--by": by, "--origin": options["origin"]}
    words += [word for option, value in said.items() if value for word in (option, value)]
    return shlex.join([*words, "--overwrite"])


def _model_of(cube: Cube, digest: str) -> str:
    """Find the model of a digest beside the cube.

    Raises
    ------
    UsageError
        If there is none any more.
    """
    for folder in sorted(models_folder(cube).glob("*/model.json")):
        try:
            if read_spec(folder.parent)[1] == digest:
                return folder.parent.name
        except GeoaeError:
            continue
    raise UsageError("its model is gone or was changed", hint="encode again with --plugin and --overwrite")
