"""Roofs, rooftop machinery, tanks, cars and car parks of the synthetic town."""

from __future__ import annotations

from typing import Literal

import numpy as np

from geoae.testing.canvas import CODES, GSD, Canvas, FloatArray, Footprint, noise
from geoae.testing.materials import Material

__all__ = [
    "draw_car",
    "draw_flat_roof",
    "draw_house",
    "draw_parking",
    "draw_tank",
    "draw_tower",
]

_CARS = (
    *(Material.CAR_WHITE,) * 4,
    *(Material.CAR_SILVER,) * 4,
    *(Material.CAR_BLACK,) * 4,
    Material.CAR_RED,
    Material.CAR_BLUE,
)

RoofKind = Literal["gable", "hip"]


def _pitched(
    p: FloatArray, q: FloatArray, length: float, width: float, eave: float, pitch: float, kind: RoofKind
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the height of a pitched roof and its slope along p and q, its ridge along p."""
    to_side = np.float32(width / 2) - np.abs(q)
    to_end = np.float32(length / 2) - np.abs(p)
    if kind == "hip":
        ends = to_end < to_side
        run = np.minimum(to_side, to_end)
        along = np.where(ends, -np.sign(p), 0) * np.float32(pitch)
        across = np.where(ends, 0, -np.sign(q)) * np.float32(pitch)
    else:
        run, along, across = to_side, np.zeros_like(p), -np.sign(q) * np.float32(pitch)
    height = np.float32(eave) + np.float32(pitch) * np.maximum(run, 0)
    return height.astype(np.float32), along.astype(np.float32), across.astype(np.float32)


def draw_house(
    canvas: Canvas,
    x: float,
    y: float,
    angle: float,
    length: float,
    width: float,
    rng: np.random.Generator,
    material: Material,
) -> bool:
    """Draw a house with a gabled or hipped roof and often a wing; return whether there was room.

    Parameters
    ----------
    canvas : Canvas
    x, y : float
        Middle of the main part, m.
    angle : float
        Direction of the ridge, radians.
    length, width : float
        Footprint of the main part, m.
    rng : numpy.random.Generator
    material : Material
        Roofing.
    """
    area = canvas.area(x, y, angle, length + 14, width + 14)
    if area is None:
        return False
    kind: RoofKind = "hip" if rng.random() < 0.45 else "gable"
    eave = float(rng.choice([2.9, 3.1, 5.4], p=[0.4, 0.35, 0.25]))
    pitch = float(rng.uniform(0.38, 0.62))
    mix, wall = float(rng.random()), Material.BRICK if rng.random() < 0.4 else Material.STUCCO
    wing_length, wing_width = float(rng.uniform(5.5, 8.0)), float(rng.uniform(5.0, 7.0))
    wing = float(rng.choice([-1, 1])) * (length / 2 - wing_width / 2 - 0.2)
    has_wing = rng.random() < 0.62
    main = area.box(length, width)
    p_wing, q_wing = area.p - np.float32(wing), area.q + np.float32(wing_length / 2)
    footprint_wing = (np.abs(p_wing) < wing_width / 2) & (np.abs(q_wing) < wing_length)
    if not canvas.is_free(area, main | footprint_wing if has_wing else main, 0.0):
        return False
    # Courses of shingles: a faint stripe along the ridge.
    courses = 1 + np.float32(0.035) * np.sin(area.q * np.float32(7.1)) + _speckle(rng, area, 0.05)
    height, along, across = _pitched(area.p, area.q, length, width, eave, pitch, kind)
    canvas.build(area, main, height, material, wall=wall, mix=mix, gain=courses, slope=(along, across))
    if has_wing:  # its ridge runs across the main one
        tall, cross, run = _pitched(q_wing, p_wing, 2 * wing_length, wing_width, eave, pitch, kind)
        courses = 1 + np.float32(0.035) * np.sin(area.p * np.float32(7.1)) + _speckle(rng, area, 0.05)
        canvas.build(
            area, footprint_wing, tall, material, wall=wall, mix=mix, gain=courses, slope=(run, cross)
        )
    if rng.random() < 0.4:
        chimney = (np.abs(area.p - length * 0.2) < 0.5) & (np.abs(area.q - 0.8) < 0.5)
        canvas.build(area, chimney, eave + pitch * width / 2 + 0.7, Material.BRICK, wall=Material.BRICK)
    return True


def _speckle(rng: np.random.Generator, area: Footprint, amount: float) -> FloatArray:
    """Return white noise for a window."""
    return rng.standard_normal(area.p.shape, dtype=np.float32) * np.float32(amount)


def draw_flat_roof(
    canvas: Canvas,
    x: float,
    y: float,
    angle: float,
    length: float,
    width: float,
    height: float,
    rng: np.random.Generator,
    material: Material,
    *,
    wall: Material = Material.STUCCO,
    machines: float = 1.0,
) -> bool:
    """Draw a flat roof with parapet, skylights and air conditioners; return whether there was room."""
    area = canvas.area(x, y, angle, length + 2, width + 2)
    if area is None or not canvas.is_free(area, mask := area.box(length, width), 0.0):
        return False
    rim = np.minimum(length / 2 - np.abs(area.p), width / 2 - np.abs(area.q))
    stains = _soft(rng, area, 5.0) * np.float32(0.07) + _soft(rng, area, 1.3) * np.float32(0.03)
    seams = np.where((area.p % np.float32(3.05)) < 0.3, np.float32(0.965), np.float32(1))
    gain = (seams + stains + _speckle(rng, area, 0.015)).astype(np.float32)
    mix = float(rng.uniform(0.1, 0.9))
    canvas.build(area, mask, height, material, wall=wall, mix=mix, gain=gain)
    edge = mask & (rim < 0.5)
    canvas.build(area, edge, height + 0.7, material, wall=wall, mix=min(1.0, mix + 0.35), gain=1.05)
    for _ in range(rng.poisson(machines * length * width / 170)):
        _machine(canvas, area, length, width, height, rng)
    if rng.random() < 0.5:  # a row of skylights
        row = float(rng.uniform(-0.3, 0.3)) * width
        lights = mask & (np.abs(area.q - row) < 0.6) & (area.p % np.float32(6.0) < 1.3) & (rim > 2)
        canvas.build(area, lights, height + 0.3, Material.MEMBRANE, mix=0.9, gain=1.05)
    return True


def _machine(
    canvas: Canvas, area: Footprint, length: float, width: float, height: float, rng: np.random.Generator
) -> None:
    """Put one air conditioner (a box with a dark fan, perhaps a duct) on a roof."""
    p, q = float(rng.uniform(-0.42, 0.42)) * length, float(rng.uniform(-0.42, 0.42)) * width
    long, wide, tall = (
        float(rng.uniform(1.4, 3.6)),
        float(rng.uniform(1.2, 2.2)),
        float(rng.uniform(0.9, 1.9)),
    )
    box = (np.abs(area.p - p) < long / 2) & (np.abs(area.q - q) < wide / 2)
    canvas.build(
        area, box, height + tall, Material.METAL, wall=Material.METAL, mix=float(rng.random()), gain=0.85
    )
    fan = box & (np.hypot(area.p - p, area.q - q) < 0.5)
    canvas.gain[area.window][fan] = np.float32(0.4)
    if rng.random() < 0.3:
        duct = (
            (np.abs(area.q - q) < 0.35)
            & (area.p > p)
            & (area.p < p + rng.uniform(3, 9))
            & (area.p < 0.46 * length)
        )
        canvas.build(area, duct, height + 0.6, Material.METAL, wall=Material.METAL, mix=0.6, gain=0.9)


def _soft(rng: np.random.Generator, area: Footprint, metres: float) -> FloatArray:
    """Return smooth noise for a window, blobs of `metres`."""
    rows, cols = area.p.shape
    return noise(rng, (rows, cols), metres / GSD)


def draw_tower(
    canvas: Canvas,
    x: float,
    y: float,
    angle: float,
    length: float,
    width: float,
    height: float,
    rng: np.random.Generator,
) -> bool:
    """Draw an office tower on a podium, with a lift house on its roof; return whether there was room."""
    roof = Material(rng.choice([Material.GRAVEL, Material.MEMBRANE, Material.TAR, Material.CONCRETE]))
    wall = Material(rng.choice([Material.GLASS, Material.STUCCO, Material.CONCRETE, Material.BRICK]))
    podium = rng.random() < 0.5
    if podium and not draw_flat_roof(
        canvas, x, y, angle, length + 11, width + 9, 6.0, rng, Material.GRAVEL, wall=wall, machines=0.5
    ):
        return False
    area = canvas.area(x, y, angle, length + 2, width + 2)
    if area is None:
        return False
    mask = area.box(length, width)
    if not podium and not canvas.is_free(area, mask, 0.0):
        return False
    rim = np.minimum(length / 2 - np.abs(area.p), width / 2 - np.abs(area.q))
    gain = (1 + _soft(rng, area, 4.0) * np.float32(0.08)).astype(np.float32)
    canvas.build(area, mask, height, roof, wall=wall, mix=float(rng.random()), gain=gain)
    canvas.build(area, mask & (rim < 0.6), height + 1.1, Material.CONCRETE, wall=wall, mix=0.7)
    house = (np.abs(area.p - rng.uniform(-2, 2)) < length * 0.2) & (np.abs(area.q) < width * 0.22)
    canvas.build(area, house, height + 3.6, Material.GRAVEL, wall=Material.CONCRETE, mix=float(rng.random()))
    for _ in range(rng.poisson(length * width / 90)):
        _machine(canvas, area, length * 0.9, width * 0.9, height, rng)
    return True


def draw_tank(canvas: Canvas, x: float, y: float, radius: float, height: float) -> bool:
    """Draw a storage tank with a shallow cone for a roof; return whether there was room."""
    area = canvas.area(x, y, 0.0, 2 * radius + 1, 2 * radius + 1)
    if area is None:
        return False
    reach = np.hypot(area.p, area.q)
    mask = reach < radius
    if not canvas.is_free(area, mask, 0.0):
        return False
    tall = np.float32(height) + (np.float32(radius) - reach) * np.float32(0.12)
    fall = np.float32(-0.12) / np.maximum(reach, np.float32(0.1))
    slope = ((area.p * fall).astype(np.float32), (area.q * fall).astype(np.float32))
    canvas.build(area, mask, tall, Material.METAL, wall=Material.METAL, mix=0.8, gain=1.0, slope=slope)
    canvas.gain[area.window][mask & (np.abs(reach - radius + 0.4) < 0.3)] = np.float32(0.8)
    return True


def draw_car(
    canvas: Canvas, x: float, y: float, angle: float, rng: np.random.Generator, *, truck: bool = False
) -> None:
    """Park a car (or a lorry) that is there on some days; nothing where a building stands."""
    length, width = (float(rng.uniform(9, 15)), 2.6) if truck else (float(rng.uniform(4.2, 5.2)), 1.95)
    area = canvas.area(x, y, angle, length, width)
    if area is None:
        return
    window = area.window
    power = 12 if truck else 4
    inner = (np.abs(area.p) / (length / 2)) ** power + (np.abs(area.q) / (width / 2)) ** power < 1
    inner &= (canvas.height[window] < 0.5) & (canvas.code[window] != CODES["water"])
    body = Material.CAR_WHITE if truck else Material(_CARS[int(rng.integers(len(_CARS)))])
    canvas.car[window][inner] = body
    canvas.car_phase[window][inner] = np.float32(rng.random())
    if not truck:  # the windscreen
        glass = inner & (np.abs(area.p - 0.75) < 0.3) & (np.abs(area.q) < width * 0.4)
        canvas.car[window][glass] = Material.CAR_BLACK


def draw_parking(
    canvas: Canvas,
    x: float,
    y: float,
    angle: float,
    length: float,
    width: float,
    rng: np.random.Generator,
    *,
    full: float = 0.6,
) -> None:
    """Draw a car park: asphalt, rows of stalls with lines and cars, islands with kerbs."""
    area = canvas.area(x, y, angle, length, width)
    if area is None:
        return
    mask = area.box(length, width)
    wear = _soft(rng, area, 12.0) * np.float32(0.14) + _soft(rng, area, 2.5) * np.float32(0.05)
    canvas.paint(area, mask, Material.ASPHALT, np.clip(rng.uniform(0.1, 0.7) + wear, 0, 1).astype(np.float32))
    canvas.paint(area, mask & ~area.box(length - 0.5, width - 0.5), Material.CONCRETE, 0.6)
    aisle, stall, step = 6.4, 5.2, 2.75
    period = 2 * stall + aisle
    rows = int(max(0, (width - aisle) // period))
    if length < 14 or rows == 0:
        return
    count = int((length - 8) // step)
    for row in range(rows):
        middle = (row + 0.5) * period - rows * period / 2
        near, inside = np.abs(area.q - np.float32(middle)), np.abs(area.p) < count * step / 2 + 0.1
        bay = mask & (near < stall) & inside
        phase = (area.p + np.float32(count * step / 2)) % np.float32(step)
        canvas.paint(area, bay & ((phase < 0.16) | (phase > step - 0.16)), Material.PAINT, 0.3, 0.55)
        canvas.paint(area, bay & (near < 0.15), Material.PAINT, 0.3, 0.5)
        ends = mask & (near < stall) & (np.abs(np.abs(area.p) - count * step / 2 - 1.3) < 1.1)
        canvas.paint(area, ends, Material.GRASS, 0.4)
        for side in (-1, 1):
            for slot in range(count):
                if rng.random() < full:
                    p = (slot + 0.5) * step - count * step / 2 + rng.normal(0, 0.12)
                    q = middle + side * (stall / 2 + rng.normal(0, 0.2))
                    cx, cy = x + area.cos * p - area.sin * q, y + area.sin * p + area.cos * q
                    row_, col = int(cy / GSD), int(cx / GSD)
                    if 0 <= row_ < canvas.side and 0 <= col < canvas.side and not canvas.taken[row_, col]:
                        draw_car(canvas, cx, cy, angle + np.pi / 2, rng)
