"""Names and attributes of everything in a cube: the one place that spells them.

``docs/cube-format.md`` is the normative text; this module is its executable form.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from geoae.errors import UsageError

__all__ = [
    "CODES_TABLE",
    "COORDINATES",
    "FORMAT",
    "LAYER_KINDS",
    "PATCH",
    "PATCH_VARIABLES",
    "SCENE",
    "SCENE_VARIABLES",
    "SPLIT_NAMES",
    "band_dim",
    "flag_attributes",
    "geoemb_attributes",
    "layer_path",
    "merged_name",
    "valid_name",
]

FORMAT = 1
"""Version of the cube's format. A reader refuses a newer one."""

PATCH = "patch"
SCENE = "scene_index"
MODALITY = "modality"

LAYER_KINDS = ("splits", "latents", "summaries", "clusters", "projections", "footprints")

CODES_TABLE = "codes"
"""Name of the summary in which every label code is a class: what a catalog without a class table gets."""

SPLIT_NAMES = ("train", "validation", "test")
"""Names of the codes 0, 1, 2 of a split; -1 is a patch in no part (a buffer between blocks)."""

UNUSED = -1
"""Code of a patch without split, class or cluster."""

# name -> (dimensions after patch, dtype, attributes)
PATCH_VARIABLES: Mapping[str, tuple[tuple[str, ...], str, Mapping[str, Any]]] = {
    "patch": ((), "int64", {"long_name": "patch number, the row of the cube"}),
    "scene_id": ((), "str", {"long_name": "scene"}),
    "city": ((), "str", {"long_name": "city"}),
    "tile": ((), "str", {"long_name": "tile, the place on the ground"}),
    "view": ((), "str", {"long_name": "view, the acquisition"}),
    "scene_number": ((), "int32", {"long_name": "position of the scene in the tables over scene_index"}),
    "row": ((), "int32", {"long_name": "row of the patch in its scene"}),
    "col": ((), "int32", {"long_name": "column of the patch in its scene"}),
    "y_start": ((), "int32", {"long_name": "first pixel row of the patch in its scene", "units": "1"}),
    "x_start": ((), "int32", {"long_name": "first pixel column of the patch in its scene", "units": "1"}),
    "bounds": (
        ("bound",),
        "float64",
        {
            "long_name": "bounding box of the patch in the scene's CRS, in pixels where it has none",
            "comment": "xmin, ymin, xmax, ymax",
        },
    ),
    "pixel_size_x": (
        (),
        "float64",
        {"long_name": "pixel size along a row; NaN where unknown", "units": "m"},
    ),
    "pixel_size_y": (
        (),
        "float64",
        {"long_name": "pixel size along a column; NaN where unknown", "units": "m"},
    ),
}
"""Variables that every patch has."""

SCENE_VARIABLES: Mapping[str, tuple[tuple[str, ...], str, Mapping[str, Any]]] = {
    "scene_name": ((), "str", {"long_name": "scene"}),
    "scene_city": ((), "str", {"long_name": "city"}),
    "scene_tile": ((), "str", {"long_name": "tile, the place on the ground"}),
    "scene_view": ((), "str", {"long_name": "view, the acquisition"}),
    "scene_crs": ((), "str", {"long_name": "coordinate reference system as WKT; empty where there is none"}),
    "scene_transform": (
        ("affine",),
        "float64",
        {"long_name": "a b c d e f: x = a col + b row + c, y = d col + e row + f"},
    ),
    "scene_shape": (("extent",), "int64", {"long_name": "height and width", "units": "1"}),
    "scene_status": ((), "str", {"long_name": "ok, or why the scene could not be used"}),
    "scene_modalities": ((), "str", {"long_name": "how each modality came: name=copied|warped|..."}),
}
"""Variables over scene_index."""

COORDINATES = (*PATCH_VARIABLES, *SCENE_VARIABLES)

FIXED_COORDINATES: Mapping[str, tuple[str, ...]] = {
    "bound": ("xmin", "ymin", "xmax", "ymax"),
    "affine": ("a", "b", "c", "d", "e", "f"),
    "extent": ("height", "width"),
}
"""Labels of the short fixed dimensions."""


def band_dim(modality: str) -> str:
    """Name the band dimension of an image: one each, since band counts differ.

    Examples
    --------
    >>> band_dim("msi")
    'msi_band'
    """
    return f"{modality}_band"


def valid_name(modality: str) -> str:
    """Name the mask of an image or a label modality. Heights have none: their voids are NaN."""
    return f"{modality}_valid"


def layer_path(kind: str, name: str) -> str:
    """Return the path of a layer's group below the cube's root.

    Raises
    ------
    ValueError
        If the kind is unknown.
    UsageError
        If the name, which users choose, is not made of letters, digits, ``_``, ``-`` and ``.``.

    Examples
    --------
    >>> layer_path("latents", "vae-128")
    'latents/vae-128'
    """
    if kind not in LAYER_KINDS:
        raise ValueError(f"unknown kind of layer {kind!r}; known: {', '.join(LAYER_KINDS)}")
    plain = name.replace("_", "").replace("-", "").replace(".", "")
    if not (plain.isascii() and plain.isalnum()) or name[0] in ".-":
        raise UsageError(
            f"{name!r} cannot name a layer", hint="letters, digits, '_', '-' and '.', the first no '-' or '.'"
        )
    return f"{kind}/{name}"


def merged_name(kind: str, name: str, variable: str, *, default_table: str | None = None) -> str:
    """Name a layer's variable or dimension in the one Dataset that `open_cube` gives.

    The default split and the default class table's summary keep their plain names; anything else is
    prefixed by the layer's name. Without a default class table that of the label codes takes its place.

    Examples
    --------
    >>> merged_name("latents", "vae", "z")
    'vae_z'
    >>> merged_name("splits", "default", "split"), merged_name("splits", "by-city", "split")
    ('split', 'by-city_split')
    >>> merged_name("summaries", "dfc2019", "purity", default_table="dfc2019")
    'purity'
    """
    default = "default" if kind == "splits" else default_table or CODES_TABLE
    if kind in ("splits", "summaries") and name == default:
        return variable
    return f"{name}_{variable}"


def flag_attributes(codes: Iterable[int], meanings: Iterable[str]) -> dict[str, Any]:
    """Return the CF attributes that name the values of an integer variable.

    Examples
    --------
    >>> flag_attributes([2, 5], ["ground", "high vegetation"])
    {'flag_values': [2, 5], 'flag_meanings': 'ground high_vegetation'}
    """
    return {
        "flag_values": list(codes),
        "flag_meanings": " ".join("_".join(meaning.split()) for meaning in meanings),
    }


def geoemb_attributes(
    *, dimensions: int, model: str, source_data: Iterable[str], patch: int, stride: int
) -> dict[str, Any]:
    """Return the attributes of the ``geoemb:`` Zarr convention for embeddings of chips.

    Parameters
    ----------
    dimensions
        Length of the latent vector.
    model
        Name of the encoder.
    source_data
        Where the pixels come from: citations or names.
    patch, stride
        Size and step of the patches in pixels.

    References
    ----------
    The Zarr convention "geoemb", uuid 61c12cc5-0e28-4056-999a-480cf3fb7e4c.
    """
    return {
        "zarr_conventions": [
            {
                "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c",
                "name": "geoemb:",
                "description": "Geospatial embeddings",
            }
        ],
        "geoemb:type": "chip",
        "geoemb:dimensions": dimensions,
        "geoemb:model": model,
        "geoemb:source_data": list(source_data),
        "geoemb:data_type": "float32",
        "geoemb:chip_layout": {
            "layout_type": "regular_grid",
            "chip_size": [patch, patch],
            "stride": [stride, stride],
        },
    }
