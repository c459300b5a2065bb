"""Trials: one training with what it found, measured in the same way whatever the encoder."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from geoae.calls import calling, fit_encoder
from geoae.encoder import Encoder, FitContext
from geoae.errors import UsageError
from geoae.fitting import Progress
from geoae.registry import encoder_info, load_encoder, parse_options
from geoae.sweeps.ledger import Ledger
from geoae.sweeps.sections import Sections
from geoae.sweeps.statistics import participation_ratio

__all__ = ["Examine", "Trial", "errors_of", "mean_colour", "run_trial"]

_BATCH = 64

Examine = Callable[[Encoder, Sections], Mapping[str, Any]]
"""Looks at a trained encoder and the validation sections; returns JSON values for the ledger."""


@dataclass(frozen=True)
class Trial:
    """A training to make.

    Parameters
    ----------
    plugin
        Name of the encoder.
    options
        Its options; the seed among them.
    labels
        What tells it from the other trainings of the sweep: network, latent size, seed.
    """

    plugin: str
    options: Mapping[str, Any]
    labels: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its labels in words.

        Examples
        --------
        >>> Trial("pca", {}, {"network": "pca", "seed": 2}).title
        'pca, seed 2'
        """
        words = [
            str(v) if isinstance(v, str) else f"{k.replace('_', ' ')} {v}" for k, v in self.labels.items()
        ]
        return ", ".join(words)


def run_trial(
    trial: Trial,
    ledger: Ledger,
    train: Sections,
    validation: Sections,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    examine: Examine | None = None,
) -> dict[str, Any]:
    """Make a training and write its line in the ledger; one that is there is not made again.

    Parameters
    ----------
    trial
        What to train.
    ledger
        Where its line goes.
    train, validation
        The sections.
    device
        Where to compute, for encoders that can choose.
    progress
        Called as ``progress(stage, done, total, values)``.
    examine
        Looks at the trained encoder as well.

    Returns
    -------
    dict
        Labels; ``parameters``, ``loss``, ``kl``, ``active_units`` where the encoder reports them; ``mae`` and
        ``mse`` over valid pixels of the validation sections, channels scaled to 0..1; the same of each
        section (``patch_mae``, ``patch_mse``); ``participation_ratio`` of the latent vectors; ``latent_dim``;
        ``seconds`` of fitting, ``processor_seconds`` of all threads, ``patches_per_second``.

    Raises
    ------
    UsageError
        If options are wrong, or the encoder has no decoder.
    PluginError
        If the encoder breaks its contract.
    """
    kind = load_encoder(trial.plugin)
    config = parse_options(kind, trial.options)
    info = encoder_info(trial.plugin)
    asked = {
        "plugin": trial.plugin,
        "version": info.version,
        "options": config.model_dump(mode="json"),
        "labels": dict(trial.labels),
        "examined": examine is not None,
    }
    request = ledger.request(asked)
    if (there := ledger.find(request)) is not None:
        return there
    if not kind.has_decoder:
        raise UsageError(f"{trial.plugin} makes no images: there is no error to measure")
    who = f"encoder {info.name} of {info.distribution} {info.version}"
    # No checkpoints: the large networks would write a gigabyte an epoch, and the trainings are short.
    context = FitContext(validation=validation, device=device)
    if progress is not None:
        context = replace(context, progress=partial(_titled, progress, trial.title))
    started, computed = time.monotonic(), time.process_time()
    encoder, report = fit_encoder(kind, config, train, context, who)
    seconds, computed = time.monotonic() - started, time.process_time() - computed
    with calling(who, "reconstruct"):
        z, absolute, squared = errors_of(encoder, validation)
    found = {} if examine is None else dict(examine(encoder, validation))
    seen = round((report.curves.get("epoch") or [0])[-1] * len(train))
    record = {
        **trial.labels,
        **_figures(report.metrics, report.curves),
        "latent_dim": encoder.latent_dim,
        "mae": float(absolute.mean()),
        "mse": float(squared.mean()),
        "participation_ratio": participation_ratio(z),
        "patch_mae": [round(float(v), 6) for v in absolute],
        "patch_mse": [round(float(v), 8) for v in squared],
        "training_patches": len(train),
        "seconds": round(seconds, 2),
        "processor_seconds": round(computed, 2),
        "patches_per_second": round(seen / max(seconds, 1e-9), 1) if seen else None,
        "notes": list(report.notes),
        **found,
    }
    return ledger.add(request, record)


def _titled(
    progress: Progress, title: str, stage: str, done: int, total: int, values: Mapping[str, float]
) -> None:
    progress(f"{title}, {stage}", done, total, values)


def _figures(metrics: Mapping[str, float], curves: Mapping[str, list[float]]) -> dict[str, Any]:
    """Choose what a line tells of a fit's own report."""
    losses = curves.get("validation_loss") or curves.get("loss") or []
    known = {name: metrics.get(name) for name in ("parameters", "kl", "active_units", "steps")}
    return {
        **known,
        "loss": min(losses) if losses else None,
        "curve": [round(float(v), 6) for v in curves.get("validation_mae") or []],
    }


def errors_of(
    encoder: Encoder, sections: Sections
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Encode and decode sections.

    Returns
    -------
    tuple of numpy.ndarray
        Latent vectors ``(n, latent)``, and of each section the mean absolute and the mean squared error over
        its valid pixels, ``(n,)``.
    """
    codes, absolute, squared = [], [], []
    for batch in sections.batches(_BATCH):
        z = encoder.transform(batch)
        difference = np.where(batch.valid, encoder.reconstruct(z) - batch.image, np.float32(0))
        known = batch.valid.sum(axis=(1, 2, 3))
        absolute.append(np.abs(difference).sum(axis=(1, 2, 3), dtype=np.float64) / known)
        squared.append((difference**2).sum(axis=(1, 2, 3), dtype=np.float64) / known)
        codes.append(z)
    return np.concatenate(codes), np.concatenate(absolute), np.concatenate(squared)


def mean_colour(sections: Sections) -> dict[str, Any]:
    """Measure the control that knows of a section only the mean of each channel.

    Returns
    -------
    dict
        ``mae``, ``mse``, ``patch_mae``, ``patch_mse`` and ``latent_dim``, as `run_trial` gives them.
    """
    valid = sections.valid
    known = np.maximum(valid.sum(axis=(2, 3), keepdims=True), 1)
    means = sections.image.sum(axis=(2, 3), keepdims=True, dtype=np.float64) / known
    difference = np.where(valid, sections.image - means, 0)
    count = valid.sum(axis=(1, 2, 3))
    absolute = np.abs(difference).sum(axis=(1, 2, 3)) / count
    squared = (difference**2).sum(axis=(1, 2, 3)) / count
    return {
        "latent_dim": sections.image.shape[1],
        "mae": float(absolute.mean()),
        "mse": float(squared.mean()),
        "patch_mae": [round(float(v), 6) for v in absolute],
        "patch_mse": [round(float(v), 8) for v in squared],
    }
