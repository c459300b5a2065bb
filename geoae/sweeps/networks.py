"""The sweep over networks: every network of a protocol, trained in the same way on the same sections."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from geoae.cube import Cube
from geoae.errors import UsageError
from geoae.fitting import Progress
from geoae.plots.curves import plot_distributions
from geoae.sweeps.protocols import find_protocol
from geoae.sweeps.running import Data, Sweep, begin
from geoae.sweeps.sections import Sections, cut_sections
from geoae.sweeps.tables import Column, SweepReport, against, judged
from geoae.sweeps.trials import Examine, Trial, mean_colour

__all__ = ["BESIDE", "baseline_rows", "sweep_networks"]

BESIDE = "pca"
"""The encoder that networks stand beside, at the same latent size and with the same training sections."""

QUICK = 48
"""Sections of a quick sweep."""

COLUMNS = (
    Column("network", "network"),
    Column("parameters", "parameters"),
    Column("latent", "latent_dim"),
    Column("seeds", "seeds"),
    Column("MAE", "mae"),
    Column("MSE", "mse"),
    Column("loss", "loss"),
    Column("KL, nats", "kl"),
    Column("active units", "active_units"),
    Column("participation ratio", "participation_ratio"),
    Column("s", "seconds"),
    Column("patches/s", "patches_per_second"),
    Column("MAE less that of PCA", "mae_difference"),
)


def sweep_networks(
    cube: Cube | str,
    *,
    plugin: str = "vae",
    protocol: str = "thesis",
    networks: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    data: Data | None = None,
    size: int | None = None,
    options: Mapping[str, Any] | None = None,
    quick: bool = False,
    name: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    examine: Examine | None = None,
) -> SweepReport:
    """Train all networks of a protocol on the same sections, and write their figures beside those of PCA.

    Parameters
    ----------
    cube
        The cube, or its path.
    plugin
        An encoder of the package whose protocols are meant.
    protocol
        Name of the protocol.
    networks
        Some of its networks; all if None.
    seeds
        Each network is trained once with each.
    data
        What is read; None for the protocol's numbers of sections.
    size
        Side of the sections in pixels; the cube's patches if None.
    options
        Replace options of the protocol, such as ``epochs``.
    quick
        A small size for tests: few sections, few epochs, one seed.
    name
        Name of the sweep; ``networks-<protocol>`` if None.
    overwrite
        Replace a sweep of that name that was made otherwise.
    progress, examine
        See `geoae.sweeps.trials.run_trial`.

    Returns
    -------
    SweepReport
        Trainings that are in the sweep's ledger already are not made again.

    Raises
    ------
    UsageError
        If protocol, networks or options are wrong, or no network fits the sections.
    StoreExistsError
        If a sweep of that name shares something else.
    """
    plan = find_protocol(plugin, protocol)
    if data is None:
        data = Data(patches=plan.patches, validation=plan.validation)
    changed = dict(options or {})
    if quick:
        data = replace(data, patches=min(data.patches, QUICK), validation=min(data.validation, QUICK))
        changed, seeds = {**plan.quick, **changed}, seeds[:1]
    known = [trial.network for trial in plan.trials]
    wrong = [network for network in networks or () if network not in known]
    if wrong or not seeds:
        what = f"protocol {protocol} has no network {wrong[0]!r}" if wrong else "no seed was named"
        raise UsageError(what, hint=f"its networks: {', '.join(known)}")
    trials = [
        Trial(
            trial.plugin, {**trial.options, **changed, "seed": seed}, {"network": trial.network, "seed": seed}
        )
        for trial in plan.trials
        if networks is None or trial.network in networks
        for seed in seeds
    ]
    settings = {"protocol": protocol, "size": size}
    with begin(
        cube,
        "networks",
        name or f"networks-{protocol}",
        data,
        settings,
        overwrite=overwrite,
        progress=progress,
        examine=examine,
    ) as sweep:
        train, validation, notes = cut_sections(
            sweep.cube,
            sweep.channels,
            split=data.split,
            size=size,
            counts=(data.patches, data.validation),
        )
        for text in notes:
            sweep.note(text)
        rows = sweep.rows(trials, train, validation, ["network"])
        beside = baseline_rows(sweep, train, validation, [row["latent_dim"] for row in rows])
        for row in rows:
            if (other := beside.get(row["latent_dim"])) is not None:
                row |= against(row, other, validation.group)
                row |= against(row, other, validation.group, "mse")
                row |= {f"{BESIDE}_{measure}": other[measure] for measure in ("mae", "mse")}
        colour = {"network": "mean colour", **mean_colour(validation)}
        table = [*rows, *_distinct(beside.values()), colour]
        side = train.patch_shape[0]
        groups = len(np.unique(validation.group))
        figure = plot_distributions(
            {f"{row['network']}": row["patch_mae"] for row in table},
            label="mean absolute error of a section, channels scaled to 0..1",
        )
        head = (
            f"# Networks: {plan.title}\n\n{len(train)} training and {len(validation)} validation sections of "
            f"{side} x {side} pixels, {', '.join(map(str, sweep.channels))}."
        )
        return sweep.report(table, COLUMNS, head, judged(groups), figure)


def baseline_rows(
    sweep: Sweep,
    train: Sections,
    validation: Sections,
    latent_dims: Sequence[int],
    labels: Mapping[str, Any] | None = None,
) -> dict[int, dict[str, Any]]:
    """Fit PCA at some latent sizes; returns its rows by the size that was asked for.

    Where there are fewer sections than components, PCA has fewer components. `labels` tell other sections
    apart, where a sweep has several.
    """
    most = min(len(train) - 1, int(np.prod(train.image.shape[1:])))
    rows: dict[int, dict[str, Any]] = {}
    for size in sorted({min(size, most) for size in latent_dims}):
        trial = Trial(BESIDE, {"latent_dim": size}, {"network": f"{BESIDE} {size}", **(labels or {})})
        rows[size] = sweep.rows([trial], train, validation, ["network"])[0]
    for size in latent_dims:
        if size > most:
            sweep.note(f"{BESIDE}: {len(train)} training sections span no more than {most} components")
    return {size: rows[min(size, most)] for size in latent_dims}


def _distinct(rows: Any) -> list[dict[str, Any]]:
    return list({row["network"]: row for row in rows}.values())
