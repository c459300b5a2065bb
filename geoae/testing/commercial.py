"""Blocks where people work and shop: stores, towers, garages, halls and yards."""

from __future__ import annotations

import numpy as np

from geoae.testing.buildings import draw_car, draw_flat_roof, draw_parking, draw_tank, draw_tower
from geoae.testing.canvas import CODES, Canvas, along, noise
from geoae.testing.materials import Material
from geoae.testing.plans import City
from geoae.testing.streets import Block, Streets
from geoae.testing.trees import grow

__all__ = ["FLAT_ROOFS", "garage", "offices", "shops", "works", "yard"]

FLAT_ROOFS = (Material.MEMBRANE, Material.MEMBRANE, Material.GRAVEL, Material.TAR, Material.GRAVEL)


def shops(canvas: Canvas, network: Streets, block: Block, city: City, rng: np.random.Generator) -> None:
    """Build a big flat-roofed store or a row of shops behind its car park, and an outparcel in front."""
    x, y, angle, long, wide = block.middle(network)
    if rng.random() < 0.5:
        angle += np.pi
    deep = float(rng.uniform(0.34, 0.44)) * wide
    roof = FLAT_ROOFS[int(rng.integers(len(FLAT_ROOFS)))]
    canvas.paint_box(x, y, angle, long - 10, wide - 9, Material.ASPHALT, 0.45)
    at = along(x, y, angle, 0, -wide / 2 + 9 + deep / 2)
    left = -long / 2 + 9
    while left < long / 2 - 26:
        part = float(rng.uniform(24, 62))
        part = min(part, long / 2 - 9 - left)
        spot = along(x, y, angle, left + part / 2, -wide / 2 + 9 + deep / 2)
        if rng.random() < 0.5:
            roof = FLAT_ROOFS[int(rng.integers(len(FLAT_ROOFS)))]
        draw_flat_roof(
            canvas,
            *spot,
            angle,
            part - 0.2,
            deep * float(rng.uniform(0.86, 1.0)),
            float(rng.uniform(6, 11)),
            rng,
            roof,
        )
        left += part
    park = wide - deep - 19
    at = along(x, y, angle, 0, wide / 2 - 6 - park / 2)
    canvas.paint_box(
        *along(x, y, angle, 0, wide / 2 - park - 8), angle, long - 20, 3.2, Material.CONCRETE, 0.6
    )
    draw_parking(canvas, *at, angle, long - 16, park, rng, full=float(rng.uniform(0.3, 0.75)))
    for p in np.arange(-long / 2 + 6, long / 2 - 4, float(rng.uniform(9, 13))).tolist():
        for q in (wide / 2 - 3.0, -wide / 2 + 3.0):
            if rng.random() < 0.6:
                grow(canvas, *along(x, y, angle, p, q), float(rng.uniform(1.6, 3.0)), city.evergreen, rng)
    if rng.random() < 0.6:
        corner = along(x, y, angle, float(rng.choice([-1, 1])) * (long / 2 - 22), wide / 2 - 14)
        draw_flat_roof(canvas, *corner, angle, 19, 13, 5.5, rng, Material.MEMBRANE)


def offices(canvas: Canvas, network: Streets, block: Block, city: City, rng: np.random.Generator) -> None:
    """Build towers and lower blocks on paved ground."""
    x, y, angle, long, wide = block.middle(network)
    canvas.paint_box(x, y, angle, long - 5, wide - 5, Material.CONCRETE, 0.35)
    columns = 2 if long > 55 else 1
    rows = 2 if wide > 55 else 1
    for column in range(columns):
        for row in range(rows):
            cell_long, cell_wide = (long - 6) / columns, (wide - 6) / rows
            spot = along(
                x,
                y,
                angle,
                (column + 0.5) * cell_long - (long - 6) / 2,
                (row + 0.5) * cell_wide - (wide - 6) / 2,
            )
            draw = rng.random()
            if draw < 0.4:
                draw_tower(
                    canvas,
                    *spot,
                    angle,
                    float(rng.uniform(17, cell_long - 12)),
                    float(rng.uniform(15, max(16, cell_wide - 11))),
                    float(rng.choice([16, 22, 28, 36, 48, 58])) * float(rng.uniform(0.9, 1.03)),
                    rng,
                )
            elif draw < 0.75:
                roof = FLAT_ROOFS[int(rng.integers(len(FLAT_ROOFS)))]
                size = (cell_long - float(rng.uniform(2, 7)), cell_wide - float(rng.uniform(2, 7)))
                draw_flat_roof(
                    canvas,
                    *spot,
                    angle,
                    *size,
                    float(rng.uniform(6, 14)),
                    rng,
                    roof,
                    wall=Material.BRICK,
                    machines=1.5,
                )
            else:
                draw_parking(canvas, *spot, angle, cell_long - 2, cell_wide - 2, rng, full=0.7)
    for p in np.arange(-long / 2 + 2, long / 2, 9.0).tolist():
        for q in (-wide / 2 + 1.6, wide / 2 - 1.6):
            if rng.random() < 0.55:
                grow(canvas, *along(x, y, angle, p, q), float(rng.uniform(1.4, 2.6)), city.evergreen, rng)


def garage(canvas: Canvas, network: Streets, block: Block, city: City, rng: np.random.Generator) -> None:
    """Build a multi-storey car park: its roof is a car park too, without cars that the lidar never saw."""
    x, y, angle, long, wide = block.middle(network)
    canvas.paint_box(x, y, angle, long - 5, wide - 5, Material.CONCRETE, 0.4)
    length, width, height = long - 14, wide - 14, float(rng.uniform(9, 14))
    area = canvas.area(x, y, angle, length + 2, width + 2)
    if area is None or not canvas.is_free(area, mask := area.box(length, width), 0.0):
        offices(canvas, network, block, city, rng)
        return
    canvas.build(area, mask, height, Material.CONCRETE, wall=Material.CONCRETE, mix=0.35)
    canvas.build(area, mask & ~area.box(length - 0.9, width - 0.9), height + 1.0, Material.CONCRETE, mix=0.8)
    bays = mask & ((area.p % np.float32(2.75)) < 0.2) & ((np.abs(area.q) % np.float32(17.0)) < 10.4)
    canvas.material[area.window][bays] = Material.PAINT
    canvas.gain[area.window][bays] = np.float32(0.8)
    lane = mask & ((np.abs(area.q) % np.float32(17.0)) > 10.6) & area.box(length - 2, width - 2)
    canvas.mix[area.window][lane] = np.float32(0.1)


def works(canvas: Canvas, network: Streets, block: Block, city: City, rng: np.random.Generator) -> None:
    """Build halls with low metal roofs, tanks and a yard with lorries."""
    x, y, angle, long, wide = block.middle(network)
    canvas.paint_box(x, y, angle, long - 6, wide - 6, Material.CONCRETE, float(rng.uniform(0.1, 0.4)))
    canvas.paint_box(*along(x, y, angle, long * 0.22, 0), angle, long * 0.4, wide - 12, Material.ASPHALT, 0.6)
    left = -long / 2 + 8
    while left < long / 2 - 30:
        length, width = float(rng.uniform(24, 46)), float(rng.uniform(0.42, 0.62)) * wide
        spot = along(x, y, angle, left + length / 2, -wide / 2 + 7 + width / 2)
        _hall(canvas, *spot, angle, length, width, rng)
        left += length + float(rng.uniform(4, 12))
    for n in range(int(rng.integers(2, 6))):
        spot = along(x, y, angle, -long / 2 + 16 + n * 14.0, wide / 2 - 13)
        draw_tank(canvas, *spot, float(rng.uniform(3.5, 5.8)), float(rng.uniform(7, 12)))
    for n in range(int(long / 6)):
        if rng.random() < 0.55:
            spot = along(x, y, angle, -long / 2 + 8 + n * 5.5, wide / 2 - 28)
            draw_car(canvas, *spot, angle + np.pi / 2, rng, truck=rng.random() < 0.6)
    _verge(canvas, block.middle(network), city, rng)


def _verge(
    canvas: Canvas, block: tuple[float, float, float, float, float], city: City, rng: np.random.Generator
) -> None:
    """Plant a few trees along the fence of a works."""
    x, y, angle, long, wide = block
    for p in np.arange(-long / 2 + 3, long / 2 - 2, 7.0).tolist():
        if rng.random() < 0.8 * city.trees:
            side = float(rng.choice([-1, 1])) * (wide / 2 - 2.0)
            grow(canvas, *along(x, y, angle, p, side), float(rng.uniform(1.4, 3.2)), city.evergreen, rng)


def _hall(
    canvas: Canvas, x: float, y: float, angle: float, length: float, width: float, rng: np.random.Generator
) -> None:
    """Build one hall with a low metal gable or several of them."""
    if rng.random() < 0.3:
        draw_flat_roof(
            canvas, x, y, angle, length, width, float(rng.uniform(7, 11)), rng, Material.GRAVEL, machines=0.6
        )
        return
    area = canvas.area(x, y, angle, length + 1, width + 1)
    if area is None or not canvas.is_free(area, mask := area.box(length, width), 0.0):
        return
    roof = Material.METAL if rng.random() < 0.75 else Material.METAL_BLUE
    bays = int(rng.integers(1, 4))
    bay = width / bays
    across = (area.q + np.float32(width / 2)) % np.float32(bay) - np.float32(bay / 2)
    tall = float(rng.uniform(6, 9)) + (bay / 2 - np.abs(across)) * np.float32(0.14)
    ribs = (
        1
        + 0.03 * np.sin(area.p * np.float32(5.2))
        + 0.05 * noise(rng, (area.p.shape[0], area.p.shape[1]), 14)
    )
    slope = (np.zeros_like(across), -np.sign(across) * np.float32(0.14))
    canvas.build(
        area,
        mask,
        tall,
        roof,
        wall=Material.METAL,
        mix=float(rng.random()),
        gain=ribs.astype(np.float32),
        slope=slope,
    )
    vents = mask & (np.abs(across) < 0.5) & ((area.p % np.float32(8.0)) < 1.0)
    canvas.build(area, vents, tall + np.float32(0.7), Material.METAL, wall=Material.METAL, mix=0.4, gain=0.8)


def yard(canvas: Canvas, network: Streets, block: Block, city: City, rng: np.random.Generator) -> None:
    """Draw a storage yard: bare ground, heaps, rows of containers."""
    x, y, angle, long, wide = block.middle(network)
    canvas.paint_box(x, y, angle, long - 4, wide - 4, Material.SOIL, 0.7)
    canvas.paint_box(
        *along(x, y, angle, 0, wide * 0.2), angle, long * 0.9, wide * 0.36, Material.CONCRETE, 0.2
    )
    paints = (
        Material.CAR_BLUE,
        Material.CAR_RED,
        Material.METAL,
        Material.TERRACOTTA,
        Material.MEMBRANE,
        Material.METAL_BLUE,
    )
    for row in range(max(1, int(wide * 0.34 / 8))):
        for n in range(int(long * 0.8 / 12.6)):
            stack = int(rng.integers(0, 3))
            if stack:
                spot = along(x, y, angle, -long * 0.4 + n * 12.6 + 6, wide * 0.06 + row * 8.0)
                area = canvas.area(*spot, angle, 13, 6)
                if area is not None:
                    box = area.box(12.1, 4.9)
                    if canvas.is_free(area, box, 0.0):
                        seam = np.where(np.abs(area.q) < 0.2, np.float32(0.6), np.float32(1)) * np.ones_like(
                            area.p
                        )
                        paint = paints[int(rng.integers(len(paints)))]
                        canvas.build(
                            area,
                            box,
                            2.6 * stack,
                            paint,
                            wall=Material.METAL,
                            gain=seam,
                            code=CODES["unlabelled"],
                        )
    _verge(canvas, block.middle(network), city, rng)
