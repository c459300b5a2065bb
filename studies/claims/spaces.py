"""Claims C3 and D7: between two codes, away from home, and without any structure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from geoae.encoder import Encoder, PatchBatch
from geoae.sweeps.sections import Sections
from geoae.sweeps.statistics import paired_interval
from geoae.sweeps.tables import Column, as_markdown
from geoae.sweeps.trials import Trial, errors_of, mean_colour
from studies.place import Finding, Place, judged, spread
from studies.sizes import NETWORK

__all__ = ["interpolation", "noise", "permuted"]

LATENT = 64


def _between(encoder: Encoder, sections: Sections) -> dict[str, Any]:
    """Decode the means of pairs of codes, and look at what comes out."""
    codes = np.concatenate([encoder.transform(batch) for batch in sections.batches(64)])
    other = np.roll(codes, len(codes) // 2, axis=0)
    middle = ((codes + other) / 2).astype(np.float32)
    ends, pictures = encoder.reconstruct(codes), encoder.reconstruct(middle)
    again = encoder.transform(_batch(pictures))
    half = np.linalg.norm(codes - other, axis=1) / 2
    cycle = np.linalg.norm(again - middle, axis=1) / np.maximum(half, 1e-12)
    far_ends = np.roll(ends, len(codes) // 2, axis=0)
    sharp = _gradient(pictures) / np.maximum((_gradient(ends) + _gradient(far_ends)) / 2, 1e-12)
    return {
        "cycle": [round(float(v), 5) for v in cycle],
        "sharpness": [round(float(v), 5) for v in sharp],
    }


def _batch(image: np.ndarray[Any, Any]) -> PatchBatch:
    return PatchBatch(np.arange(len(image)), image.astype(np.float32), np.ones(image.shape, bool))


def _gradient(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the mean absolute difference of neighbouring pixels, ``(n,)``."""
    down = np.abs(np.diff(image, axis=2)).mean(axis=(1, 2, 3))
    return np.asarray(down + np.abs(np.diff(image, axis=3)).mean(axis=(1, 2, 3)))


def interpolation(place: Place) -> Finding:
    """Compare what lies between two codes of a plain and of a variational autoencoder."""
    train, validation, notes = place.sections()
    shared: Mapping[str, Any] = {"preset": NETWORK, "latent_dim": LATENT, "steps": place.size.steps}
    trials = [
        Trial(plugin, {**shared, "seed": seed}, {"network": title, "seed": seed})
        for title, plugin in (("plain", "conv-ae"), ("variational", "vae"))
        for seed in range(place.size.seeds)
    ]
    trials.append(Trial("pca", {"latent_dim": min(LATENT, len(train) - 1)}, {"network": "PCA"}))
    rows, more, lines = place.rows("c3-interpolation", trials, train, validation, ["network"], _between)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for row in rows:
        own = [line for line in lines if line["network"] == row["network"]]
        found[row["network"]] = np.array([line["cycle"] for line in own])
        row["cycle"] = spread(found[row["network"]].mean(axis=1).tolist())
        row["sharpness"] = spread([float(np.mean(line["sharpness"])) for line in own])
    difference, low, high = paired_interval(
        found["variational"].mean(axis=0) - found["plain"].mean(axis=0), validation.group
    )
    columns = [
        Column("code", "network"),
        Column("MAE", "mae"),
        Column("return", "cycle"),
        Column("sharpness", "sharpness"),
    ]
    finding = Finding(
        part="c3-interpolation",
        data=place.data,
        title="Claim C3: what lies between two codes?",
        claim="The thesis: the latent space of a plain autoencoder interpolates badly, that of a variational "
        "one well.",
        verdict=place.guarded(judged(low, high), rows, validation),
        sentence=(
            "The mean of two codes is decoded and encoded again; the way back to it, in half distances of "
            f"the two codes, is {difference:+.3f} [{low:+.3f}, {high:+.3f}] in the variational network "
            "compared with the plain one. Sharpness is the contrast of neighbouring pixels against that of "
            "the two pictures. Both say whether the middle is a picture that the network knows, not whether "
            "it is a likely place on the ground. PCA is linear: it returns exactly, by fading one picture "
            "into the other."
        ),
        table=as_markdown(rows, columns),
        notes=(*notes, *more),
        command=place.command("c3-interpolation"),
    )
    return place.keep(finding)


def permuted(sections: Sections, seed: int = 0) -> Sections:
    """Shuffle the pixels of each section in a way of its own: the same colours, no neighbours."""
    n, channels, y, x = sections.image.shape
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((n, 1, y * x)), axis=2)
    flat = np.take_along_axis(sections.image.reshape(n, channels, -1), order, axis=2)
    mask = np.take_along_axis(sections.valid.reshape(n, channels, -1), order, axis=2)
    return replace(
        sections, image=flat.reshape(sections.image.shape), valid=mask.reshape(sections.image.shape)
    )


def noise(place: Place) -> Finding:
    """Train on sections, and on the same sections with their pixels shuffled; measure each at the other's."""
    train, validation, notes = place.sections()
    rows: list[dict[str, Any]] = []
    said = list(notes)
    left: dict[str, np.ndarray[Any, Any]] = {}
    pairs = {"pictures": (train, validation), "shuffled": (permuted(train), permuted(validation, 1))}
    for name, (fitted_on, seen) in pairs.items():
        foreign = pairs["shuffled" if name == "pictures" else "pictures"][1]

        def examine(encoder: Encoder, _: Sections, foreign: Sections = foreign) -> dict[str, Any]:
            return {"foreign_mse": float(errors_of(encoder, foreign)[2].mean())}

        trials = [
            Trial(
                "conv-ae",
                {"preset": NETWORK, "latent_dim": LATENT, "steps": place.size.steps, "seed": seed},
                {"network": NETWORK, "seed": seed},
            )
            for seed in range(place.size.seeds)
        ]
        trials.append(Trial("pca", {"latent_dim": min(LATENT, len(train) - 1)}, {"network": "PCA"}))
        found, more, lines = place.rows(f"d7-{name}", trials, fitted_on, seen, ["network"], examine)
        said += [text for text in more if text not in said]
        colour = mean_colour(seen)
        for row in found:
            own = [line["mse"] / colour["mse"] for line in lines if line["network"] == row["network"]]
            away = [line["foreign_mse"] for line in lines if line["network"] == row["network"]]
            rows.append({**row, "pixels": name, "left": spread(own), "away": float(np.mean(away))})
            if row["network"] == NETWORK:
                left[name] = np.array(row["patch_mse"]) / np.maximum(colour["patch_mse"], 1e-12)
    difference, low, high = paired_interval(left["pictures"] - left["shuffled"], validation.group)
    columns = [
        Column("trained on", "pixels"),
        Column("network", "network"),
        Column("MSE", "mse"),
        Column("share of variance left", "left"),
        Column("MSE on the other kind", "away"),
    ]
    finding = Finding(
        part="d7-noise",
        data=place.data,
        title="Claim D7: lossy, of one kind of data, and lost without structure?",
        claim="The slides on upsampling: autoencoders are lossy and specific to their data, and fail when "
        "features are independent.",
        verdict=place.guarded(
            judged(low, high), [row for row in rows if row["pixels"] == "pictures"], validation
        ),
        sentence=(
            "The pixels of each section are shuffled: the same colours without neighbours. The squared error "
            "as a share of the mean colour's (1 means that nothing but the mean colour is kept) is "
            f"{difference:+.2f} [{low:+.2f}, {high:+.2f}] on pictures compared with shuffled ones."
        ),
        table=as_markdown(rows, columns),
        notes=tuple(said),
        command=place.command("d7-noise"),
    )
    return place.keep(finding)
