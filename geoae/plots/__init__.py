"""Plots fit for a paper: functions that return a figure, take `ax=` and never show anything.

Drawing needs matplotlib; it is imported when a plot function is first used, so the colours in
`geoae.plots.style` cost nothing.
"""

from importlib import import_module
from typing import Any

from geoae.plots.style import STYLE, cluster_colors, style

_DRAWING = {
    "plot_cluster_examples": "examples",
    "plot_curves": "curves",
    "plot_distributions": "curves",
    "plot_latents": "latents",
    "plot_map": "map",
    "plot_reconstructions": "reconstructions",
    "save_figure": "figure",
}

__all__ = [
    "STYLE",
    "cluster_colors",
    "plot_cluster_examples",
    "plot_curves",
    "plot_distributions",
    "plot_latents",
    "plot_map",
    "plot_reconstructions",
    "save_figure",
    "style",
]


def __getattr__(name: str) -> Any:
    if name in _DRAWING:
        return getattr(import_module(f"geoae.plots.{_DRAWING[name]}"), name)
    raise AttributeError(f"module 'geoae.plots' has no attribute {name!r}")
