"""Verification: whether every byte of a cube is what was written, and every layer belongs."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from geoae import schema
from geoae.commits import layer_members
from geoae.cube import Cube
from geoae.errors import GeoaeError, IntegrityError, NotACubeError, UsageError
from geoae.journal import PLAN, journal_name, noted, planned
from geoae.location import Location, is_partial, work_folder
from geoae.models import list_models, models_folder, read_spec, unfinished_models
from geoae.provenance import digest_of
from geoae.store import (
    METADATA,
    METADATA_DIGEST,
    ArraySpec,
    array_digest,
    check_shards,
    consolidated,
    group_document,
    metadata_digest,
    open_array,
    read_group,
)

__all__ = ["Finding", "VerifyReport", "verify"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Parameters
    ----------
    kind
        ``damaged``: bytes are missing or differ; ``foreign``: a file that geoae did not write;
        ``stale``: a layer whose inputs have changed; ``unfinished``: work that was begun and never
        committed; ``journal``: what the ingest noted beside the cube was changed, which `repair` would
        have used. The first two are failures, the others are remarks.
    what
        Where and what.
    hint
        What mends it.
    """

    kind: Literal["damaged", "foreign", "stale", "unfinished", "journal"]
    what: str
    hint: str

    @property
    def failure(self) -> bool:
        """Whether the cube must not be trusted."""
        return self.kind in ("damaged", "foreign")


@dataclass(frozen=True)
class VerifyReport:
    """What was checked and found.

    Parameters
    ----------
    cube
        Path or URL.
    arrays, files, n_bytes
        How much of the cube was read.
    models
        Models beside the cube, whose files were compared with their manifests.
    findings
        Everything that is not as it should be.
    """

    cube: str
    arrays: int
    files: int
    n_bytes: int
    models: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no failure."""
        return not any(finding.failure for finding in self.findings)


_AGAIN = "`geoae repair --source FOLDER`, the folder of its rasters, or `geoae ingest` with --overwrite"
_MEND = "`geoae repair`"


def verify(
    cube: Cube | str, *, workers: int | None = None, progress: Callable[[str, int, int], None] | None = None
) -> VerifyReport:
    """Read and decode every byte of a cube and its layers and compare it with what was written.

    Parameters
    ----------
    cube
        The cube, or its path.
    workers
        Threads; all processors if None.
    progress
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    VerifyReport

    Raises
    ------
    NotACubeError, IncompleteError
        If there is no complete cube at all.
    """
    cube = _open(cube)
    root = cube.location
    arrays = [(name, root / name, _AGAIN) for name in cube.attrs["geoae_arrays"]]
    findings = _check_root(cube)
    expected: dict[str, str] = dict(cube.attrs["geoae_arrays"])
    unknown: list[str] = []  # layers of which nobody knows what belongs to them
    for path, document in _committed(root):
        hint = f"geoae repair; or make {path} again with --overwrite; or `geoae rm {path}`"
        problems = _check_layer(root / path, path, document, hint)
        findings += problems
        there: dict[str, str] = {} if problems else document["attributes"]["geoae_arrays"]
        unknown += [path] * bool(problems)
        arrays += [(f"{path}/{name}", root / path / name, hint) for name in there]
        expected |= {f"{path}/{name}": digest for name, digest in there.items()}
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(lambda item: _check_array(item[1], item[0], expected[item[0]], item[2]), arrays)
        for number, found in enumerate(results):
            findings += found
            if progress is not None:
                progress("verify", number + 1, len(arrays))
    files = root.find()
    findings += _foreign(root, files, [name for name, _, _ in arrays], unknown)
    findings += [
        Finding(
            "stale",
            f"{i.path} was made from another {', '.join(i.stale)}",
            f"`geoae {i.record.made_by}` with the options that `geoae ls` shows, and --overwrite",
        )
        for i in _layers(cube)
        if i.stale
    ]
    findings += _unfinished(root)
    findings += _check_journal(cube)
    models = list_models(cube)
    findings += _check_models(cube, models)
    return VerifyReport(
        str(root),
        len(arrays),
        len(files),
        sum(files.values()),
        len(models),
        tuple(dict.fromkeys(findings)),
    )


def _open(path: Cube | str) -> Cube:
    """Open a cube; one whose own signature is broken is damaged, not of another kind.

    Raises
    ------
    IntegrityError
        If the root was changed so that it no longer looks like a cube.
    """
    try:
        return Cube.open(path)
    except NotACubeError:
        location = path.location if isinstance(path, Cube) else Location.of(path)
        document = read_group(location) or {}
        attributes = document.get("attributes")
        signed = isinstance(attributes, dict) and attributes.get(METADATA_DIGEST) == metadata_digest(
            attributes
        )
        if document and not signed and b"geoae" in (location.get(METADATA) or b""):
            raise IntegrityError(f"{location}/{METADATA} was changed", hint=_AGAIN) from None
        raise


def _layers(cube: Cube) -> tuple[Any, ...]:
    try:
        return cube.layers()
    except (GeoaeError, KeyError, ValueError):
        return ()  # already reported as damaged


def _committed(root: Location) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in schema.LAYER_KINDS:
        for name in root.names(kind):
            try:
                document = read_group(root / kind / name)
            except IntegrityError:
                document = {}
            if document is None:
                continue
            if not isinstance(document.get("attributes"), dict):
                document = {"attributes": {}}
            yield f"{kind}/{name}", document


def _check_root(cube: Cube) -> list[Finding]:
    """Compare the root's ``zarr.json`` with what it is made of, byte by byte."""
    root, attributes, what = cube.location, cube.attrs, "the root"
    arrays = attributes["geoae_arrays"]
    findings = []
    if attributes.get(METADATA_DIGEST) != metadata_digest(attributes):
        findings.append(Finding("damaged", f"the attributes of {what} were changed", _AGAIN))
    if attributes["geoae_cube"] != digest_of({"plan": attributes["geoae_plan"], "arrays": arrays}):
        findings.append(Finding("damaged", f"the identity of {what} does not fit its arrays", _AGAIN))
    try:
        members = consolidated(root, list(arrays)) | layer_members(root)
        right = group_document(attributes, members)
    except (IntegrityError, KeyError, TypeError) as error:
        return [*findings, Finding("damaged", f"{what}: {error}", _AGAIN)]
    if root.get(METADATA) != right:
        findings.append(
            Finding("damaged", f"the consolidated metadata of {what} differs from its arrays", _MEND)
        )
    for kind in schema.LAYER_KINDS:
        document = (root / kind).get(METADATA)
        if document is None and kind in members:
            findings.append(Finding("damaged", f"{kind}/{METADATA} is missing", _MEND))
        elif document not in (None, group_document({})):
            findings.append(Finding("damaged", f"{kind}/{METADATA} was changed", _MEND))
    return findings


def _check_layer(place: Location, path: str, document: dict[str, Any], hint: str) -> list[Finding]:
    attributes = document["attributes"]
    if attributes.get(METADATA_DIGEST) != metadata_digest(attributes):
        return [Finding("damaged", f"the attributes of {path} were changed", hint)]
    try:
        right = group_document(attributes, consolidated(place, list(attributes["geoae_arrays"])))
    except (IntegrityError, KeyError) as error:
        return [Finding("damaged", f"{path}: {error}", hint)]
    if place.get(METADATA) != right:
        return [Finding("damaged", f"{path}/{METADATA} differs from its arrays", hint)]
    return []


def _check_journal(cube: Cube) -> list[Finding]:
    """Compare the plan and the journal of the ingest with their digests; who deleted them wants none."""
    work = work_folder(cube.location) / "ingest"
    hint = f"remove {work}: nothing but `geoae repair` reads it, which then reads all pixels again"
    changed = []
    plan = planned(work)
    if work.exists(PLAN) and (plan is None or plan["digest"] != cube.attrs["geoae_plan"]):
        changed.append(PLAN)
    journal = work / "journal"
    for name in journal.names():
        digits = name.removesuffix(".json")
        entry = noted(journal, int(digits)) if digits.isdecimal() else None
        if not is_partial(name) and (entry is None or journal_name(entry["shard"]) != name):
            changed.append(f"journal/{name}")
    return [Finding("journal", f"{name} of {work} was changed", hint) for name in changed]


def _check_models(cube: Cube, names: tuple[str, ...]) -> list[Finding]:
    """Compare the models beside a cube with their manifests."""
    findings = []
    for name in names:
        try:
            read_spec(models_folder(cube) / name)
        except GeoaeError as error:
            findings.append(Finding("damaged", error.message, error.hint or "fit it again with --overwrite"))
    for folder in sorted(models_folder(cube).glob("[!.]*/")):
        if folder.name not in names and any(folder.iterdir()):
            lost = f"model {folder.name}: its model.json is missing"
            findings.append(Finding("damaged", lost, "fit it again with --overwrite"))
    findings += [
        Finding("unfinished", f"model {name} was begun and not finished", "run its command again")
        for name in unfinished_models(cube)
    ]
    return findings


def _spec_of(document: dict[str, Any]) -> ArraySpec:
    chunk = document["chunk_grid"]["configuration"]["chunk_shape"]
    shape, dims = tuple(document["shape"]), tuple(document.get("dimension_names", ()))
    return ArraySpec(shape, dims, "", shard=chunk[0] if chunk else None)


def _check_array(place: Location, name: str, digest: str, hint: str) -> list[Finding]:
    """Decode every chunk of an array and compare its files with their digest."""
    try:
        document = place.get_json(METADATA)
        if document is None:
            return [Finding("damaged", f"{name}/{METADATA} is missing", hint)]
        spec = _spec_of(document)
        findings = [
            Finding("foreign" if "does not belong" in problem else "damaged", _full(name, problem), hint)
            for problem in check_shards(place, spec)
        ]
        array = open_array(place)
    except UsageError:
        raise  # of zarr's settings, not of the cube
    except Exception as error:  # noqa: BLE001 (damaged metadata fails in as many ways as there are parsers)
        return [Finding("damaged", f"{name}/{METADATA} cannot be read: {_line(error)}", hint)]
    step = spec.shard or 1
    for number in range(spec.n_shards):
        try:
            array[number * step : (number + 1) * step] if array.ndim else array[()]
        except Exception as error:  # noqa: BLE001 (each codec raises its own)
            findings.append(Finding("damaged", f"{name}, shard {number}: {_line(error)}", hint))
    if not findings and array_digest(place)[0] != digest:
        findings.append(Finding("damaged", f"{name} is not what was written", hint))
    return findings


def _full(name: str, problem: str) -> str:
    """Put an array's whole path before a problem that starts with its last part."""
    return f"{name}/{problem.split('/', 1)[1]}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _foreign(root: Location, files: dict[str, int], arrays: list[str], unknown: list[str]) -> list[Finding]:
    """Report files in no array and no group; `unknown` layers may hold anything."""
    groups = {METADATA} | {f"{kind}/{METADATA}" for kind in schema.LAYER_KINDS}
    prefixes = {f"{name}/" for name in arrays}
    layers = {name.rsplit("/", 1)[0] for name in arrays if "/" in name}
    groups |= {f"{layer}/{METADATA}" for layer in layers}
    pending = tuple(f"{path}/" for path in [*_begun(root), *unknown])
    strange = [
        name
        for name in files
        if name not in groups
        and not name.startswith(pending)
        and not any(name.startswith(p) for p in _heads(name, prefixes))
    ]
    return [
        Finding(
            "unfinished", f"{name} was left by a run that was killed", "the next `geoae split` removes it"
        )
        if is_partial(name)
        else Finding("foreign", f"{name} does not belong to the cube", "move it out of the store")
        for name in strange
    ]


def _heads(name: str, prefixes: set[str]) -> Iterator[str]:
    """Return the prefixes of a name that are in a set."""
    parts = name.split("/")
    for n in range(1, min(len(parts), 4)):
        head = "/".join(parts[:n]) + "/"
        if head in prefixes:
            yield head


def _begun(root: Location) -> list[str]:
    """Return the layers that were begun and not committed."""
    work = work_folder(root) / "layers"
    return [
        f"{kind}/{name}"
        for kind in work.names()
        for name in work.names(kind)
        if (work / kind / name).exists("begun.json")
    ]


def _unfinished(root: Location) -> list[Finding]:
    hint = "run its command again; it resumes"
    findings = [Finding("unfinished", f"{path} was begun and not finished", hint) for path in _begun(root)]
    if work_folder(root).exists("next/plan.json"):
        findings.append(Finding("unfinished", "a replacement of the cube was begun and not finished", hint))
    return findings
