"""Claim C8: whether a fully convolutional code keeps distant parts of a picture apart."""

from dataclasses import replace
from typing import Any

import numpy as np

from geoae.encoder import Encoder
from geoae.sweeps.sections import Sections
from geoae.sweeps.statistics import paired_interval
from geoae.sweeps.tables import Column, as_markdown
from geoae.sweeps.trials import Trial
from studies.place import Finding, Place, judged, spread

__all__ = ["locality", "perturbed", "spilled"]

SIDE = 64
"""Pixels: the sections of the report that made the claim."""


def perturbed(sections: Sections) -> Sections:
    """Put the first quarter of another section, in height and in width, into the first corner."""
    image = sections.image.copy()
    quarter = image.shape[2] // 4
    other = np.roll(sections.image, 1, axis=0)
    image[:, :, :quarter, :quarter] = other[:, :, :quarter, :quarter]
    return replace(sections, image=image)


def spilled(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Measure how much a picture changes in its far half, against its change in the corner.

    Parameters
    ----------
    before, after
        ``(n, channel, y, x)``: pictures of sections, and of the same with another first corner.

    Returns
    -------
    numpy.ndarray
        ``(n,)``: mean change beyond half of the height and of the width, divided by the mean change in the
        first quarter of both.

    Examples
    --------
    >>> before, after = np.zeros((2, 1, 1, 8, 8))
    >>> after[:, :, :2, :2], after[:, :, 4:, 4:] = 1.0, 0.25
    >>> spilled(before, after)
    array([0.25])
    """
    change = np.abs(after - before)
    side = change.shape[2]
    far = change[:, :, side // 2 :, side // 2 :].mean(axis=(1, 2, 3))
    near = change[:, :, : side // 4, : side // 4].mean(axis=(1, 2, 3))
    return np.asarray(far / np.maximum(near, 1e-12))


def _examine(encoder: Encoder, validation: Sections) -> dict[str, Any]:
    pictures = [
        np.concatenate([encoder.reconstruct(encoder.transform(b)) for b in some.batches(64)])
        for some in (validation, perturbed(validation))
    ]
    return {"spilled": [round(float(v), 5) for v in spilled(*pictures)]}


def locality(place: Place) -> Finding:
    """Compare how far a change in one corner reaches through a fully convolutional and a dense code."""
    train, validation, notes = place.sections(SIDE)
    shared = {"loss": "mse", "steps": place.size.steps}
    kinds = {
        "report-fcae": {"preset": "report-fcae", **shared},
        "report-net1": {"preset": "report-net1", "latent_dim": 4096, **shared},
    }
    trials = [
        Trial("conv-ae", {**options, "seed": seed}, {"network": network, "seed": seed})
        for network, options in kinds.items()
        for seed in range(place.size.seeds)
    ]
    trials.append(Trial("pca", {"latent_dim": min(1024, len(train) - 1)}, {"network": "PCA"}))
    rows, more, lines = place.rows("c8-locality", trials, train, validation, ["network"], _examine)
    values = {
        row["network"]: np.array([x["spilled"] for x in lines if x["network"] == row["network"]])
        for row in rows
    }
    for row in rows:
        row["reach"] = spread(np.median(values[row["network"]], axis=1).tolist())
    difference, low, high = paired_interval(
        values["report-fcae"].mean(axis=0) - values["report-net1"].mean(axis=0), validation.group
    )
    columns = [
        Column("network", "network"),
        Column("code", "latent_dim"),
        Column("parameters", "parameters"),
        Column("MSE", "mse"),
        Column("change far away / in the corner, median", "reach"),
    ]
    finding = Finding(
        part="c8-locality",
        data=place.data,
        title="Claim C8: does a fully convolutional code keep distant regions apart?",
        claim="The project report: a fully convolutional code does not fuse distant regions.",
        verdict=place.guarded(judged(low, high), rows, validation),
        sentence=(
            "One corner of each section is replaced. The change in the opposite quarter, divided by that in "
            f"the corner, is {difference:+.3f} [{low:+.3f}, {high:+.3f}] in the fully convolutional network "
            "compared with the dense code of equal length."
        ),
        table=as_markdown(rows, columns),
        notes=(*notes, *more),
        command=place.command("c8-locality"),
    )
    return place.keep(finding)
