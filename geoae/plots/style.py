"""Colours, sizes and letters of all plots, in one place; also for QGIS and web pages.

This module imports no matplotlib.
"""

import colorsys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

__all__ = ["MARKERS", "STYLE", "UNKNOWN", "WIDTH", "city_markers", "cluster_colors", "spoken", "style"]

WIDTH = 7.1
"""Width of a figure over two columns of a journal, in inches (180 mm)."""

TEXT = 8.0
"""Size of titles and axis labels in points."""

SMALL = 7.0
"""Size of ticks, legends and captions in points; the smallest that journals accept is 6 or 7."""

UNKNOWN = "#8a8a8a"
"""Colour of what has no class, height or cluster."""

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#333333",
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.0,
    "legend.borderpad": 0.0,
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "text.hinting": "none",  # letters as wide at every resolution as they were when lines were broken
    "pdf.fonttype": 42,  # text stays text in PDF and SVG, to be edited and searched
    "svg.fonttype": "none",
    "svg.hashsalt": "geoae",  # equal figures, equal files
    "hatch.linewidth": 0.5,
}
"""Settings of matplotlib for a figure in a paper."""

# Chosen greedily: each next colour is as far as can be (in OKLab) from those before it, for normal vision
# and for the three kinds of colour blindness (Machado et al. 2009), among colours that are neither pale,
# dark nor grey. The least distance is 0.125 for 8 colours; for the first 5 of Okabe and Ito's it is 0.086.
# fmt: off
_CLUSTERS = (
    "#0072b2", "#e69f00", "#44ccff", "#bb2200", "#ffdd33", "#00aa99", "#881166", "#aa77ff", "#4400dd",
    "#dd6644", "#bbeeaa", "#995577", "#aacc88", "#663399", "#8844ff", "#00ffee", "#7788cc", "#990000",
    "#eeaacc", "#bb33aa",
)
# fmt: on

MARKERS = ("s", "o", "^", "D", "v", "P", "X", "<", ">")
"""Markers of cities in the order of their names: square for Jacksonville (JAX), circle for Omaha (OMA)."""


@contextmanager
def style() -> Iterator[None]:
    """Draw with the settings of `STYLE`; matplotlib's own come back afterwards."""
    import matplotlib  # start-up: exports take only colours from here

    with matplotlib.rc_context(cast(Any, STYLE)):
        yield


def cluster_colors(k: int) -> tuple[str, ...]:
    """Return a colour for each of `k` clusters, ``#rrggbb``; equal numbers have equal colours everywhere.

    The first 20 can be told apart with colour-blind eyes as well as is possible; beyond, the plots'
    numbers in the cells have to help.

    Examples
    --------
    >>> cluster_colors(2)
    ('#0072b2', '#e69f00')
    """
    colors = list(_CLUSTERS[:k])
    for number in range(len(colors), k):
        # The golden ratio spreads any number of hues evenly.
        hue, lightness = (number * 0.618034) % 1, (0.45, 0.65)[number % 2]
        red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.65)
        colors.append(f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}")
    return tuple(colors)


def city_markers(cities: Iterable[str], known: Iterable[str] = ()) -> dict[str, str]:
    """Return the marker of each city.

    Parameters
    ----------
    cities
        Those that occur.
    known
        Those of the catalog: they keep their markers also where only some occur.

    Examples
    --------
    >>> city_markers(["OMA", "JAX", "OMA"]), city_markers(["OMA"], ["JAX", "OMA"])
    ({'JAX': 's', 'OMA': 'o'}, {'OMA': 'o'})
    >>> city_markers([""]), city_markers(["Autzen"])
    ({'': 'o'}, {'Autzen': 'o'})
    """
    names, listed = sorted(set(cities)), sorted(set(known))
    if len(names) == 1 and names[0] not in listed:
        return {names[0]: "o"}
    order = listed + [name for name in names if name not in listed]
    return {name: MARKERS[order.index(name) % len(MARKERS)] for name in names}


def spoken(name: object) -> str:
    """Write a name of a catalog as people do.

    Examples
    --------
    >>> spoken("elevated_road")
    'elevated road'
    """
    return str(name).replace("_", " ")
