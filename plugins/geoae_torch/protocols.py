"""Protocols: which networks ``geoae sweep networks`` trains, and how."""

from collections.abc import Iterable, Mapping
from typing import Any

from geoae_torch.presets import HARWOOD, OURS, THESIS

__all__ = ["sweep_protocols"]

_NAMES = ("principal", "residual")
"""Our networks: the default one, and its layers without axes."""

_THESIS = tuple(f"thesis-a{number}" for number in range(1, 19))

_AS_PRINTED: dict[str, Any] = {
    "epochs": 50,
    "batch_size": 128,
    "optimiser": "rmsprop",
    "schedule": "constant",
    "augment": False,
    "loss": "mae",
}
"""How the thesis trained; its text names no optimiser, its code RMSprop at Keras's rate."""

_OURS: dict[str, Any] = {"epochs": 50, "batch_size": 32, "loss": "mae"}


def sweep_protocols() -> Mapping[str, Mapping[str, Any]]:
    """Return the protocols by name; plain values, which the core reads without knowing torch.

    Returns
    -------
    mapping
        Of each protocol ``title``, ``patches`` and ``validation`` (how many sections), ``trials``, each with
        ``network``, ``plugin`` and ``options``, and ``quick``: options for tests.
    """
    return {
        "thesis": _protocol(
            f"{THESIS}: as printed",
            _trials(_THESIS, "vae", {**_AS_PRINTED, "kl": "thesis", "latent_dim": 1024}),
        ),
        "thesis-plain": _protocol(
            f"{THESIS}: the same networks with a plain code",
            _trials(_THESIS, "conv-ae", {**_AS_PRINTED, "latent_dim": 1024}),
        ),
        "calibrated": _protocol(
            f"{OURS}: the thesis' networks and ours with a calibrated divergence, Adam and small batches",
            _trials((*_NAMES, *_THESIS), "vae", {**_OURS, "kl": "calibrated", "latent_dim": 1024}),
        ),
        "others": _protocol(
            f"The other documents' networks ({HARWOOD}, and others), as plain autoencoders of 64 numbers",
            [
                *_trials((*_NAMES, "recurrent"), "conv-ae", {**_OURS, "latent_dim": 64}),
                # Its code becomes an image without a layer between them.
                *_trials(("harwood",), "conv-ae", {**_OURS, "latent_dim": 1024, "loss": "mse"}),
                *_trials(("dense",), "dense-ae", {**_OURS, "latent_dim": 64}),
                *_trials(
                    ("report-net1", "report-net2", "report-net3"),
                    "conv-ae",
                    {**_OURS, "latent_dim": 64, "loss": "mse"},
                ),
                # Their codes are maps, of a length that follows from the patch.
                *_trials(("report-fcae",), "conv-ae", {**_OURS, "loss": "mse"}),
            ],
        ),
    }


def _protocol(title: str, trials: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "title": title,
        "patches": 3000,
        "validation": 200,
        "trials": trials,
        "quick": {"epochs": 2, "batch_size": 16},
    }


def _trials(networks: Iterable[str], plugin: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"network": name, "plugin": plugin, "options": {"preset": name, **options}} for name in networks]
