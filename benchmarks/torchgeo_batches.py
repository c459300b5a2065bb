"""Shuffled batches of geoae beside those of torchgeo's random sampler, from the same files.

torchgeo is no dependency of geoae and gets an environment of its own::

    python -m venv bench/torchgeo
    bench/torchgeo/bin/python -m pip install -c constraints.txt torch torchvision
    bench/torchgeo/bin/python -m pip install -c constraints.txt torchgeo -e .
    bench/torchgeo/bin/python -m benchmarks.torchgeo_batches

torchgeo finds files by their place on the map, so each scene gets a place of its own, side by side. Each
side reads an epoch of patches in batches of 128, of 8 bands, as float32: torchgeo 128 x 128 pixels anywhere
in a scene, geoae the patches of its cube in random order, normalised and with masks. Each runs in one
process of its own, imports and opening not counted; geoae's ingest, which torchgeo does not need, is
measured beside them.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Work, cores, measure, thread_settings
from benchmarks.scenes import write_scenes

BATCH, SIDE = 128, 128
SIDES = ("ingest", "geoae", "torchgeo")


def place_scenes(source: Path, target: Path) -> None:
    """Copy the 8-band images and give each a place on the map."""
    import rasterio
    from rasterio.transform import from_origin

    if target.exists():
        return
    target.mkdir()
    for number, path in enumerate(sorted(source.glob("*_MSI.tif"))):
        (target / path.name).write_bytes(path.read_bytes())
        with rasterio.open(target / path.name, "r+") as file:
            row, col = divmod(number, 8)
            file.crs = "EPSG:32617"
            file.transform = from_origin(430_000 + 1_000 * col, 3_360_000 - 1_000 * row, 0.3, 0.3)


def ingesting(folder: Path, cube: Path) -> Work:
    """Make the cube that geoae reads."""
    from geoae.ingestion import ingest

    def work() -> dict[str, float]:
        return {"patches": ingest(folder, out=cube, patch=SIDE, overwrite=True).plan.patches.n_patches}

    return work


def from_cube(cube: Path) -> Work:
    """Read one shuffled epoch with geoae."""
    from geoae.batches import CubePatches, fit_normalisation, parse_input, usable_rows
    from geoae.cube import Cube

    opened = Cube.open(cube)
    channels = parse_input(opened, "msi")
    rows = usable_rows(opened, channels)
    source = CubePatches(opened, channels, fit_normalisation(opened, channels, rows, "unit"), rows=rows)
    return lambda: {"patches": sum(len(batch) for batch in source.batches(BATCH, shuffle_seed=1))}


def from_files(folder: Path, patches: int) -> Work:
    """Read as many random patches with torchgeo."""
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import RandomGeoSampler, Units

    class Images(RasterDataset):  # type: ignore[misc, unused-ignore]
        filename_glob = "*_MSI.tif"

    images = Images(folder)
    sampler = RandomGeoSampler(images, size=SIDE, length=patches, units=Units.PIXELS)
    loader = DataLoader(images, batch_size=BATCH, sampler=sampler, collate_fn=stack_samples)

    def work() -> dict[str, float]:
        seen = 0
        for batch in loader:
            shape = tuple(batch["image"].shape[1:])
            if shape != (8, SIDE, SIDE):
                raise RuntimeError(f"torchgeo gave patches of {shape}")
            seen += len(batch["image"])
        return {"patches": seen}

    return work


def main() -> None:
    """Measure all sides in turn; print a line of JSON for each, then the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench"), help="where data is kept")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    source = options.folder / f"us3d-{options.scenes}x{options.size}"
    placed = source.with_name(source.name + "-placed")
    cube = placed.with_name(placed.name + ".zarr")
    patches = options.scenes * (options.size // SIDE) ** 2
    if options.side is not None:
        works = {
            "ingest": lambda: ingesting(placed, cube),
            "geoae": lambda: from_cube(cube),
            "torchgeo": lambda: from_files(placed, patches),
        }
        found_here = measure(works[options.side]())
        print(json.dumps({"side": options.side, **asdict(found_here), **found_here.notes}))
        return
    write_scenes(source, options.scenes, options.size)
    place_scenes(source, placed)
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for repeat in range(options.repeats):
        for side in SIDES if repeat == 0 else SIDES[1:]:
            command = [sys.executable, "-m", "benchmarks.torchgeo_batches", "--side", side]
            command += ["--folder", str(options.folder), "--scenes", str(options.scenes)]
            command += ["--size", str(options.size)]
            environment = {**os.environ, **thread_settings()}
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if done.returncode:
                sys.exit(done.stderr)
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(found[side][-1]), flush=True)
    rate = {side: {w: median(r["patches"] / r[w] for r in runs) for w in ("seconds", "cpu")}
            for side, runs in found.items()}  # fmt: skip
    print(f"{cores()} cores; patches a second: geoae {rate['geoae']['seconds']:,.0f}, "
          f"torchgeo {rate['torchgeo']['seconds']:,.0f}, ratio "
          f"{rate['geoae']['seconds'] / rate['torchgeo']['seconds']:.1f}; by processor time "
          f"{rate['geoae']['cpu'] / rate['torchgeo']['cpu']:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
