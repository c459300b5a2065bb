"""The ground of one synthetic tile: a town drawn once and then photographed from many sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoae.testing import streets
from geoae.testing.blocks import BUILDERS, park_on_streets, plant_everywhere
from geoae.testing.canvas import MARGIN, Canvas, FloatArray, generator, noise
from geoae.testing.plans import CITIES, KINDS, Kind, tile_rank
from geoae.testing.streets import Block, Streets

__all__ = ["Town", "build_town"]


@dataclass(frozen=True)
class Town:
    """A tile of a town, ready to be photographed: the drawn `canvas` and its terrain.

    Attributes
    ----------
    city : str
    number : int
    kind : str
        Which plan it was drawn from.
    canvas : Canvas
        Rasters with a border of `MARGIN` cells on every side.
    terrain : ndarray, shape (side, side), float32
        Height of the bare ground above the ellipsoid, m.
    """

    city: str
    number: int
    kind: str
    canvas: Canvas
    terrain: FloatArray


def build_town(city: str, number: int, size: int, seed: int = 0) -> Town:
    """Draw the ground of a tile.

    Parameters
    ----------
    city : str
        A key of `CITIES`.
    number : int
        Number of the tile, 0..996; it decides the kind of town.
    size : int
        Side of the picture, pixels of `GSD` metres.
    seed : int, optional
        Another seed, another town.

    Returns
    -------
    Town
    """
    place = CITIES[city]
    kinds = place.kinds
    name = kinds[tile_rank(city, number) % len(kinds)]
    plan = KINDS[name]
    rng = generator(seed, "town", city, number)
    canvas = Canvas(size + 2 * MARGIN)
    middle = canvas.extent / 2
    turn = place.angle + (float(rng.normal(0, 0.03)) if not plan.bend else float(rng.uniform(-0.5, 0.5)))
    # Where in a block the middle of the picture lies; big blocks are shown by their own middle.
    within = rng.uniform(0.25, 0.75, 2) if plan.pitch[0] < 200 else rng.uniform(0.5, 0.58, 2)
    network = Streets(
        angle=turn,
        pitch_u=plan.pitch[0],
        pitch_v=plan.pitch[1],
        offset_u=float((np.cos(turn) + np.sin(turn)) * middle - plan.pitch[0] * within[0]),
        offset_v=float((np.cos(turn) - np.sin(turn)) * middle - plan.pitch[1] * within[1]),
        width=plan.width,
        bend=plan.bend,
        walk=plan.walk,
        concrete=float(rng.random() < place.concrete),
    )
    shape = canvas.material.shape
    dry = 0.32 + 0.16 * noise(rng, shape, 110) + 0.10 * noise(rng, shape, 14) + 0.07 * noise(rng, shape, 3)
    canvas.mix[:] = np.clip(dry, 0, 1)
    canvas.gain[:] = 1 + 0.05 * noise(rng, shape, 5) + 0.04 * rng.standard_normal(shape, dtype=np.float32)
    shore, bridge = _draw_waters(canvas, plan, network, rng)
    streets.draw_streets(canvas, network, rng, (shore < 7) if plan.water != "quay" else shore < 3)
    if plan.avenue:
        at, angle, half_span = (
            bridge if bridge else ((middle + 6, middle - 9), turn + float(rng.uniform(0.5, 0.9)), 0.0)
        )
        streets.draw_avenue(canvas, at, angle, 15.0, rng, dry=shore > 0)
        if bridge:
            streets.draw_bridge(canvas, at, angle, 15.0, half_span, float(rng.uniform(5.5, 7.5)))
    for block in network.blocks(canvas.extent):
        own = generator(seed, "block", city, number, block.i, block.j)
        BUILDERS[_use(plan, block, own)](canvas, network, block, place, own)
    park_on_streets(canvas, network, plan, rng)
    plant_everywhere(canvas, plan, place, shore, rng)
    terrain = 20.0 + 2.5 * noise(rng, shape, 260) + 0.6 * noise(rng, shape, 90)
    return Town(city, number, name, canvas, terrain.astype(np.float32))


def _use(plan: Kind, block: Block, rng: np.random.Generator) -> str:
    """Draw what a block is used for; the one in the middle of the picture is what the plan names first."""
    if block.i == 0 and block.j == 0:
        return next(iter(plan.uses))
    return str(rng.choice(list(plan.uses), p=list(plan.uses.values())))


def _draw_waters(
    canvas: Canvas, plan: Kind, network: Streets, rng: np.random.Generator
) -> tuple[FloatArray, tuple[tuple[float, float], float, float] | None]:
    """Draw the water of a plan.

    Returns
    -------
    shore : ndarray, shape (side, side), float32
        Distance from the nearest bank, m, negative in the water; far away without water.
    bridge : tuple or None
        Where a road crosses: place, direction, half the span.
    """
    shore = np.full(canvas.material.shape, 1e4, np.float32)
    middle, extent = canvas.extent / 2, canvas.extent
    at = (middle + float(rng.normal(0, 8)), middle + float(rng.normal(0, 8)))
    across = network.angle + float(rng.uniform(0.3, 0.7))
    if plan.water == "river":
        width = float(rng.uniform(46, 66))
        shore = streets.draw_river(
            canvas, at, across, width, rng, swing=9.0, wall=False, turbid=0.45, marsh=2.5
        )
        return shore, (at, across + np.pi / 2 + 0.12, width / 2 + 8)
    if plan.water == "creek":
        width = float(rng.uniform(9, 13))
        at = (middle - 12, middle + 10)
        shore = streets.draw_river(
            canvas, at, across, width, rng, swing=16.0, wall=False, turbid=0.8, marsh=1.5
        )
        return shore, (at, across + np.pi / 2, width / 2 + 16)
    if plan.water == "canals":
        for row in range(-8, 9):
            v = (row + 0.5) * network.pitch_v
            x, y, angle = network.from_frame(0.0, v)
            if row % 2 == 0 and -60 < x * -np.sin(angle) + y * np.cos(angle) < 2 * extent:
                width = float(rng.uniform(17, 23))
                canal = streets.draw_river(
                    canvas, (x, y), angle, width, rng, swing=0.0, wall=True, turbid=0.6
                )
                shore = np.minimum(shore, canal)
        return shore, None
    if plan.water == "quay":
        aside = middle * 0.9
        at = (middle - aside * float(np.sin(network.angle)), middle + aside * float(np.cos(network.angle)))
        shore = streets.draw_river(
            canvas, at, network.angle, extent * 0.45, rng, swing=0.0, wall=True, turbid=0.35
        )
        return shore, None
    if plan.water in ("pond", "ponds"):
        for _ in range(max(1, int((extent / 150) ** 2 * (1.0 if plan.water == "ponds" else 0.5)))):
            spot = (float(rng.uniform(0.25, 0.75)) * extent, float(rng.uniform(0.25, 0.75)) * extent)
            pond = streets.draw_pond(canvas, spot, float(rng.uniform(13, 24)), rng)
            shore = np.minimum(shore, pond)
    return shore, None
