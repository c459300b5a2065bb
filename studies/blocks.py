"""``python -m studies.blocks``: networks beside PCA on blocks of a photograph that no training crop touches.

Autzen's photograph is cut at steps of half a patch. Some blocks of 512 x 512 pixels are held out: errors are
of the patches that tile them, and all patches that touch none of them train. No weights are chosen by the
held-out patches: networks are as their last step leaves them. Trainings that are complete are not made again.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geoae.batches import CubePatches, fit_normalisation, parse_input
from geoae.calls import fit_encoder
from geoae.cli.memory import keep_freed_memory
from geoae.cube import Cube
from geoae.encoder import FitContext
from geoae.ingestion import ingest
from geoae.location import Location
from geoae.registry import load_encoder, parse_options
from geoae.store import METADATA
from geoae.sweeps.sections import Sections
from geoae.sweeps.statistics import paired_interval
from geoae.sweeps.trials import errors_of
from studies.place import ROOT, realdata

__all__ = ["NETWORKS", "held_out", "read_blocks", "table"]

PATCH, STEP, BLOCK = 128, 64, 512
HELD_OUT = 9
"""Blocks; 16 patches tile one."""

PCA = "pca"

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "principal": {},
    "residual": {"learning_rate": 2e-3},
    "thesis-a8": {},
}
"""Presets and options: as the encoder has them, and at the rate that each was found to learn best with."""


def held_out(
    corner: npt.NDArray[np.int64], shape: tuple[int, int], seed: int = 0
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Divide patches by the blocks that they touch.

    Parameters
    ----------
    corner
        ``(n, 2)``: first row and column of each patch in pixels.
    shape
        Rows and columns of the picture.
    seed
        Of the choice among its whole blocks.

    Returns
    -------
    tuple of numpy.ndarray
        ``(n,)`` whether a patch touches no held-out block; ``(n,)`` the held-out block that it is a tile of,
        -1 if of none.

    Examples
    --------
    Of four blocks one is held out, here the last; a patch across its border is of neither kind.

    >>> train, block = held_out(np.array([[0, 0], [512, 448], [512, 512], [640, 576]]), (1024, 1024), seed=2)
    >>> train, block
    (array([ True, False, False, False]), array([-1, -1,  3, -1]))
    """
    rows, columns = shape[0] // BLOCK, shape[1] // BLOCK
    chosen = np.random.default_rng(seed).permutation(rows * columns)[: min(HELD_OUT, rows * columns // 4)]
    train, block = np.ones(len(corner), bool), np.full(len(corner), -1, np.int64)
    for number in chosen.tolist():
        low = np.array(divmod(number, columns)) * BLOCK
        touches = ((corner > low - PATCH) & (corner < low + BLOCK)).all(axis=1)
        inside = ((corner >= low) & (corner <= low + BLOCK - PATCH)).all(axis=1)
        train &= ~touches
        block[inside & (corner % PATCH == 0).all(axis=1)] = number
    return train, block


def read_blocks(cube: Cube) -> tuple[Sections, Sections]:
    """Read training and held-out patches of a cube with one scene, red, green and blue from 0 to 1."""
    channels = parse_input(cube, "rgb")
    table = cube.table()
    corner = table[["row", "col"]].to_numpy(np.int64) * STEP
    train, block = held_out(corner, cube.grid(0).shape)
    norm = fit_normalisation(cube, channels, np.flatnonzero(train), "unit")
    parts = []
    for chosen in (train, block >= 0):
        rows = np.flatnonzero(chosen)
        batches = [*CubePatches(cube, channels, norm, rows=rows).batches(256)]
        image, valid = (np.concatenate([getattr(b, name) for b in batches]) for name in ("image", "valid"))
        nothing = np.full(len(rows), np.nan)
        parts.append(Sections(channels, image, valid, rows, block[rows], nothing))
    return parts[0], parts[1]


def run(book: Path, train: Sections, tested: Sections, trials: Sequence[tuple[str, int, int, int]]) -> None:
    """Make the trainings that have no line in the book yet.

    Parameters
    ----------
    book
        A file with a line of JSON for each training.
    train, tested
        See `read_blocks`.
    trials
        Network, or ``pca``; latent size; steps; seed.
    """
    done = {tuple(line["trial"]) for line in lines_of(book)}
    for trial in trials:
        if trial in done:
            continue
        name, latent, steps, seed = trial
        options: dict[str, Any] = {"latent_dim": latent, "seed": seed}
        if name != PCA:
            options |= {"preset": name, "steps": steps, **NETWORKS.get(name, {})}
        plugin = PCA if name == PCA else "vae"
        kind = load_encoder(plugin)
        computed = time.process_time()
        encoder, _ = fit_encoder(kind, parse_options(kind, options), train, FitContext(), plugin)
        computed = time.process_time() - computed
        _, absolute, squared = errors_of(encoder, tested)
        line = {
            "trial": trial,
            "processor_seconds": computed,
            "mae": absolute.tolist(),
            "mse": squared.tolist(),
            "block": tested.group.tolist(),
        }
        with book.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(trial, f"MAE {absolute.mean():.5f}, {computed:.0f} s", file=sys.stderr, flush=True)


def lines_of(book: Path) -> list[dict[str, Any]]:
    """Read the trainings that were made."""
    return [json.loads(line) for line in book.read_text().splitlines()] if book.exists() else []


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Write a Markdown table: a row for each latent size and network, over its seeds, beside PCA.

    Differences are shares of PCA's error, with intervals of a bootstrap over blocks.
    """
    heads = ("latent size", "network", "seeds", "MAE", "MSE", "MAE to PCA's", "MSE to PCA's", "processor s")
    rows = [heads, ("---:", "---", *["---:"] * 6)]
    found: dict[tuple[int, str, int], list[Mapping[str, Any]]] = {}
    for line in lines:
        name, latent, steps, _ = line["trial"]
        found.setdefault((latent, name, steps), []).append(line)
    for (latent, name, steps), seeds in sorted(found.items()):
        errors, shares = [], []
        for measure, digits in (("mae", 4), ("mse", 5)):
            each = np.array([line[measure] for line in seeds])
            means = each.mean(axis=1)
            spread = f" ± {means.std(ddof=1):.{digits + 1}f}" if len(means) > 1 else ""
            errors.append(f"{means.mean():.{digits}f}{spread}".replace("0.", "."))
            beside = found.get((latent, PCA, 0))
            if name == PCA or beside is None:
                shares.append("")
                continue
            other = np.array(beside[0][measure])
            block = np.array(beside[0]["block"])
            share = paired_interval((each.mean(axis=0) - other) / other.mean(), block)
            shares.append("{:+.1%} [{:+.1%}, {:+.1%}]".format(*share).replace("%", " %"))
        title = "PCA" if name == PCA else f"`{name}`, {steps:,} steps"
        took = f"{np.mean([line['processor_seconds'] for line in seeds]):.0f}"
        rows.append((f"{latent}", title, f"{len(seeds)}", *errors, *shares, took))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: list[str] | None = None) -> int:
    """Run it and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m studies.blocks", description=__doc__)
    parser.add_argument("--latent-dims", default="64,256", help="latent sizes (default 64,256)")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="presets")
    parser.add_argument("--seeds", default="0,1,2", help="seeds (default 0,1,2)")
    parser.add_argument("--steps", type=int, default=2200, help="of each training (default 2200)")
    parser.add_argument("--folder", type=Path, default=Path("study"), help="where it works (default study)")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    path, book = options.folder / "autzen-blocks.zarr", options.folder / "autzen-blocks.jsonl"
    if not Location.of(path).exists(METADATA):
        scenes = realdata() / "autzen"
        if not scenes.is_dir():
            print(
                f"error: {scenes} is not there; GEOAE_REALDATA names the folder of real rasters",
                file=sys.stderr,
            )
            return 2
        options.folder.mkdir(parents=True, exist_ok=True)
        catalog = ROOT / "tests" / "catalogs" / "autzen.yaml"
        ingest(scenes, catalog=str(catalog), out=path, patch=PATCH, stride=STEP)
    train, tested = read_blocks(Cube.open(path))
    print(f"{len(train)} training patches, {len(tested)} held out", file=sys.stderr, flush=True)
    sizes, seeds = ([int(n) for n in text.split(",") if n] for text in (options.latent_dims, options.seeds))
    names = options.networks.split(",")
    trials = [(PCA, n, 0, 0) for n in sizes]
    trials += [(name, n, options.steps, seed) for seed in seeds for n in sizes for name in names]
    run(book, train, tested, trials)
    print(table(lines_of(book)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
