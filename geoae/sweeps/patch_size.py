"""The sweep over patch sizes: how pure sections of a size are, and how well they are made again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from geoae.cube import Cube
from geoae.errors import UsageError
from geoae.fitting import Progress
from geoae.plots.curves import Panel, Series, plot_curves
from geoae.sweeps.networks import BESIDE, baseline_rows
from geoae.sweeps.running import Data, Sweep, begin
from geoae.sweeps.sections import Sections, cut_sections, resized
from geoae.sweeps.tables import Column, SweepReport, against
from geoae.sweeps.trials import Trial, mean_colour

__all__ = ["sweep_patch_size"]

COLUMNS = (
    Column("section", "section"),
    Column("sections trained on", "training"),
    Column("seeds", "seeds"),
    Column("purity", "purity"),
    Column("pure sections", "pure"),
    Column("MAE", "mae"),
    Column("MSE", "mse"),
    Column("share of variance left", "unexplained"),
    Column("PCA: MAE", "pca_mae"),
    Column("mean colour: MAE", "colour_mae"),
    Column("MAE less that of PCA", "mae_difference"),
    Column("s", "seconds"),
)

PURE = 0.9
"""Share of one class from which on a section is called pure."""


def sweep_patch_size(
    cube: Cube | str,
    *,
    plugin: str = "vae",
    options: Mapping[str, Any] | None = None,
    sizes: Sequence[int] | None = None,
    resize: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    data: Data | None = None,
    name: str = "patch-size",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SweepReport:
    """Train one network on sections of several sizes, and measure how pure the sections are.

    Parameters
    ----------
    cube
        The cube, or its path; its patches are as large as the largest section.
    plugin, options
        The encoder and its options. The network is built anew for each size.
    sizes
        Sides of the sections in pixels; the patch's side and its halves down to 32 if None.
    resize
        Also make larger sections this small before training, which must divide them.
    seeds
        Each size is trained once with each.
    data
        What is read; 3,000 training and 200 validation sections if None.
    name
        Name of the sweep.
    overwrite
        Replace a sweep of that name that was made otherwise.
    progress
        Called as ``progress(stage, done, total, values)``.

    Returns
    -------
    SweepReport

    Raises
    ------
    UsageError
        If a size is larger than a patch of the cube, or no multiple of `resize`.
    StoreExistsError
        If a sweep of that name shares something else.
    """
    cube = Cube.open(cube)
    data = data or Data()
    chosen = sorted(set(_halves(cube.patch_size) if sizes is None else sizes))
    if not chosen or chosen[0] < 1 or not seeds:
        raise UsageError("a sweep over patch sizes needs sizes of 1 or more, and a seed")
    with begin(cube, "patch-size", name, data, {}, overwrite=overwrite, progress=progress) as sweep:
        rows: list[dict[str, Any]] = []
        for size in chosen:
            train, validation, notes = cut_sections(
                cube, sweep.channels, split=data.split, size=size, counts=(data.patches, data.validation)
            )
            for text in notes:
                sweep.note(f"{size} pixels: {text}")
            rows += _row(sweep, plugin, options or {}, seeds, train, validation, None)
            if resize is not None and size > resize:
                small = resized(train, resize), resized(validation, resize)
                rows += _row(sweep, plugin, options or {}, seeds, *small, size)
        if not rows:
            raise UsageError("no size could be trained on")
        what = str((options or {}).get("preset", plugin))
        head = (
            f"# Patch sizes with {what} ({plugin})\n\nPurity is the share of the most frequent class of a "
            f"section; pure sections have {PURE:.0%} or more. The share of variance left is the squared "
            "error divided by that of the mean colour."
        )
        foot = (
            "± is the deviation over seeds. Errors of sections that were made smaller are of fewer, smoother "
            "pixels: compare them with PCA and with the mean colour of the same row."
        )
        return sweep.report(rows, COLUMNS, head, foot, _figure(rows, what))


def _halves(patch: int) -> list[int]:
    """Return a patch's side and its halves, down to 32.

    Examples
    --------
    >>> _halves(256), _halves(16)
    ([256, 128, 64, 32], [16])
    """
    sizes = [patch]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= 32:
        sizes.append(sizes[-1] // 2)
    return sizes


def _row(
    sweep: Sweep,
    plugin: str,
    options: Mapping[str, Any],
    seeds: Sequence[int],
    train: Sections,
    validation: Sections,
    shrunk_from: int | None,
) -> list[dict[str, Any]]:
    side = train.patch_shape[0]
    labels = {"size": shrunk_from or side, "pixels": side}
    trials = [
        Trial(plugin, {**options, "seed": seed}, {**labels, "patch_size": side, "seed": seed})
        for seed in seeds
    ]
    try:
        rows = sweep.rows(trials, train, validation, ["size", "pixels"])
    except UsageError as error:
        if "does not fit" not in error.message and side == sweep.cube.patch_size:
            raise
        return []  # a network that takes some sizes only; the note says so
    other = _beside(sweep, train, validation, rows[0]["latent_dim"], labels)
    colour = mean_colour(validation)
    known = validation.purity[np.isfinite(validation.purity)]
    for row in rows:
        row["section"] = f"{shrunk_from}, made {side}" if shrunk_from else str(side)
        row["training"] = len(train)
        row["purity"] = float(known.mean()) if len(known) else None
        row["pure"] = float((known >= PURE).mean()) if len(known) else None
        row["colour_mae"] = colour["mae"]
        row["unexplained"] = row["mse"] / colour["mse"] if colour["mse"] else None
        row |= {f"{BESIDE}_{m}": other[m] for m in ("mae", "mse")}
        row |= against(row, other, validation.group)
    return rows


def _beside(
    sweep: Sweep, train: Sections, validation: Sections, latent_dim: int, labels: Mapping[str, Any]
) -> dict[str, Any]:
    """Fit PCA on the same sections; its line names their size."""
    return baseline_rows(sweep, train, validation, [latent_dim], labels)[latent_dim]


def _figure(rows: Sequence[Mapping[str, Any]], what: str) -> Figure:
    whole = [row for row in rows if "made" not in row["section"]]
    small = [row for row in rows if "made" in row["section"]]
    sizes = [row["size"] for row in whole]
    left = []
    if all(row["purity"] is not None for row in whole):
        curves = [
            Series("mean purity", sizes, [row["purity"] for row in whole]),
            Series(f"share of sections of {PURE:.0%} purity", sizes, [row["pure"] for row in whole]),
        ]
        left = [Panel("side of a section, pixels", "share", curves, ticks=sizes)]
    errors = [
        Series(what, sizes, [row["mae"] for row in whole], [row.get("mae_sd", 0.0) for row in whole]),
        Series("PCA", sizes, [row["pca_mae"] for row in whole]),
        Series("mean colour", sizes, [row["colour_mae"] for row in whole]),
    ]
    if small:
        places = [row["size"] for row in small]
        errors.append(Series(f"{what}, made smaller", places, [row["mae"] for row in small]))
    right = Panel("side of a section, pixels", "mean absolute error", errors, ticks=sizes)
    return plot_curves([*left, right])
