"""Commands that look at cubes: info, ls, rm, verify, doctor."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from geoae.cli.options import CubeArgument, CubeOption, DryRun, Json, Quiet, emit, find_cube, note, size
from geoae.cli.progress import progress
from geoae.errors import IntegrityError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(info)
    app.command(name="ls")(list_layers)
    app.command(name="rm")(remove)
    app.command()(verify)
    app.command()(repair)
    app.command()(diff)
    app.command()(doctor)


def info(path: CubeArgument = None, cube: CubeOption = None, json: Json = False) -> None:
    """Say what a cube holds: scenes, cities, modalities, patches, validity, layers."""
    from geoae.cube import Cube  # put off

    opened = Cube.open(find_cube(path or cube))
    document = _describe(opened)
    emit(document, as_json=json, text=_info_text(document))


def _describe(cube: Any) -> dict[str, Any]:
    import numpy as np  # put off

    from geoae.models import list_models  # put off
    from geoae.store import stored_bytes  # put off

    # Not from the cube's tables: to make them for 178,112 patches takes as long as all this.
    fractions = dict(zip(cube.modalities, cube.values("valid_fraction").T, strict=True))
    modalities = {}
    for name, fraction in fractions.items():
        modalities[name] = {
            "role": cube.role(name),
            "bands": list(cube.bands(name)),
            "dtype": str(cube.array(name).dtype),
            "valid_fraction": float(fraction.mean(dtype=np.float64)),
            "patches_without": int((fraction == 0).sum()),
            "patches_usable": int(((fraction >= cube.min_valid) & (fraction > 0)).sum()),
        }
    cities, tiles = cube.values("scene_city"), cube.values("scene_tile")
    patches = np.bincount(cube.values("scene_number"), minlength=len(cities)).tolist()
    in_tile: Counter[tuple[str, str]] = Counter()
    for city, tile, number in zip(cities, tiles, patches, strict=True):
        in_tile[city, tile] += number
    in_city: Counter[str] = Counter()
    for (city, _), number in in_tile.items():
        in_city[city or "-"] += number
    sizes = np.stack([cube.values("pixel_size_x"), cube.values("pixel_size_y")])
    sizes = sizes[:, np.isfinite(sizes).all(axis=0)]
    return {
        "cube": cube.path,
        "cube_id": cube.cube_id,
        "catalog": cube.catalog.name,
        "title": cube.catalog.title,
        "bytes": stored_bytes(cube.location) if cube.location.is_local else None,
        "patches": cube.n_patches,
        "options": dict(cube.options),
        "scenes": len(cities),
        "bad_scenes": cube.bad_scenes(),
        "cities": {city: number for city, number in sorted(in_city.items()) if number},
        "tiles": sum(number > 0 for number in in_tile.values()),
        "crs": {_crs_name(c): n for c, n in Counter(cube.values("scene_crs")).most_common()},
        "pixel_size_m": [float(sizes.min()), float(sizes.max())] if sizes.size else None,
        "modalities": modalities,
        "layers": [_layer(i) for i in cube.layers()],
        "models": list(list_models(cube)),
    }


def _crs_name(wkt: str) -> str:
    """Name a CRS by its authority, else by its title."""
    import pyproj

    if not wkt:
        return "none"
    crs = pyproj.CRS.from_user_input(wkt)
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else crs.name


def _layer(info: Any) -> dict[str, Any]:
    return {
        "path": info.path,
        "made_by": info.record.made_by,
        "options": dict(info.record.options),
        "inputs": dict(info.record.inputs),
        "counts": dict(info.record.counts),
        "digest": info.digest,
        "stale": list(info.stale),
    }


def _info_text(d: dict[str, Any]) -> str:
    o = d["options"]
    step = "" if o["stride"] == o["patch"] else f" every {o['stride']}"
    disk = "" if d["bytes"] is None else f", {size(d['bytes'])} on disk"
    lines = [
        f"{d['cube']}  ({d['cube_id'][:19]})",
        f"  catalog     {d['catalog']}: {d['title']}",
        f"  patches     {d['patches']} of {o['patch']} x {o['patch']} pixels{step}{disk}",
        f"  scenes      {d['scenes']} of {d['tiles']} tiles; patches by city: "
        + ", ".join(f"{city} {n}" for city, n in d["cities"].items()),
        "  CRS         " + ", ".join(f"{name} ({n} scenes)" for name, n in d["crs"].items()),
    ]
    if d["pixel_size_m"]:
        low, high = d["pixel_size_m"]
        lines.append(f"  pixel size  {low:.4g} m" + (f" to {high:.4g} m" if high > low * 1.0001 else ""))
    else:
        lines.append("  pixel size  unknown without a CRS")
    for name, m in d["modalities"].items():
        units = {"height": ", m", "image": f", {len(m['bands'])} bands"}.get(m["role"], "")
        lines.append(
            f"  {name:11} {m['role']}, {m['dtype']}{units}, {m['valid_fraction']:.1%} valid; "
            f"{m['patches_usable']} patches by at least {o['min_valid']:.0%}"
            + f", {m['patches_without']} not at all"
            * bool(m["patches_without"])
        )
    lines += [f"  unusable    {name}: {why}" for name, why in d["bad_scenes"].items()]
    lines += [
        f"  layer       {x['path']:24} {_counts(x)}"
        + (f"  STALE: {', '.join(x['stale'])} changed" if x["stale"] else "")
        for x in d["layers"]
    ]
    lines += [f"  model       {name}" for name in d["models"]]
    return "\n".join(line.rstrip() for line in lines)


def _counts(layer: dict[str, Any]) -> str:
    return ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in layer["counts"].items() if n)


def list_layers(path: CubeArgument = None, cube: CubeOption = None, json: Json = False) -> None:
    """List the layers of a cube and what each was made from."""
    from geoae.cube import Cube  # put off

    layers = [_layer(i) for i in Cube.open(find_cube(path or cube)).layers()]
    rows = []
    for x in layers:
        sources = ", ".join(name for name in x["inputs"] if name != "cube") or "the cube"
        options = " ".join(f"{k}={_short(v)}" for k, v in x["options"].items() if v not in (None, [], {}))
        stale = f"  STALE: {', '.join(x['stale'])} changed" if x["stale"] else ""
        rows.append(f"{x['path']:24} {x['made_by']} from {sources}  {options}{stale}")
    emit(layers, as_json=json, text="\n".join(rows) or "no layers yet")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{k}:{_short(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ",".join(_short(v) for v in value)
    text = str(value)
    return text[:15] if text.startswith("sha256:") else text


def remove(
    layer: Annotated[str, typer.Argument(help="Layer to remove, such as clusters/pca.")],
    cube: CubeOption = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove a layer. What was made from it becomes stale."""
    from geoae.cube import Cube  # put off
    from geoae.layers import dependants, remove_layer  # put off

    opened = Cube.open(find_cube(cube))
    try:
        stale = [info.path for info in dependants(opened, layer)]
    except IntegrityError:
        stale = []  # a damaged layer is a reason to remove it
    remove_layer(opened, layer, dry_run=dry_run)
    for path in stale:
        verb = "would be" if dry_run else "is"
        note(f"note: {path} was made from it and {verb} stale now", quiet=quiet)
    text = f"{layer} would be removed; nothing was written" if dry_run else layer
    emit({"removed": layer, "stale": stale, "dry_run": dry_run}, as_json=json, text=text)


def verify(
    path: CubeArgument = None,
    cube: CubeOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; all processors by default.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Read and decode every byte of a cube and compare it with what was written."""
    from geoae.verification import verify as run  # put off

    with progress(quiet or json) as report:
        result = run(
            find_cube(path or cube),
            workers=workers,
            progress=lambda stage, done, total: report(stage, done, total, {}),
        )
    lines = [f"{f.kind}: {f.what}\n  try: {f.hint}" for f in result.findings]
    read = f"{result.arrays} arrays in {result.files} files, {size(result.n_bytes)}"
    read += f", {result.models} model{'s' * (result.models > 1)}" * bool(result.models)
    lines.append(f"{result.cube}: {read} " + ("verified" if result.ok else "NOT as written"))
    document = {**vars(result), "ok": result.ok, "findings": [vars(f) for f in result.findings]}
    emit(document, as_json=json, text="\n".join(lines))
    return 0 if result.ok else 5


def repair(
    path: CubeArgument = None,
    cube: CubeOption = None,
    source: Annotated[
        Path | None, typer.Option("--source", help="Folder that the cube was made from; for pixels.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; all processors by default.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Make again what verify finds damaged: pixels from the source folder, layers by their records."""
    from geoae.repairs import repair as run  # put off

    with progress(quiet or json) as report:
        result = run(
            find_cube(path or cube),
            source,
            workers=workers,
            progress=lambda stage, done, total: report(stage, done, total, {}),
            dry_run=dry_run,
        )
    verb = "would be repaired" if dry_run else "repaired"
    lines = [f"{verb}: {', '.join(result.repaired)}"] if result.repaired else []
    lines += [f"not repaired: {text}" for text in result.impossible]
    lines += [f"{f.kind}: {f.what}\n  try: {f.hint}" for f in result.after.findings]
    lines.append(f"{result.after.cube}: " + ("as written" if result.after.ok else "NOT as written"))
    lines[-1] += "; nothing was written" if dry_run else ""
    document = {
        "dry_run": dry_run,
        "repaired": result.repaired,
        "impossible": result.impossible,
        "ok": result.after.ok,
        "before": [vars(f) for f in result.before.findings],
        "after": [vars(f) for f in result.after.findings],
    }
    emit(document, as_json=json, text="\n".join(lines))
    foreign = any(finding.kind == "foreign" for finding in result.after.findings)
    expected = not result.impossible and not foreign
    return 0 if (expected if dry_run else result.after.ok) else 5


def diff(
    first: Annotated[str, typer.Argument(help="A cube.")],
    second: Annotated[str, typer.Argument(help="Another cube.")],
    json: Json = False,
) -> int:
    """Say what differs between two cubes and their layers. Exit code 1 if anything does."""
    from geoae.comparison import diff as run  # put off

    result = run(first, second)
    patches = {name: [[r.start, r.stop] for r in ranges] for name, ranges in result.patches.items()}
    emit(
        {**vars(result), "patches": patches, "equal": result.equal},
        as_json=json,
        text="\n".join(result.lines) or "no difference",
    )
    return 0 if result.equal else 1


def doctor(json: Json = False) -> int:
    """Say what is installed, what is missing and how to get it.

    Ends with 1 if something is missing that geoae does not work without.
    """
    from geoae.doctor import examine  # put off

    checks = examine()
    rows = [
        f"{'ok' if c.ok else '--':3} {c.name:18} {c.found}" + (f"  ({c.hint})" if c.hint else "")
        for c in checks
    ]
    emit([vars(c) for c in checks], as_json=json, text="\n".join(rows))
    return 0 if all(c.ok for c in checks if c.required) else 1
