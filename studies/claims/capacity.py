"""Claim C6: what an autoencoder costs beside a dense one, and how much data it needs."""

import numpy as np

from geoae.plots.curves import Panel, Series, plot_curves
from geoae.sweeps.statistics import paired_interval
from geoae.sweeps.tables import Column, as_markdown
from geoae.sweeps.trials import Trial, mean_colour
from studies.place import Finding, Place, judged
from studies.sizes import NETWORK

__all__ = ["amounts", "dense"]

LATENT = 64


def dense(place: Place) -> Finding:
    """Compare a convolutional with a dense network at the same latent size and number of steps."""
    train, validation, notes = place.sections()
    kinds = {NETWORK: "conv-ae", "dense": "dense-ae", "recurrent": "conv-ae"}
    trials = [
        Trial(
            plugin,
            {"preset": network, "latent_dim": LATENT, "steps": place.size.steps, "seed": seed},
            {"network": network, "seed": seed},
        )
        for network, plugin in kinds.items()
        for seed in range(place.size.seeds)
    ]
    trials.append(Trial("pca", {"latent_dim": min(LATENT, len(train) - 1)}, {"network": "PCA"}))
    rows, more, _ = place.rows("c6-dense", trials, train, validation, ["network"])
    by = {row["network"]: row for row in rows}
    difference, low, high = paired_interval(
        np.array(by[NETWORK]["patch_mae"]) - np.array(by["dense"]["patch_mae"]), validation.group
    )
    weights, work = (by[NETWORK][name] / by["dense"][name] for name in ("parameters", "processor_seconds"))
    cheaper, quicker = weights < 1, work < 1
    verdict = "confirmed" if cheaper and quicker else "not decided" if cheaper or quicker else "refuted"
    columns = [
        Column("network", "network"),
        Column("parameters", "parameters"),
        Column("MAE", "mae"),
        Column("MSE", "mse"),
        Column("s", "seconds"),
        Column("processor s", "processor_seconds"),
    ]
    finding = Finding(
        part="c6-dense",
        data=place.data,
        title="Claim C6: is a convolutional network cheaper than a dense one?",
        claim="Harwood and Paganini: convolutional autoencoders are cheaper than dense ones.",
        verdict=verdict,
        sentence=(
            f"At a code of {LATENT} numbers and equally many steps, {NETWORK} has {weights:.2f} times the "
            f"parameters of the dense network and took {work:.2f} times its processor time; its absolute "
            f"error is {difference:+.4f} [{low:+.4f}, {high:+.4f}] "
            "compared with it. A recurrent network over the rows stands beside them."
        ),
        table=as_markdown(rows, columns),
        notes=(*notes, *more),
        command=place.command("c6-dense"),
    )
    return place.keep(finding)


def amounts(place: Place) -> Finding:
    """Train with few and with many sections, for equally many steps."""
    everything, validation, notes = place.sections(patches=max(place.size.amounts))
    order = np.random.default_rng(0).permutation(len(everything))
    rows, said = [], list(notes)
    for wanted in place.size.amounts:
        train = everything.only(np.sort(order[:wanted]))
        trials = [
            Trial(
                "vae",
                {"preset": NETWORK, "latent_dim": LATENT, "steps": place.size.steps, "seed": seed},
                {"network": NETWORK, "seed": seed},
            )
            for seed in range(place.size.seeds)
        ]
        trials.append(Trial("pca", {"latent_dim": min(LATENT, len(train) - 1)}, {"network": "PCA"}))
        found, more, _ = place.rows(f"c6-amounts-{wanted}", trials, train, validation, ["network"])
        said += [text for text in more if text not in said]
        rows += [{**row, "sections": len(train)} for row in found]
    ours = [row for row in rows if row["network"] == NETWORK]
    pca = [row for row in rows if row["network"] == "PCA"]
    difference, low, high = paired_interval(
        np.array(ours[-1]["patch_mse"]) - np.array(ours[0]["patch_mse"]), validation.group
    )
    gain, other = (1 - r[-1]["mse"] / r[0]["mse"] for r in (ours, pca))
    # The networks of the most sections must have learned something; those of the few may fail.
    verdict = place.guarded(judged(low, high), ours[-1:], validation)
    colour = mean_colour(validation)
    figure = plot_curves(
        [
            Panel(
                "training sections", "mean squared error",
                [
                    Series(
                        f"{NETWORK}, variational", [r["sections"] for r in ours], [r["mse"] for r in ours],
                        [r.get("mse_sd", 0.0) for r in ours],
                    ),
                    Series("PCA", [r["sections"] for r in pca], [r["mse"] for r in pca]),
                ],
                level=("mean colour", colour["mse"]), ticks=[r["sections"] for r in ours],
            )
        ]
    )  # fmt: skip
    columns = [
        Column("network", "network"),
        Column("training sections", "sections"),
        Column("MAE", "mae"),
        Column("MSE", "mse"),
    ]
    finding = Finding(
        part="c6-amounts",
        data=place.data,
        title="Claim C6: does it need lots of data?",
        claim="Harwood and Paganini: an autoencoder requires lots of data.",
        verdict=verdict,
        sentence=(
            f"From {ours[0]['sections']} to {ours[-1]['sections']} training sections, with equally many "
            f"steps, the squared error falls by {gain:.0%} ({difference:+.5f} [{low:+.5f}, {high:+.5f}]), "
            f"that of PCA by {other:.0%}."
        ),
        table=as_markdown(rows, columns),
        notes=tuple(said),
        command=place.command("c6-amounts"),
    )
    return place.keep(finding, figure)
