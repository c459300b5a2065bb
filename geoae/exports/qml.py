"""Styles of QGIS: colours, legend and column titles, as QML."""

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from geoae.exports.table import Category
from geoae.plots.style import UNKNOWN, cluster_colors

__all__ = ["PATCH_TIP", "TILE_TIP", "cluster_categories", "layer_style", "raster_style"]

_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"

_OPACITY = 0.6
"""Of the layer as a whole, so that a picture below shows through; seams would show if symbols had it."""

_LABELS = (
    "[% coalesce('cluster ' || \"cluster\", 'no cluster') %], [% coalesce(\"class_name\", 'no class') %]"
)

PATCH_TIP = (
    'concat("scene_id", \' \', "row", \'/\', "col")',
    f'<b>[% "scene_id" %]</b> [% "row" %]/[% "col" %]<br>{_LABELS}',
)
"""What QGIS calls a patch in lists, and what it shows under the mouse."""

TILE_TIP = (
    'concat("city", \' \', "tile")',
    f'<b>[% "city" %] [% "tile" %]</b> [% "patches" %] patches, mostly<br>{_LABELS}',
)
"""The same for a tile."""


def cluster_categories(number: int) -> tuple[Category, ...]:
    """Return the legend of `number` clusters, in the colours of the plots.

    Examples
    --------
    >>> cluster_categories(2)[1]
    Category(value=1, label='Cluster 1', color='#e69f00')
    """
    return tuple(
        Category(value, f"Cluster {value}", color) for value, color in enumerate(cluster_colors(number))
    )


def layer_style(
    column: str | None,
    categories: Sequence[Category],
    titles: Mapping[str, str],
    tip: tuple[str, str] = PATCH_TIP,
    *,
    none_label: str = "none",
) -> str:
    """Write a QGIS layer style.

    Parameters
    ----------
    column
        The column that is coloured; None draws all polygons alike.
    categories
        Its legend. Any other value, and null, is drawn grey.
    titles
        Title of each column, shown in place of its name.
    tip
        What QGIS calls a feature in lists, as an expression, and what it shows under the mouse.
    none_label
        Legend text of patches without a value.

    Returns
    -------
    str
        QML, as QGIS stores it in ``layer_styles``. Equal input gives equal text.
    """
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology|Fields|MapTips|Rendering")
    if column is None:
        renderer = ET.SubElement(root, "renderer-v2", type="singleSymbol")
        symbols = ET.SubElement(renderer, "symbols")
        _symbol(symbols, "0", UNKNOWN, outline="#555555")
    else:
        renderer = ET.SubElement(root, "renderer-v2", type="categorizedSymbol", attr=column)
        listed = ET.SubElement(renderer, "categories")
        symbols = ET.SubElement(renderer, "symbols")
        for position, category in enumerate(categories):
            ET.SubElement(
                listed, "category",
                value=str(category.value), symbol=str(position), label=category.label, render="true",
            )  # fmt: skip
            _symbol(symbols, str(position), category.color, outline=category.color)
        # An empty value catches null and whatever else the column may hold.
        ET.SubElement(
            listed, "category", value="", symbol=str(len(categories)), label=none_label, render="true"
        )
        _symbol(symbols, str(len(categories)), UNKNOWN, outline=UNKNOWN)
    ET.SubElement(root, "layerOpacity").text = f"{_OPACITY:g}"
    aliases = ET.SubElement(root, "aliases")
    for index, (name, title) in enumerate(titles.items(), start=1):  # 0 is GDAL's fid
        ET.SubElement(aliases, "alias", field=name, index=str(index), name=title)
    ET.SubElement(root, "previewExpression").text, ET.SubElement(root, "mapTip").text = tip
    ET.indent(root)
    return _DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"


def raster_style(categories: Sequence[Category], low: float = 0, high: float = 1) -> str:
    """Write a QGIS raster style: a legend of the classes alone, or the first band in grey.

    Without it QGIS lists all 256 colours of a colour table, and draws three measures as red, green, blue.

    Parameters
    ----------
    categories
        The legend; empty for measures.
    low, high
        Values of the first band that are drawn black and white.

    Returns
    -------
    str
        QML. Equal input gives equal text.
    """
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    common: dict[str, str] = {"opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    if categories:
        renderer = ET.SubElement(pipe, "rasterrenderer", {"type": "paletted", "band": "1", **common})
        palette = ET.SubElement(renderer, "colorPalette")
        for one in categories:
            ET.SubElement(
                palette, "paletteEntry", value=str(one.value), label=one.label, color=one.color, alpha="255"
            )
    else:
        renderer = ET.SubElement(
            pipe,
            "rasterrenderer",
            {"type": "singlebandgray", "grayBand": "1", "gradient": "BlackToWhite", **common},
        )
        stretch = ET.SubElement(renderer, "contrastEnhancement")
        ET.SubElement(stretch, "minValue").text = f"{low:.9g}"
        ET.SubElement(stretch, "maxValue").text = f"{high:.9g}"
        ET.SubElement(stretch, "algorithm").text = "StretchToMinimumMaximum"
    ET.indent(root)
    return _DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"


def _symbol(symbols: ET.Element, name: str, color: str, *, outline: str) -> None:
    """Add a fill. Its outline has its colour: neighbours of one cluster join without a seam."""
    properties = {
        "color": _rgba(color),
        "joinstyle": "miter",
        "outline_color": _rgba(outline),
        "outline_style": "solid",
        "outline_width": "0.1",
        "outline_width_unit": "MM",
        "style": "solid",
    }
    symbol = ET.SubElement(symbols, "symbol", name=name, type="fill", alpha="1", clip_to_extent="1")
    layer = ET.SubElement(
        symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"}
    )
    options = ET.SubElement(layer, "Option", type="Map")
    for key, value in properties.items():
        ET.SubElement(options, "Option", name=key, type="QString", value=value)
    for key, value in properties.items():  # QGIS before 3.20 reads these
        ET.SubElement(layer, "prop", k=key, v=value)


def _rgba(color: str) -> str:
    """Write ``#rrggbb`` as QGIS does.

    Examples
    --------
    >>> _rgba("#ff8000")
    '255,128,0,255'
    """
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return f"{red},{green},{blue},255"
