"""Ingestion: from a folder of rasters to a cube.

`ingest` plans from headers, hands runs of whole shards to Dask, verifies, and publishes the cube by one
last write. A run that was killed leaves no readable cube; the same command again finishes it, and the
bytes are those of a run that was not.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from geoae.assembly import Progress, assemble
from geoae.catalog import Catalog, load_catalog
from geoae.commits import LAYERS_LOCK, finish_swaps, swap
from geoae.cube import Cube
from geoae.errors import GeoaeError, IntegrityError, StoreExistsError, UsageError
from geoae.journal import PLAN, planned
from geoae.location import Location, is_partial, work_folder
from geoae.patches import Edge
from geoae.planning import IngestPlan, Selection, plan_ingest
from geoae.scene import choose_catalog
from geoae.store import METADATA, read_group

__all__ = ["COMPRESSED", "IngestReport", "ingest"]

COMPRESSED = 0.65
"""Usual size of compressed pixels, for the estimate of disk space."""


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did, or would do.

    Parameters
    ----------
    cube
        Path or URL of the store.
    cube_id
        Digest of the cube; None after a dry run.
    created
        False if an equal, complete cube was there.
    resumed
        Shards that an earlier, interrupted run had written.
    plan
        What was planned.
    bad
        Scenes that could not be used, with the reason.
    n_bytes, free_bytes
        Uncompressed bytes of all pixels, and room at the target (None if unknown).
    """

    cube: str
    plan: IngestPlan
    cube_id: str | None = None
    created: bool = False
    resumed: int = 0
    bad: Mapping[str, str] = field(default_factory=dict)
    n_bytes: int = 0
    free_bytes: int | None = None

    @property
    def partial(self) -> bool:
        """Whether scenes were skipped."""
        return bool(self.bad)


def ingest(
    folder: str | Path,
    *,
    catalog: Catalog | str | Path | None = None,
    pattern: str | None = None,
    out: str | Path | None = None,
    patch: int = 128,
    stride: int | None = None,
    edge: Edge = "drop",
    min_valid: float = 0.5,
    selection: Selection | None = None,
    resolution: float | None = None,
    mixed_resolution: bool = False,
    skip_bad: bool = False,
    follow_symlinks: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    announce: Callable[[IngestReport], None] | None = None,
) -> IngestReport:
    """Make a cube of patches from a folder of rasters.

    Parameters
    ----------
    folder
        Folder with the rasters, searched recursively.
    catalog
        A catalog, its name or its path; None for the shipped one that explains most scenes.
    pattern
        How file names are built, for the ``generic`` catalog: ``{scene}_{kind}.tif``.
    out
        Path or fsspec URL of the cube; ``<folder's name>.zarr`` in the working folder if None.
    patch, stride
        Side of a patch and step between patches in pixels of the reference grid.
    edge
        ``drop`` leaves out pixels that do not fill a patch, ``pad`` keeps them.
    min_valid
        Share of valid pixels, 0 to 1, below which later steps leave a patch out.
    selection
        Which scenes to take; all if None.
    resolution, mixed_resolution
        Resample all scenes to a pixel size in metres; accept pixel sizes that differ.
    skip_bad
        Keep scenes that cannot be read as void, with their status, instead of failing.
    follow_symlinks
        Follow symbolic links that lead out of the folder.
    workers
        Threads; all processors if None.
    scheduler
        Address of a Dask scheduler, such as ``tcp://host:8786``; None for the active one or threads.
    overwrite
        Replace a cube made by another plan.
    dry_run
        Plan and report only.
    progress, announce
        Called with progress, and with the plan before pixels are read.

    Returns
    -------
    IngestReport

    Raises
    ------
    InputError
        If files cannot be used.
    StoreExistsError
        If the target is something else.
    LockedError
        If another run is writing it, or a layer of the cube that is to be replaced.
    """
    chosen = _catalog(folder, catalog, pattern)
    cube = Location.of(out if out is not None else f"{Path(folder).resolve().name}.zarr")
    _refuse_overlap(Path(folder), cube)
    plan = plan_ingest(
        folder,
        chosen,
        patch=patch,
        stride=stride,
        edge=edge,
        min_valid=min_valid,
        selection=selection,
        resolution=resolution,
        mixed_resolution=mixed_resolution,
        skip_bad=skip_bad,
        follow_symlinks=follow_symlinks,
        progress=progress,
    )
    report = IngestReport(
        cube=str(cube),
        plan=plan,
        bad={h.scene.key: h.status for h in plan.scenes if h.status != "ok"},
        n_bytes=plan.n_bytes,
        free_bytes=_free_bytes(cube),
    )
    work = work_folder(cube)
    _state(cube, plan)  # refuses a foreign target before any work
    if dry_run:
        return report
    _writable(cube)
    if announce is not None:
        announce(report)
    with work.lock("ingest"):
        finish_swaps(cube)
        state = _state(cube, plan)
        if state == "equal" and not overwrite:
            return _finished(report, cube, created=False)
        if state in _OTHERS and not overwrite:
            raise StoreExistsError(
                f"{cube} is {_OTHERS[state]}",
                hint="--overwrite replaces it and its layers, --out names another place",
            )
        if state in ("other incomplete", "unknown incomplete"):
            cube.remove()
            (work / "ingest").remove()
        fresh, journal = cube, work / "ingest"
        if state in ("equal", "other"):
            # The old cube stays readable until the new one is complete.
            fresh, journal = work / "next.zarr", work / "next"
            with work.lock(LAYERS_LOCK):
                pass  # who writes a layer is noticed before the work, too
        _check_space(report, there=sum(fresh.find().values()))
        resumed = assemble(plan, fresh, journal, workers, scheduler, skip_bad=skip_bad, progress=progress)
        if fresh != cube:
            # What writes a layer of the old cube would go on in the new one.
            with work.lock(LAYERS_LOCK), work.lock("commit", wait=True):
                here = work.name
                swap(cube, [(f"{here}/next.zarr", cube.name), (f"{here}/next", f"{here}/ingest")])
        return _finished(report, cube, created=True, resumed=resumed)


def _catalog(folder: str | Path, catalog: Catalog | str | Path | None, pattern: str | None) -> Catalog:
    if isinstance(catalog, Catalog):
        return catalog
    if catalog is None and pattern is None:
        return choose_catalog(folder)
    return load_catalog(catalog if catalog is not None else "generic", pattern=pattern)


def _refuse_overlap(folder: Path, cube: Location) -> None:
    """Refuse a target that is, or holds, the source."""
    if not cube.is_local:
        return
    source, target = folder.resolve(), cube.path.resolve()
    if source == target or target in source.parents:
        raise UsageError(
            f"the cube {target.name} would replace the folder that it is made from",
            hint="choose another --out",
        )


def _writable(cube: Location) -> None:
    if cube.is_local and not cube.path.exists():
        try:
            cube.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GeoaeError(
                f"cannot write in {cube.path.parent}: {error.strerror}", hint="choose another --out"
            ) from None
    if cube.is_local:
        try:
            work_folder(cube).path.mkdir(exist_ok=True)
        except OSError as error:
            raise GeoaeError(
                f"cannot write in {cube.path.parent}: {error.strerror}", hint="choose another --out"
            ) from None


_OTHERS = {
    "other": "a cube of another plan",
    "other incomplete": "an incomplete cube of another plan",
    "unknown incomplete": "an incomplete cube whose plan was damaged",
}
"""What is replaced only with leave to."""


def _state(cube: Location, plan: IngestPlan) -> str:
    """Say what is at the target: absent, incomplete, equal, or one of `_OTHERS`.

    Raises
    ------
    StoreExistsError
        If it is not geoae's: a file, another Zarr store, a folder of somebody else.
    """
    foreign = StoreExistsError(
        f"{cube} exists and is not a geoae cube; it is never replaced", hint="choose another --out"
    )
    if cube.is_local and cube.path.exists() and not cube.path.is_dir():
        raise foreign
    work = work_folder(cube) / "ingest"
    begun = work.exists(PLAN)
    try:
        document = read_group(cube)
    except IntegrityError:
        if not begun:
            raise foreign from None
        document = None  # ours, and broken: the same command writes it again
    if document is not None:
        digest = document.get("attributes", {}).get("geoae_plan")
        if digest is None:
            raise foreign
        return "equal" if digest == plan.digest else "other"
    if not _only_arrays(cube) or (not begun and cube.names()):
        raise foreign
    if not begun:
        return "absent"
    known = planned(work)
    if known is None:
        return "unknown incomplete"
    return "incomplete" if known["digest"] == plan.digest else "other incomplete"


def _only_arrays(cube: Location) -> bool:
    """Say whether a folder holds nothing but Zarr arrays, begun, complete or half removed: it may go."""
    return all(
        name == METADATA
        or is_partial(name)
        or (cube / name).exists(METADATA)
        or (cube.is_folder(name) and all(map(_is_of_array, (cube / name).find())))
        for name in cube.names()
    )


def _is_of_array(name: str) -> bool:
    """Say whether a file in a folder without metadata may be an array's: to remove one takes a while.

    Examples
    --------
    >>> _is_of_array("c/0/12"), _is_of_array(".partial-3-zarr.json"), _is_of_array("c/notes.txt")
    (True, True, False)
    """
    first, *rest = name.split("/")
    return is_partial(name) or (first == "c" and all(part.isdecimal() or is_partial(part) for part in rest))


def _free_bytes(cube: Location) -> int | None:
    if not cube.is_local:
        return None
    place = cube.path
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _check_space(report: IngestReport, *, there: int) -> None:
    """Refuse what cannot fit, given the bytes of it that an earlier run has written already."""
    needed = int(report.n_bytes * COMPRESSED) - there
    if report.free_bytes is not None and needed > report.free_bytes:
        raise GeoaeError(
            f"the cube needs about {needed / 1e9:.1f} GB and {report.free_bytes / 1e9:.1f} GB are free",
            hint="choose another --out, or fewer scenes with --limit, --city or --scene",
        )


def _finished(report: IngestReport, cube: Location, *, created: bool, resumed: int = 0) -> IngestReport:
    opened = Cube.open(cube)
    return replace(report, cube_id=opened.cube_id, created=created, resumed=resumed, bad=opened.bad_scenes())
