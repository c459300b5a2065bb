"""The sweep over latent sizes: how short a vector a patch can be made of again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from geoae.cube import Cube
from geoae.errors import UsageError
from geoae.fitting import Progress
from geoae.plots.curves import Panel, Series, plot_curves
from geoae.sweeps.networks import BESIDE, baseline_rows
from geoae.sweeps.running import Data, begin
from geoae.sweeps.sections import cut_sections
from geoae.sweeps.statistics import knee
from geoae.sweeps.tables import Column, SweepReport, against, judged
from geoae.sweeps.trials import Examine, Trial, mean_colour

__all__ = ["LATENT_DIMS", "sweep_latent"]

LATENT_DIMS = (8, 16, 32, 50, 64, 128, 256, 512, 1024)
"""Powers of two, and the sizes of the thesis's code: 1024, 128 and 50."""

COLUMNS = (
    Column("latent", "latent_dim"),
    Column("seeds", "seeds"),
    Column("parameters", "parameters"),
    Column("MAE", "mae"),
    Column("MSE", "mse"),
    Column("PCA: MAE", "pca_mae"),
    Column("PCA: MSE", "pca_mse"),
    Column("MAE less that of PCA", "mae_difference"),
    Column("MSE less that of PCA", "mse_difference"),
    Column("KL, nats", "kl"),
    Column("participation ratio", "participation_ratio"),
    Column("s", "seconds"),
)

KNEE = (
    "The knee is the point farthest below the straight line from the first to the last point, on axes from 0 "
    "to 1 of which the one of sizes is logarithmic."
)


def sweep_latent(
    cube: Cube | str,
    *,
    plugin: str = "vae",
    options: Mapping[str, Any] | None = None,
    latent_dims: Sequence[int] = LATENT_DIMS,
    seeds: Sequence[int] = (0, 1, 2),
    data: Data | None = None,
    size: int | None = None,
    name: str = "latent",
    overwrite: bool = False,
    progress: Progress | None = None,
    examine: Examine | None = None,
) -> SweepReport:
    """Train one network at several latent sizes, and draw its errors beside those of PCA.

    Parameters
    ----------
    cube
        The cube, or its path.
    plugin, options
        The encoder and its options, such as the preset.
    latent_dims
        Latent sizes.
    seeds
        Each size is trained once with each.
    data
        What is read; 3,000 training and 200 validation sections if None.
    size
        Side of the sections in pixels; the cube's patches if None.
    name
        Name of the sweep.
    overwrite
        Replace a sweep of that name that was made otherwise.
    progress, examine
        See `geoae.sweeps.trials.run_trial`.

    Returns
    -------
    SweepReport
        The note of the knee is among its notes.

    Raises
    ------
    UsageError
        If an option or a size is wrong.
    StoreExistsError
        If a sweep of that name shares something else.
    """
    wanted = sorted(set(latent_dims))
    if not wanted or wanted[0] < 1 or not seeds:
        raise UsageError("a sweep over latent sizes needs sizes of 1 or more, and a seed")
    if "latent_dim" in (options or {}):
        raise UsageError("the sweep chooses the latent size itself", hint="--latent-dims 1024,128,50")
    trials = [
        Trial(plugin, {**(options or {}), "latent_dim": dim, "seed": seed}, {"latent": dim, "seed": seed})
        for dim in wanted
        for seed in seeds
    ]
    settings = {"size": size}
    data = data or Data()
    with begin(
        cube, "latent", name, data, settings, overwrite=overwrite, progress=progress, examine=examine
    ) as sweep:
        train, validation, notes = cut_sections(
            sweep.cube, sweep.channels, split=data.split, size=size, counts=(data.patches, data.validation)
        )
        for text in notes:
            sweep.note(text)
        rows = sweep.rows(trials, train, validation, ["latent"])
        beside = baseline_rows(sweep, train, validation, [row["latent_dim"] for row in rows])
        for row in rows:
            other = beside[row["latent_dim"]]
            row |= against(row, other, validation.group) | against(row, other, validation.group, "mse")
            row |= {f"{BESIDE}_{measure}": other[measure] for measure in ("mae", "mse")}
        dims = np.array([row["latent_dim"] for row in rows], float)
        found = knee(dims, np.array([row["mse"] for row in rows]))
        text = "no knee" if found is None else f"knee of the squared error at {dims[found]:g} numbers"
        sweep.note(f"{text} (of {', '.join(f'{d:g}' for d in dims)}). {KNEE}")
        what = str((options or {}).get("preset", plugin))
        colour = mean_colour(validation)
        figure = _figure(rows, what, colour, None if found is None else float(dims[found]))
        head = (
            f"# Latent sizes of {what} ({plugin})\n\n{len(train)} training and {len(validation)} validation "
            f"sections of {train.patch_shape[0]} x {train.patch_shape[1]} pixels. The mean colour of a "
            f"section alone has MAE {colour['mae']:.4f} and MSE {colour['mse']:.5f}."
        )
        return sweep.report(rows, COLUMNS, head, judged(len(np.unique(validation.group))), figure)


def _figure(
    rows: Sequence[Mapping[str, Any]], what: str, colour: Mapping[str, Any], mark: float | None
) -> Figure:
    dims = [row["latent_dim"] for row in rows]
    panels = []
    for measure, title in (("mae", "mean absolute error"), ("mse", "mean squared error")):
        spread = [row.get(f"{measure}_sd", 0.0) for row in rows]
        series = [
            Series(what, dims, [row[measure] for row in rows], spread if any(spread) else ()),
            Series("PCA", dims, [row[f"{BESIDE}_{measure}"] for row in rows]),
        ]
        panels.append(
            Panel(
                x_label="numbers in the latent vector",
                y_label=title,
                series=series,
                level=("mean colour", colour[measure]),
                mark=("knee", mark) if measure == "mse" and mark is not None else None,
                ticks=dims,
            )
        )
    return plot_curves(panels)
