"""The parts of the study that are sweeps: networks, latent sizes, patch sizes."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from geoae.sweeps import Data, sweep_latent, sweep_networks, sweep_patch_size
from geoae.sweeps.tables import SweepReport
from studies.place import Finding, Place
from studies.sizes import NETWORK

__all__ = ["latent", "networks_calibrated", "networks_others", "networks_thesis", "patch_size"]

NETWORK_SIDE = 128
"""Sections of the thesis."""

CHOSEN = ("principal", "residual", "thesis-a1", "thesis-a8", "thesis-a14")
"""Networks of the second data set in a small study: ours, the thesis' first and its two chosen ones."""


def _data(place: Place) -> Data:
    return Data("rgb", "default", place.size.patches, place.size.validation)


def _found(place: Place, report: SweepReport, part: str, title: str, **said: Any) -> Finding:
    """Keep a sweep as a finding; its picture is the sweep's own, made again at the page's resolution."""
    known: dict[str, Any] = {"claim": "", "verdict": "", **said}
    picture: Figure | None = report.figure
    return place.keep(
        Finding(
            part=part,
            data=place.data,
            title=title,
            table=report.text,
            notes=report.notes,
            command=place.command(part),
            **known,
        ),
        picture,
    )


def _networks(
    place: Place, protocol: str, title: str, some: tuple[str, ...] | None, seeds: int, **options: Any
) -> Finding:
    report = sweep_networks(
        place.cube.as_posix(),
        protocol=protocol,
        networks=some,
        seeds=range(seeds),
        data=_data(place),
        size=NETWORK_SIDE,
        options={"epochs": place.size.network_epochs, **options},
        name=place.name(f"networks-{protocol}"),
        progress=place.progress,
    )
    return _found(place, report, f"networks-{protocol}", title, sentence=_best(report))


def _verdict(report: SweepReport, verdict: str) -> str:
    """Return a verdict if the networks learned something: if none is far worse than PCA by squared error."""
    lost = [row for row in report.rows if row["mse"] > 4 * row["pca_mse"]]
    return verdict if not lost else "not decided: some networks learned too little"


def _best(report: SweepReport) -> str:
    """Say which network came first, and how it stands to PCA and to the mean colour."""
    networks = [row for row in report.rows if "mae_difference" in row]
    colour = report.rows[-1]
    best = min(networks, key=lambda row: row["mae"])
    beat = [row["network"] for row in networks if row["mae"] < colour["mae"]]
    pca = [row["network"] for row in networks if row["mae_high"] < 0]
    lost = [row["network"] for row in networks if row["mae_low"] > 0]
    return (
        f"{best['network']} has the smallest absolute error, {best['mae']:.4f}; PCA of equal size has "
        f"{best['pca_mae']:.4f}, the mean colour {colour['mae']:.4f}. Of {len(networks)} networks "
        f"{len(beat)} are better than the mean colour; {len(pca)} are better than PCA and {len(lost)} worse, "
        "judged by intervals that leave zero out."
    )


def networks_thesis(place: Place) -> Finding:
    """Train the thesis' 18 networks as printed."""
    title = "The thesis' table, filled"
    return _networks(place, "thesis", title, None, place.size.network_seeds, epochs=place.size.thesis_epochs)


def networks_calibrated(place: Place) -> Finding:
    """Train the same networks, and ours, with a calibrated divergence, Adam and small batches."""
    title = "The same networks with a calibrated divergence"
    some = None if place.data == "us3d" or place.size_name == "full" else CHOSEN
    return _networks(place, "calibrated", title, some, place.size.network_seeds)


def networks_others(place: Place) -> Finding:
    """Train the other documents' networks with a code of 64 numbers."""
    return _networks(place, "others", "The other documents' networks", None, place.size.network_seeds)


def _steps(place: Place) -> Mapping[str, Any]:
    return {"preset": NETWORK, "steps": place.size.steps}


def latent(place: Place) -> Finding:
    """Train one network at several latent sizes."""
    report = sweep_latent(
        place.cube.as_posix(),
        plugin="vae",
        options=_steps(place),
        latent_dims=place.size.latent_dims,
        seeds=range(place.size.seeds),
        data=_data(place),
        size=place.size.side,
        name=place.name("latent"),
        progress=place.progress,
    )
    low = [row for row in report.rows if row["latent_dim"] < 50]
    high = report.rows[-1]
    wins = [str(row["latent_dim"]) for row in report.rows if row["mse_high"] < 0]
    losses = [str(row["latent_dim"]) for row in report.rows if row["mse_low"] > 0]
    said = (
        f"By squared error the network beats PCA of equal size at {', '.join(wins) or 'no latent size'} and "
        f"loses to it at {', '.join(losses) or 'none'} (intervals that leave zero out)."
    )
    pca_low = all(row["mse_low"] > 0 for row in low)
    ae_high = high["mse_high"] < 0
    verdict = "confirmed" if pca_low and ae_high else "not decided"
    if any(row["mse_high"] < 0 for row in low) or high["mse_low"] > 0:
        verdict = "refuted"
    return _found(
        place,
        report,
        "latent",
        "Latent sizes, and the bottleneck's knee",
        claim="Harwood and Paganini: PCA is better at lower dimensions (below 50), and an autoencoder is "
        "not as lossy as PCA.",
        verdict=_verdict(report, verdict),
        sentence=said,
    )


def patch_size(place: Place) -> Finding:
    """Train one network on sections of several sizes."""
    sizes = tuple(s for s in (32, 64, 128, 256) if s >= place.size.side // 2)
    report = sweep_patch_size(
        place.cube.as_posix(),
        plugin="vae",
        options=_steps(place),
        sizes=sizes,
        resize=place.size.side,
        seeds=range(place.size.seeds),
        data=_data(place),
        name=place.name("patch-size"),
        progress=place.progress,
    )
    whole = [row for row in report.rows if "made" not in row["section"]]
    small, large = whole[0], whole[-1]
    worse = large["unexplained"] > small["unexplained"]
    said = (
        f"From {small['section']} to {large['section']} pixels the absolute error goes from "
        f"{small['mae']:.4f} to {large['mae']:.4f}, and the share of variance left from "
        f"{small['unexplained']:.2f} to {large['unexplained']:.2f}."
    )
    if small["purity"] is not None:
        said += f" Mean purity goes from {small['purity']:.2f} to {large['purity']:.2f}."
        worse = worse and large["purity"] < small["purity"]
    return _found(
        place,
        report,
        "patch-size",
        "Claim C1: patch sizes",
        claim="The thesis: larger patches never gave reconstructions of acceptable quality, and smaller "
        "sections are more likely to have a dominant feature.",
        verdict=_verdict(report, "confirmed" if worse else "refuted"),
        sentence=said,
    )
