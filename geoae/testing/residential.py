"""Blocks where people live: lots with house, drive, lawn and garden, and blocks of flats."""

from __future__ import annotations

import numpy as np

from geoae.testing.buildings import draw_car, draw_house, draw_parking
from geoae.testing.canvas import Canvas, along
from geoae.testing.materials import Material
from geoae.testing.plans import City
from geoae.testing.streets import Block, Streets
from geoae.testing.trees import grow

__all__ = ["apartments", "houses"]


def houses(canvas: Canvas, network: Streets, block: Block, city: City, rng: np.random.Generator) -> None:
    """Fill a block with two rows of lots, back to back, each with house, drive, lawn and garden."""
    depth = (block.v1 - block.v0) / 2
    rows = 2 if depth > 22 else 1
    for row in range(rows):
        u = block.u0 + 1.0
        while True:
            lot = float(rng.uniform(15, 21))
            if u + lot > block.u1 - 1.0:
                break
            _lot(
                canvas,
                network,
                (u + lot / 2, lot),
                (block.v0, 1) if row == 0 else (block.v1, -1),
                min(depth, 42),
                city,
                rng,
            )
            u += lot


def _lot(
    canvas: Canvas,
    network: Streets,
    front: tuple[float, float],
    street: tuple[float, int],
    depth: float,
    city: City,
    rng: np.random.Generator,
) -> None:
    """Draw one lot; `front` is its middle and width along the street, `street` the kerb and the way in."""
    u, lot = front
    kerb, inward = street

    def at(du: float, dv: float) -> tuple[float, float, float]:
        x, y, angle = network.from_frame(u + du, kerb + inward * dv)
        return x, y, angle

    # A lawn of its own: watered, mown or neglected differently from its neighbour's.
    x, y, angle = at(0, depth / 2)
    lawn = canvas.area(x, y, angle, lot, depth)
    if lawn is None:
        return
    window = lawn.window
    mine = lawn.box(lot, depth) & ~canvas.taken[window] & (canvas.material[window] == Material.GRASS)
    canvas.mix[window][mine] = np.clip(canvas.mix[window] + np.float32(rng.normal(0, 0.24)), 0, 1)[mine]
    fence = mine & ((np.abs(np.abs(lawn.p) - lot / 2) < 0.2) & (inward * lawn.q > -depth * 0.1))
    canvas.paint(lawn, fence, Material.SOIL, 0.2, 0.7)
    length = float(min(lot - 3.2, rng.uniform(11, 16.5)))
    width = float(rng.uniform(8, 11.5))
    setback = float(rng.uniform(7, 9.5)) + width / 2
    x, y, angle = at(float(rng.normal(0, 0.4)), setback)
    material = city.roofs[int(rng.integers(len(city.roofs)))]
    if rng.random() < 0.25 and lot > 17:  # gable to the street
        length, width = max(length, 12.0), min(width + 1.0, 11.0)
        turned = draw_house(canvas, x, y, angle + np.pi / 2, length, width, rng, material)
        setback += (length - width) / 2
        length, width = width, length
        if not turned:
            return
    elif not draw_house(canvas, x, y, angle if inward > 0 else angle + np.pi, length, width, rng, material):
        return
    side = -1 if rng.random() < 0.5 else 1
    drive_width, gap = float(rng.choice([3.2, 5.4])), setback - width / 2
    drive = side * (length / 2 - drive_width / 2 - 0.3)
    x, y, angle = at(drive, gap / 2 - 0.5)
    canvas.paint_box(x, y, angle, drive_width, gap + 1.4, Material.CONCRETE, float(rng.uniform(0.2, 0.9)))
    x, y, angle = at(0.0, gap / 2 + 0.4)
    canvas.paint_box(x, y, angle, 1.2, gap, Material.CONCRETE, 0.6)
    if rng.random() < 0.55:
        x, y, angle = at(drive + float(rng.normal(0, 0.3)), gap * float(rng.uniform(0.35, 0.6)))
        draw_car(canvas, x, y, angle + np.pi / 2, rng)
    back = setback + width / 2
    if rng.random() < 0.6:
        x, y, angle = at(float(rng.uniform(-3, 3)), back + 2)
        canvas.paint_box(
            x, y, angle, float(rng.uniform(4, 7)), 4.0, Material.CONCRETE, float(rng.uniform(0, 0.9))
        )
    if depth - back > 10 and rng.random() < city.pools:
        x, y, angle = at(float(rng.uniform(-2.5, 2.5)), back + 5.6)
        canvas.paint_box(x, y, angle, 12.0, 8.4, Material.CONCRETE, 0.6)
        pool = canvas.area(x, y, angle, 10, 6)
        if pool is not None:
            ends = (np.abs(pool.p) / 4.4) ** 3 + (np.abs(pool.q) / 2.2) ** 3 < 1
            canvas.paint(pool, ends, Material.POOL, 0.6)
    elif depth - back > 9 and rng.random() < 0.35:
        x, y, angle = at(side * lot * 0.3, depth - 3.2)
        _draw_shed(canvas, x, y, angle, rng, city)
    for _ in range(rng.poisson(3.4 * city.trees)):
        radius = float(np.clip(rng.gamma(6, 0.6), 1.4, 6.0))
        du = float(rng.uniform(-0.5, 0.5)) * lot
        dv = float(rng.uniform(back + 2.5, depth)) if rng.random() < 0.7 else float(rng.uniform(3.5, gap))
        x, y, _ = at(du, dv)
        grow(canvas, x, y, radius, city.evergreen, rng)
    if rng.random() < 0.5:  # shrubs along the front
        for step in np.arange(-length / 2 + 1, length / 2, 1.5).tolist():
            x, y, _ = at(step, gap - 0.9)
            if rng.random() < 0.7:
                grow(
                    canvas,
                    x,
                    y,
                    float(rng.uniform(0.5, 0.9)),
                    city.evergreen,
                    rng,
                    height=float(rng.uniform(0.8, 1.6)),
                )


def _draw_shed(
    canvas: Canvas, x: float, y: float, angle: float, rng: np.random.Generator, city: City
) -> None:
    """Draw a garden shed."""
    roof = city.roofs[int(rng.integers(len(city.roofs)))]
    area = canvas.area(x, y, angle, 6, 6)
    if area is None:
        return
    box = area.box(float(rng.uniform(2.5, 4.5)), float(rng.uniform(2.5, 3.5)))
    if canvas.is_free(area, box, 0.0):
        canvas.build(area, box, 2.4, roof, mix=float(rng.random()))


def apartments(canvas: Canvas, network: Streets, block: Block, city: City, rng: np.random.Generator) -> None:
    """Build long hipped blocks of flats around a car park."""
    x, y, angle, long, wide = block.middle(network)
    roof = city.roofs[int(rng.integers(len(city.roofs)))]
    draw_parking(canvas, x, y, angle, long - 44, max(18.0, wide - 52), rng, full=0.55)
    count = max(1, int((long - 12) // 38))
    for side in (-1, 1):
        for n in range(count):
            p = (n - (count - 1) / 2) * 38.0
            spot = along(x, y, angle, p, side * (wide / 2 - 12))
            draw_house(
                canvas, *spot, angle, float(rng.uniform(27, 33)), float(rng.uniform(11.5, 13)), rng, roof
            )
        spot = along(x, y, angle, side * (long / 2 - 12), 0)
        if wide > 60:
            draw_house(canvas, *spot, angle + np.pi / 2, float(rng.uniform(22, 30)), 12.0, rng, roof)
    for _ in range(int(long * wide / 240)):
        spot = along(
            x, y, angle, float(rng.uniform(-0.48, 0.48)) * long, float(rng.uniform(-0.48, 0.48)) * wide
        )
        if canvas.material[canvas.cell(spot)] == Material.GRASS:
            grow(canvas, *spot, float(rng.uniform(1.6, 4.2)), city.evergreen, rng)
