"""What the blocks of the synthetic town are used for, and what fills the space between them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geoae.testing.buildings import draw_car
from geoae.testing.canvas import Canvas, FloatArray, noise
from geoae.testing.commercial import garage, offices, shops, works, yard
from geoae.testing.materials import Material
from geoae.testing.open_ground import field, park, school, woods
from geoae.testing.plans import City, Kind
from geoae.testing.residential import apartments, houses
from geoae.testing.streets import Block, Streets
from geoae.testing.trees import plant

__all__ = ["BUILDERS", "park_on_streets", "plant_everywhere"]

Builder = Callable[[Canvas, Streets, Block, City, np.random.Generator], None]


BUILDERS: dict[str, Builder] = {
    "houses": houses,
    "shops": shops,
    "offices": offices,
    "garage": garage,
    "apartments": apartments,
    "works": works,
    "yard": yard,
    "school": school,
    "park": park,
    "field": field,
    "woods": woods,
}


def park_on_streets(canvas: Canvas, network: Streets, plan: Kind, rng: np.random.Generator) -> None:
    """Put cars at the kerbs and in the lanes."""
    busy = 0.35 if plan.width > 10 else 0.16
    for block in network.blocks(canvas.extent):
        for along, length in ((True, block.u1 - block.u0), (False, block.v1 - block.v0)):
            for step in range(int(length // 8)):
                if rng.random() > busy:
                    continue
                kerbside = rng.random() < 0.6 or plan.width < 10
                aside = -1.35 if kerbside else -plan.width * 0.3
                place = 8.0 * step + 6 + float(rng.normal(0, 0.7))
                x, y, angle = network.from_frame(
                    *((block.u0 + place, block.v0 + aside) if along else (block.u0 + aside, block.v0 + place))
                )
                if canvas.material[canvas.cell((x, y))] in (Material.ASPHALT, Material.CONCRETE):
                    draw_car(canvas, x, y, angle + (0.0 if along else np.pi / 2), rng)


def plant_everywhere(
    canvas: Canvas, plan: Kind, city: City, shore: FloatArray, rng: np.random.Generator
) -> None:
    """Plant what nobody planned: gardens' backs, verges, banks of creeks."""
    shape = canvas.material.shape
    green = np.isin(canvas.material, (Material.GRASS, Material.MARSH)) & (canvas.height < 0.5)
    wild = 0.5 * city.trees * np.clip(0.55 + 0.7 * noise(rng, shape, 70), 0, 1.3)
    if "field" in plan.uses or "works" in plan.uses or "school" in plan.uses:
        wild *= 0.35
    if plan.water in ("creek", "river"):
        wild = np.where(shore < 22, np.maximum(wild, 0.95 if plan.water == "creek" else 0.45), wild)
    plant(canvas, np.where(green, wild, 0).astype(np.float32), 5.2, rng, evergreen=city.evergreen)
