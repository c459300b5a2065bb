"""Curves over a size, and distributions of errors: the figures of sweeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from geoae.plots.figure import LINE, Page, text_width
from geoae.plots.style import WIDTH, cluster_colors, style

__all__ = ["Panel", "Series", "plot_curves", "plot_distributions"]

_ROW = 0.17
"""Inches of a row of a box plot."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Series:
    """A curve: its name, values at each place, and their deviations over seeds."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """A panel of curves.

    Parameters
    ----------
    x_label, y_label
        Beside its axes.
    series
        The curves.
    level
        A horizontal line, name and value: a control.
    mark
        A vertical line, name and place: a knee.
    log_x, log_y
        Whether axes are logarithmic; a plain x axis counts.
    ticks
        Of the x axis.
    """

    x_label: str
    y_label: str
    series: Sequence[Series]
    level: tuple[str, float] | None = None
    mark: tuple[str, float] | None = None
    log_x: bool = True
    log_y: bool = False
    ticks: Sequence[float] = field(default=())


def plot_curves(panels: Sequence[Panel]) -> Figure:
    """Draw panels of curves side by side, each with its legend above.

    Parameters
    ----------
    panels
        One to three.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with style():
        left, gap, height = 0.6, 0.7, 2.1
        width = (WIDTH - left - 0.1 - gap * (len(panels) - 1)) / len(panels)
        top = 0.1 + LINE * 1.25 * max(_entries(panel) for panel in panels)
        page = Page(top + height + 0.5)
        for number, panel in enumerate(panels):
            axes = page.axes_at(left + number * (width + gap), top, width, height)
            _draw(axes, panel)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02))
    return page


def _entries(panel: Panel) -> int:
    return len(panel.series) + (panel.level is not None) + (panel.mark is not None)


def _draw(axes: Axes, panel: Panel) -> None:
    colors = cluster_colors(len(panel.series))
    for number, (series, color) in enumerate(zip(panel.series, colors, strict=True)):
        x, y = np.asarray(series.x, float), np.asarray(series.y, float)
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(x, y, color=color, marker=marker, markersize=3.5, linewidth=1.2, label=series.name)
        if len(series.spread):
            spread = np.asarray(series.spread, float)
            axes.fill_between(x, y - spread, y + spread, color=color, alpha=0.2, linewidth=0)
    if panel.level is not None:
        axes.axhline(panel.level[1], color="#555555", linewidth=0.9, linestyle=":", label=panel.level[0])
    if panel.mark is not None:
        axes.axvline(panel.mark[1], color="#555555", linewidth=0.9, linestyle="--", label=panel.mark[0])
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.log_x:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if len(panel.ticks):
        axes.xaxis.set_major_locator(FixedLocator(list(panel.ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        crowded = len(panel.ticks) > 6
        axes.set_xticklabels([f"{t:g}" for t in panel.ticks], rotation=60 if crowded else 0)


def plot_distributions(values: Mapping[str, Sequence[float]], *, label: str) -> Figure:
    """Draw a box for each of some samples, from top to bottom.

    A box is the middle half with its median, a point the mean, whiskers go from the 5th to the 95th
    percentile.

    Parameters
    ----------
    values
        Samples by name.
    label
        What they measure.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with style():
        names = list(values)
        left = max((text_width(name) for name in names), default=0) + 0.25
        height = _ROW * max(len(names), 4)
        page = Page(height + 0.6)
        axes = page.axes_at(left, 0.1, WIDTH - left - 0.15, height)
        places = np.arange(len(names), 0, -1)
        axes.boxplot(
            [np.asarray(values[name], float) for name in names],
            orientation="horizontal",
            positions=places.tolist(),
            widths=0.6,
            whis=(5, 95),
            showfliers=False,
            showmeans=True,
            patch_artist=True,
            boxprops={"facecolor": "#cfe3f2", "edgecolor": "#0072b2", "linewidth": 0.8},
            medianprops={"color": "#0072b2", "linewidth": 1.4},
            whiskerprops={"color": "#0072b2", "linewidth": 0.8},
            capprops={"color": "#0072b2", "linewidth": 0.8},
            meanprops={"marker": "o", "markersize": 3, "markerfacecolor": "#bb2200", "markeredgewidth": 0},
        )
        axes.set_yticks(places.tolist(), names)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
    return page
