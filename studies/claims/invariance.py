"""Claim C2: pooling and small changes, activations and the speed of learning, sizes of a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from geoae.encoder import Encoder
from geoae.plots.curves import Panel, Series, plot_curves
from geoae.sweeps.sections import Sections
from geoae.sweeps.statistics import paired_interval
from geoae.sweeps.tables import Column, as_markdown
from geoae.sweeps.trials import Trial
from studies.place import Finding, Place, judged, spread

__all__ = ["activations", "batch_sizes", "shifted", "shifts"]

SHIFTS = (1, 2, 4, 8)
MARGIN = 8
LATENT = 64

NAMES = {"thesis-a8": "A8, strides", "thesis-a14": "A14, maximum pooling"}


def shifted(sections: Sections, margin: int, y: int, x: int) -> Sections:
    """Cut sections out of wider ones, moved by some pixels.

    Parameters
    ----------
    sections
        Wider by `margin` pixels on each side.
    margin
        In pixels.
    y, x
        How far the cut is moved, at most `margin`.
    """
    side = sections.patch_shape[0] - 2 * margin
    window = np.s_[:, :, margin + y : margin + y + side, margin + x : margin + x + side]
    return replace(sections, image=sections.image[window], valid=sections.valid[window])


def _latents(encoder: Encoder, sections: Sections) -> np.ndarray[Any, Any]:
    return np.concatenate([encoder.transform(batch) for batch in sections.batches(64)])


def _moved(encoder: Encoder, wide: Sections) -> dict[str, Any]:
    """Measure how far latent vectors move when the picture does, against their distance from each other."""
    centre = _latents(encoder, shifted(wide, MARGIN, 0, 0))
    apart = np.linalg.norm(centre - np.roll(centre, len(centre) // 2, axis=0), axis=1).mean()
    found = {}
    for shift in SHIFTS:
        moves = [
            np.linalg.norm(_latents(encoder, shifted(wide, MARGIN, y, x)) - centre, axis=1)
            for y, x in ((shift, 0), (-shift, 0), (0, shift), (0, -shift))
        ]
        found[f"moved_{shift}"] = [round(float(v), 5) for v in np.mean(moves, axis=0) / apart]
    return found


def shifts(place: Place) -> Finding:
    """Compare how much the latent vectors of A8 and of A14 change when the picture is shifted."""
    side = place.size.side
    train, _, notes = place.sections(side)
    _, wide, _ = place.sections(side + 2 * MARGIN)
    validation = shifted(wide, MARGIN, 0, 0)
    trials = [
        Trial(
            "conv-ae",
            {"preset": network, "latent_dim": LATENT, "steps": place.size.steps, "seed": seed},
            {"network": network, "seed": seed},
        )
        for network in NAMES
        for seed in range(place.size.seeds)
    ]
    rows, more, lines = place.rows(
        "c2-shift", trials, train, validation, ["network"], lambda encoder, _: _moved(encoder, wide)
    )
    table, curves = [], []
    moved: dict[str, np.ndarray[Any, Any]] = {}
    for row in rows:
        own = [line for line in lines if line["network"] == row["network"]]
        values = {s: np.array([line[f"moved_{s}"] for line in own]) for s in SHIFTS}
        moved[row["network"]] = values[4].mean(axis=0)
        means = {f"shift_{s}": spread(v.mean(axis=1).tolist()) for s, v in values.items()}
        table.append({**row, **means, "network": NAMES[row["network"]]})
        over = [v.mean(axis=1) for v in values.values()]
        curves.append(
            Series(NAMES[row["network"]], SHIFTS, [v.mean() for v in over], [v.std() for v in over])
        )
    difference, low, high = paired_interval(moved["thesis-a14"] - moved["thesis-a8"], validation.group)
    columns = [Column("network", "network"), Column("MAE", "mae"), Column("s", "seconds")]
    columns += [Column(f"{s} pixels", f"shift_{s}") for s in SHIFTS]
    verdict = place.guarded(judged(low, high), rows, validation)
    figure = plot_curves([Panel("shift, pixels", "movement of the latent vector", curves, ticks=SHIFTS)])
    finding = Finding(
        part="c2-shift",
        data=place.data,
        title="Claim C2: does pooling tolerate small changes?",
        claim="The thesis: pooling increases the tolerance to small changes.",
        verdict=verdict,
        sentence=(
            "A latent vector's movement is divided by the mean distance between those of different sections. "
            f"At a shift of 4 pixels A14 moves {difference:+.3f} [{low:+.3f}, {high:+.3f}] compared with A8."
        ),
        table=as_markdown(table, columns),
        notes=(*notes, *more),
        command=place.command("c2-shift"),
    )
    return place.keep(finding, figure)


def _curves(lines: Sequence[Mapping[str, Any]], name: str) -> dict[Any, np.ndarray[Any, Any]]:
    """Return learning curves by label, ``(seed, evaluation)``."""
    labels = list(dict.fromkeys(line[name] for line in lines))
    return {label: np.array([line["curve"] for line in lines if line[name] == label]) for label in labels}


def _learned(
    place: Place, part: str, name: str, options: Mapping[Any, Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[Any, np.ndarray[Any, Any]], tuple[str, ...]]:
    train, validation, notes = place.sections()
    epochs = max(place.size.steps * 32 // len(train), 2)
    trials = [
        Trial(
            "conv-ae",
            {"preset": "thesis-a8", "latent_dim": LATENT, "epochs": epochs, "seed": seed, **chosen},
            {name: label, "seed": seed},
        )
        for label, chosen in options.items()
        for seed in range(place.size.seeds)
    ]
    rows, more, lines = place.rows(part, trials, train, validation, [name])
    return rows, _curves(lines, name), (*notes, *more)


def activations(place: Place) -> Finding:
    """Compare how fast A8 learns with SELU, ReLU and leaky ReLU."""
    names = {"selu": "SELU", "relu": "ReLU", "leaky-relu": "leaky ReLU"}
    options = {shown: {"activation": key} for key, shown in names.items()}
    rows, curves, notes = _learned(place, "c2-activations", "activation", options)
    # The mean of a curve says how fast it falls, whatever the scale of its end.
    area = {name: values.mean(axis=1) for name, values in curves.items()}
    for row in rows:
        row["area"] = spread(area[row["activation"]].tolist())
        row["first"] = spread(curves[row["activation"]][:, 0].tolist())
    ahead = {n: (area["SELU"] - area[n]).tolist() for n in area if n != "SELU"}
    signs = [value < 0 for values in ahead.values() for value in values]
    verdict = "confirmed" if all(signs) else "refuted" if not any(signs) else "not decided"
    verdict = place.guarded(verdict, rows, place.sections()[1])
    columns = [
        Column("activation", "activation"),
        Column("MAE after the first epoch", "first"),
        Column("mean of the curve", "area"),
        Column("MAE at the end", "mae"),
        Column("s", "seconds"),
    ]
    return _kept(
        place, "c2-activations", "Claim C2: does SELU learn faster?",
        "The thesis: SELU leads to faster learning than ReLU or leaky ReLU.", verdict,
        f"The mean of SELU's learning curve is below the other's in {sum(signs)} of {len(signs)} pairs of "
        "equal seed.", as_markdown(rows, columns), notes, curves,
    )  # fmt: skip


def batch_sizes(place: Place) -> Finding:
    """Compare batches of 128 and 256 sections over equally many epochs."""
    options = {f"batch of {n}": {"batch_size": n} for n in (32, 128, 256)}
    rows, curves, notes = _learned(place, "c2-batch", "batch", options)
    columns = [Column("batch", "batch"), Column("MAE", "mae"), Column("MSE", "mse"), Column("s", "seconds")]
    by = {row["batch"]: row for row in rows}
    one, two = by["batch of 128"], by["batch of 256"]
    train, validation, _ = place.sections()
    del train
    difference, low, high = paired_interval(
        np.array(two["patch_mae"]) - np.array(one["patch_mae"]), validation.group
    )
    return _kept(
        place, "c2-batch", "Claim C2: batches of 128 and 256",
        "The thesis used 128 and 256.", "",
        f"After equally many epochs a batch of 256 has an absolute error {difference:+.4f} "
        f"[{low:+.4f}, {high:+.4f}] compared with one of 128: it makes half as many steps.",
        as_markdown(rows, columns), notes, curves,
    )  # fmt: skip


def _kept(
    place: Place,
    part: str,
    title: str,
    claim: str,
    verdict: str,
    sentence: str,
    table: str,
    notes: tuple[str, ...],
    curves: Mapping[Any, np.ndarray[Any, Any]],
) -> Finding:
    series = [
        Series(str(n), list(range(1, v.shape[1] + 1)), v.mean(axis=0).tolist(), v.std(axis=0).tolist())
        for n, v in curves.items()
    ]
    panel = Panel("epoch", "validation MAE", series, log_x=False)
    finding = Finding(part, place.data, title, claim, verdict, sentence, table, notes, place.command(part))
    return place.keep(finding, plot_curves([panel]))
