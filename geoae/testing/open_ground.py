"""Blocks with few or no buildings: schools with sports grounds, parks, fields, woods."""

from __future__ import annotations

import numpy as np

from geoae.testing.buildings import draw_flat_roof, draw_parking
from geoae.testing.canvas import Canvas, along, noise
from geoae.testing.commercial import FLAT_ROOFS
from geoae.testing.materials import Material
from geoae.testing.plans import City
from geoae.testing.sports import Ground, draw_ground
from geoae.testing.streets import Block, Streets
from geoae.testing.trees import grow

__all__ = ["field", "park", "school", "woods"]


def school(canvas: Canvas, network: Streets, block: Block, city: City, rng: np.random.Generator) -> None:
    """Build a school: winged flat roof, car park, sports grounds."""
    x, y, angle, long, wide = block.middle(network)
    big = long > 150
    kind: Ground = "stadium" if big and wide > 100 else "soccer"
    draw_ground(
        canvas,
        *along(x, y, angle, -long / 2 + (92 if big else 56), 0 if not big else wide * 0.06),
        angle,
        kind,
        rng,
    )
    left = 92.0 if big else long * 0.3
    roof = FLAT_ROOFS[int(rng.integers(len(FLAT_ROOFS)))]
    for p, q, length, width in (
        (0.0, -wide * 0.22, 52.0, 20.0),
        (-15, -wide * 0.04, 18, 26),
        (17, -wide * 0.02, 16, 30),
    ):
        spot = along(x, y, angle, left + p, q)
        draw_flat_roof(
            canvas, *spot, angle, length, width, float(rng.uniform(5, 9)), rng, roof, wall=Material.BRICK
        )
    draw_parking(canvas, *along(x, y, angle, left, wide * 0.33), angle, 62, 40, rng, full=0.6)
    if big:
        draw_ground(canvas, *along(x, y, angle, -long / 2 + 26, wide / 2 - 22), angle, "tennis", rng)
    for _ in range(int(long * wide / 1500)):
        p, q = float(rng.uniform(-0.49, 0.49)) * long, float(rng.choice([-0.47, 0.47])) * wide
        grow(canvas, *along(x, y, angle, p, q), float(rng.uniform(2, 4.5)), city.evergreen, rng)


def park(canvas: Canvas, network: Streets, block: Block, city: City, rng: np.random.Generator) -> None:
    """Draw a park: groups of trees, winding paths, a ball field or courts."""
    x, y, angle, long, wide = block.middle(network)
    area = canvas.area(x, y, angle, long, wide)
    if area is None:
        return
    inside = area.box(long - 3, wide - 3)
    path = np.abs(area.q - np.float32(wide * 0.28) * np.sin(area.p * np.float32(5.5 / long))) < 1.1
    path |= np.abs(area.p + np.float32(long * 0.15) * np.sin(area.q * np.float32(6.5 / wide))) < 1.0
    if long > 90 and wide > 80:
        draw_ground(canvas, *along(x, y, angle, -long * 0.42, -wide * 0.42), angle, "baseball", rng)
    elif rng.random() < 0.5:
        draw_ground(canvas, *along(x, y, angle, long * 0.2, 0), angle, "tennis", rng)
    canvas.paint(area, inside & path, Material.CONCRETE, 0.5)
    groves = noise(rng, (canvas.side, canvas.side), 40)
    for _ in range(int(long * wide / 42)):
        p, q = float(rng.uniform(-0.48, 0.48)) * long, float(rng.uniform(-0.48, 0.48)) * wide
        spot = along(x, y, angle, p, q)
        cell = canvas.cell(spot)
        wooded = groves[cell] > 0.35 - city.trees * 0.6
        if wooded and canvas.material[cell] in (Material.GRASS, Material.MARSH):
            grow(canvas, *spot, float(np.clip(rng.gamma(6, 0.65), 1.8, 6.2)), city.evergreen, rng)


def field(canvas: Canvas, network: Streets, block: Block, city: City, rng: np.random.Generator) -> None:
    """Draw a field: crop or ploughed soil in rows, tracks of the tractor, a hedge."""
    x, y, angle, long, wide = block.middle(network)
    parts = 2 if rng.random() < 0.6 else 1
    for part in range(parts):
        length = long / parts
        centre = along(x, y, angle, (part + 0.5) * length - long / 2, 0)
        turned = angle + (np.pi / 2 if rng.random() < 0.5 else 0)
        size = (length, wide) if turned == angle else (wide, length)
        area = canvas.area(*centre, turned, *size)
        if area is None:
            continue
        shape = (area.p.shape[0], area.p.shape[1])
        rows = np.float32(0.10) * np.sin(area.q * np.float32(2 * np.pi / 1.52))
        blotch = noise(rng, shape, 60) * np.float32(0.18) + noise(rng, shape, 11) * np.float32(0.08)
        material = Material(rng.choice([Material.CROP, Material.CROP, Material.SOIL]))
        tone = np.clip(float(rng.uniform(0.15, 0.8)) + blotch + rows, 0, 1).astype(np.float32)
        inside = area.box(size[0] - 3, size[1] - 3)
        canvas.paint(area, inside, material, tone, (1 + 0.05 * noise(rng, shape, 3)).astype(np.float32))
        tracks = inside & (np.abs(np.abs(area.q % np.float32(24.0) - 12) - 0.9) < 0.25)
        canvas.paint(area, tracks, Material.SOIL, 0.4, 0.95)
        canvas.taken[area.window] |= inside  # no tree grows in a field
    for p in np.arange(-long / 2, long / 2, 4.0).tolist():
        if rng.random() < 0.7:
            grow(
                canvas,
                *along(x, y, angle, p, -wide / 2 + 2.5),
                float(rng.uniform(1.5, 3.6)),
                city.evergreen,
                rng,
            )


def woods(canvas: Canvas, network: Streets, block: Block, city: City, rng: np.random.Generator) -> None:
    """Fill a block with trees, dense but for a few clearings."""
    x, y, angle, long, wide = block.middle(network)
    gaps = noise(rng, (canvas.side, canvas.side), 60)
    for _ in range(int(long * wide / 13)):
        spot = along(x, y, angle, float(rng.uniform(-0.5, 0.5)) * long, float(rng.uniform(-0.5, 0.5)) * wide)
        if gaps[canvas.cell(spot)] > -1.1:
            grow(canvas, *spot, float(np.clip(rng.gamma(7, 0.5), 1.6, 5.5)), city.evergreen, rng)
