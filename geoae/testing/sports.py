"""Sports grounds of the synthetic town, in their real sizes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from geoae.testing.canvas import GSD, BoolArray, Canvas, Footprint, noise
from geoae.testing.materials import Material

__all__ = ["Ground", "draw_ground"]

Ground = Literal["stadium", "soccer", "baseball", "tennis"]

_SIZE: dict[Ground, tuple[float, float]] = {
    "stadium": (180.0, 96.0),
    "soccer": (98.0, 62.0),
    "baseball": (180.0, 180.0),
    "tennis": (34.0, 36.0),
}


def draw_ground(
    canvas: Canvas, x: float, y: float, angle: float, kind: Ground, rng: np.random.Generator
) -> bool:
    """Draw a sports ground and keep trees off it; return whether there was room.

    Parameters
    ----------
    canvas : Canvas
    x, y : float
        Its middle (of a baseball ground: home plate), m.
    angle : float
        Direction of its long side, radians.
    kind : {"stadium", "soccer", "baseball", "tennis"}
        A running track around a pitch, a pitch, a diamond, or two courts.
    rng : numpy.random.Generator
    """
    area = canvas.area(x, y, angle, *_SIZE[kind])
    if area is None:
        return False
    if kind == "stadium":
        ground = np.hypot(np.maximum(np.abs(area.p) - 42.0, 0), area.q) < 45.5
    elif kind == "baseball":
        ground = (area.p > -2) & (area.q > -2) & (np.hypot(area.p, area.q) < 70)
    else:
        ground = area.box(*_SIZE[kind])
    if not canvas.is_free(area, ground, 0.03):
        return False
    if kind == "baseball":
        _draw_diamond(canvas, area, ground)
    elif kind == "tennis":
        _draw_courts(canvas, area, ground)
    else:
        mown = ground
        if kind == "stadium":
            mown = _draw_track(canvas, area, ground, rng)
        _draw_pitch(canvas, area, mown, rng)
    canvas.taken[area.window] |= ground
    return True


def _draw_track(canvas: Canvas, area: Footprint, ground: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Draw a running track of eight lanes and return what lies inside it."""
    bend = np.hypot(np.maximum(np.abs(area.p) - 42.0, 0), area.q)
    rows, cols = area.p.shape
    wear = (1 + noise(rng, (rows, cols), 9) * 0.03).astype(np.float32)
    canvas.paint(area, ground, Material.TRACK, 0.5, wear)
    lanes = ground & ((bend - 36.5) % np.float32(1.22) < 0.18)
    canvas.paint(area, lanes, Material.TRACK, 0.5, 1.25)
    return np.asarray(bend < 36.5)


def _draw_pitch(canvas: Canvas, area: Footprint, mown: BoolArray, rng: np.random.Generator) -> None:
    """Draw a football pitch: mown stripes, lines, worn goalmouths."""
    rows, cols = area.p.shape
    stripes = np.where((area.p % np.float32(9.6)) < 4.8, np.float32(0.05), np.float32(0.22))
    blotch = np.abs(noise(rng, (rows, cols), 2 / GSD)) * np.float32(0.05)
    canvas.paint(area, mown, Material.GRASS, stripes + blotch)
    p, q = np.abs(area.p), np.abs(area.q)
    lines = (np.abs(p - 46) < 0.17) & (q < 27) | (np.abs(q - 27) < 0.17) & (p < 46) | (p < 0.17) & (q < 27)
    lines |= np.abs(np.hypot(area.p, area.q) - 9.15) < 0.17
    lines |= (np.abs(p - 30) < 0.17) & (q < 16) | (np.abs(q - 16) < 0.17) & (p > 30) & (p < 46)
    canvas.paint(area, lines & mown, Material.PAINT, 0.3, 0.6)
    canvas.paint(area, mown & (np.hypot((p - 43) / 5, q / 4) < 0.6), Material.SOIL, 0.5, 0.9)


def _draw_courts(canvas: Canvas, area: Footprint, ground: BoolArray) -> None:
    """Draw two tennis courts."""
    canvas.paint(area, ground, Material.COURT_GREEN, 0.4)
    for centre in (-8.5, 8.5):
        p, q = np.abs(area.p - np.float32(centre)), np.abs(area.q)
        canvas.paint(area, (p < 5.5) & (q < 11.9), Material.COURT_BLUE, 0.5)
        lines = ((np.abs(p - 5.5) < 0.16) | (np.abs(p - 4.1) < 0.16)) & (q < 11.9)
        lines |= ((np.abs(q - 11.9) < 0.16) & (p < 5.5)) | ((np.abs(q - 6.4) < 0.16) & (p < 4.1))
        canvas.paint(area, lines, Material.PAINT, 0.5, 0.75)


def _draw_diamond(canvas: Canvas, area: Footprint, ground: BoolArray) -> None:
    """Draw a baseball ground: skinned infield, mown outfield, warning track; home plate at the origin."""
    reach = np.hypot(area.p, area.q)
    canvas.paint(area, ground, Material.SOIL, 0.75, 0.95)
    stripes = np.where(((area.p - area.q) % np.float32(11)) < 5.5, np.float32(0.05), np.float32(0.2))
    canvas.paint(area, ground & (area.p > 0) & (area.q > 0) & (reach < 66), Material.GRASS, stripes)
    infield = ground & (np.hypot(area.p - 14, area.q - 14) < 27)
    canvas.paint(area, infield, Material.SOIL, 0.7)
    inner = (area.p > 2.5) & (area.q > 2.5) & (area.p < 25) & (area.q < 25)
    canvas.paint(area, inner, Material.GRASS, 0.1)
    for base_p, base_q in ((0.5, 0.5), (27, 0.5), (0.5, 27), (27, 27)):
        canvas.paint(area, ground & (np.hypot(area.p - base_p, area.q - base_q) < 3.5), Material.SOIL, 0.7)
    canvas.paint(area, np.hypot(area.p - 13.5, area.q - 13.5) < 2.6, Material.SOIL, 0.7)
    lines = ground & ((np.abs(area.p) < 0.16) | (np.abs(area.q) < 0.16))
    canvas.paint(area, lines, Material.PAINT, 0.5, 0.8)
