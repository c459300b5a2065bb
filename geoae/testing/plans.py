"""The two cities of the synthetic data and the kinds of town their tiles are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

from geoae.testing.materials import Material

__all__ = ["CITIES", "KINDS", "City", "Kind", "tile_number", "tile_rank"]


@dataclass(frozen=True)
class City:
    """What sets a city apart.

    Attributes
    ----------
    epsg : int
        CRS of the georeferenced product.
    origin : tuple of float
        Easting and northing of the first tile's upper-left corner, m.
    kinds : tuple of str
        Kind of each tile, over and over.
    first, step : int
        Numbers of the tiles: ``(first + step * k) % 997``.
    roofs : tuple of Material
        Roofing of the houses, the frequent ones repeated.
    evergreen : float
        Share of trees that keep their leaves.
    trees : float
        How wooded gardens and parks are (0..1).
    pools : float
        Share of gardens with a pool.
    angle : float
        Direction of the streets, radians.
    concrete : float
        Share of the tiles whose streets are concrete.
    winter : float
        How far vegetation dies back in winter (0..1).
    """

    epsg: int
    origin: tuple[float, float]
    kinds: tuple[str, ...]
    first: int
    step: int
    roofs: tuple[Material, ...]
    evergreen: float
    trees: float
    pools: float
    angle: float
    concrete: float
    winter: float


_GREY, _BROWN, _DARK, _TAN = (
    Material.SHINGLE_GREY,
    Material.SHINGLE_BROWN,
    Material.SHINGLE_DARK,
    Material.SHINGLE_TAN,
)

CITIES = {
    "JAX": City(
        epsg=32617,
        origin=(436000.0, 3355000.0),
        kinds=(
            "riverfront",
            "suburb",
            "downtown",
            "ponds",
            "mall",
            "canals",
            "park",
            "port",
            "houses",
            "woods",
        ),
        first=4,
        step=411,
        roofs=(_GREY, _GREY, _BROWN, _BROWN, _DARK, _TAN, _TAN, Material.TERRACOTTA, Material.METAL),
        evergreen=0.7,
        trees=0.62,
        pools=0.22,
        angle=0.21,
        concrete=0.1,
        winter=0.3,
    ),
    "OMA": City(
        epsg=32615,
        origin=(252000.0, 4573000.0),
        kinds=(
            "grid",
            "mall",
            "school",
            "downtown",
            "fields",
            "avenue",
            "works",
            "creek",
            "apartments",
            "suburb",
        ),
        first=132,
        step=275,
        roofs=(_GREY, _GREY, _GREY, _BROWN, _BROWN, _DARK, _DARK, _TAN),
        evergreen=0.15,
        trees=0.42,
        pools=0.04,
        angle=0.0,
        concrete=0.6,
        winter=1.0,
    ),
}


@dataclass(frozen=True)
class Kind:
    """Plan of a kind of tile: shares of block uses, size of the blocks, and what else is there."""

    uses: dict[str, float]
    pitch: tuple[float, float] = (112.0, 76.0)
    width: float = 9.0
    bend: float = 0.0
    water: str = ""
    avenue: bool = False
    walk: bool = True


KINDS = {
    "grid": Kind({"houses": 0.93, "park": 0.07}),
    "houses": Kind({"houses": 0.9, "park": 0.1}, walk=False),
    "suburb": Kind({"houses": 0.92, "park": 0.08}, pitch=(150, 84), bend=15, walk=False),
    "avenue": Kind({"houses": 0.6, "shops": 0.4}, pitch=(104, 80), avenue=True),
    "downtown": Kind({"offices": 0.84, "garage": 0.06, "park": 0.1}, pitch=(96, 92), width=15),
    "mall": Kind({"shops": 1.0}, pitch=(176, 132), width=14),
    "school": Kind({"school": 0.6, "houses": 0.4}, pitch=(266, 160), width=10),
    "park": Kind({"park": 0.55, "houses": 0.3, "school": 0.15}, pitch=(160, 110), bend=9, water="pond"),
    "ponds": Kind({"houses": 0.8, "park": 0.2}, pitch=(150, 90), bend=13, water="ponds", walk=False),
    "riverfront": Kind({"apartments": 0.4, "houses": 0.35, "park": 0.25}, water="river", avenue=True),
    "canals": Kind({"houses": 1.0}, pitch=(150, 82), water="canals", walk=False),
    "port": Kind({"works": 0.8, "yard": 0.2}, pitch=(150, 118), width=12, water="quay"),
    "works": Kind({"works": 0.75, "yard": 0.25}, pitch=(150, 110), width=11),
    "woods": Kind({"woods": 0.72, "houses": 0.28}, pitch=(170, 120), bend=16, water="creek", walk=False),
    "creek": Kind(
        {"houses": 0.55, "park": 0.25, "woods": 0.2}, pitch=(130, 84), bend=6, water="creek", avenue=True
    ),
    "fields": Kind({"field": 0.75, "houses": 0.25}, pitch=(150, 104), width=8, walk=False),
    "apartments": Kind({"apartments": 0.85, "park": 0.15}, pitch=(140, 110), width=10),
}


def tile_number(city: str, k: int) -> int:
    """Return the number of the k-th tile of a city; the first 997 differ.

    Examples
    --------
    >>> [tile_number("JAX", k) for k in range(4)]
    [4, 415, 826, 240]
    """
    return (CITIES[city].first + CITIES[city].step * k) % 997


def tile_rank(city: str, number: int) -> int:
    """Return the k that `tile_number` turns into `number`.

    Examples
    --------
    >>> tile_rank("JAX", 826)
    2
    """
    return (number - CITIES[city].first) * pow(CITIES[city].step, -1, 997) % 997
