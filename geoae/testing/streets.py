"""Streets, rivers and ponds of the synthetic town: the frame that everything else is placed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from geoae.testing.canvas import CODES, BoolArray, Canvas, FloatArray, noise
from geoae.testing.materials import Material

__all__ = ["Block", "Streets", "draw_bridge", "draw_pond", "draw_river", "draw_streets"]


@dataclass(frozen=True)
class Block:
    """One block between streets, in street coordinates (u along, v across), m."""

    i: int
    j: int
    u0: float
    v0: float
    u1: float
    v1: float

    def middle(self, network: Streets) -> tuple[float, float, float, float, float]:
        """Return x, y and direction of the middle, and length and width, m."""
        x, y, angle = network.from_frame((self.u0 + self.u1) / 2, (self.v0 + self.v1) / 2)
        return x, y, angle, self.u1 - self.u0, self.v1 - self.v0


@dataclass(frozen=True)
class Streets:
    """A street network: a rotated grid, bent by two waves where the streets curve.

    Attributes
    ----------
    angle : float
        Direction of the u axis, radians from x towards y.
    pitch_u, pitch_v : float
        Distance between streets, m.
    offset_u, offset_v : float
        Place of the street with number 0, m.
    width : float
        Width from kerb to kerb, m.
    bend, wave : float
        Amplitude and length of the curves, m.
    walk : bool
        Whether there are pavements.
    concrete : float
        0 for asphalt streets, 1 for streets of concrete slabs.
    """

    angle: float
    pitch_u: float
    pitch_v: float
    offset_u: float
    offset_v: float
    width: float = 9.0
    bend: float = 0.0
    wave: float = 170.0
    walk: bool = True
    concrete: float = 0.0

    def to_frame(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return street coordinates (u, v) of x, y."""
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        a, b = cos * x + sin * y, cos * y - sin * x
        u: FloatArray = a - np.float32(self.offset_u)
        v: FloatArray = b - np.float32(self.offset_v)
        if self.bend:
            turn = np.float32(2 * np.pi / self.wave)
            u += np.float32(self.bend * 0.6) * np.sin(turn * b * np.float32(0.8) + np.float32(1.0))
            v += np.float32(self.bend) * np.sin(turn * a)
        return u, v

    def from_frame(self, u: float, v: float) -> tuple[float, float, float]:
        """Return x, y and the direction of the u axis at street coordinates (u, v)."""

        def solve(u: float, v: float) -> tuple[float, float]:
            a, b = u + self.offset_u, v + self.offset_v
            if self.bend:
                turn = 2 * np.pi / self.wave
                for _ in range(12):  # a contraction: the waves are much longer than high
                    a = u + self.offset_u - 0.6 * self.bend * float(np.sin(turn * b * 0.8 + 1.0))
                    b = v + self.offset_v - self.bend * float(np.sin(turn * a))
            cos, sin = float(np.cos(self.angle)), float(np.sin(self.angle))
            return cos * a - sin * b, sin * a + cos * b

        x, y = solve(u, v)
        if not self.bend:
            return x, y, self.angle
        xa, ya = solve(u - 1.0, v)
        xb, yb = solve(u + 1.0, v)
        return x, y, float(np.arctan2(yb - ya, xb - xa))

    def blocks(self, extent: float) -> Iterator[Block]:
        """Yield every block that may touch a square of side `extent` at the origin."""
        corners = [
            self.to_frame(np.array(x, np.float32), np.array(y, np.float32))
            for x in (0.0, extent)
            for y in (0.0, extent)
        ]
        us, vs = [float(u) for u, _ in corners], [float(v) for _, v in corners]
        slack, half = 1.6 * self.bend, self.width / 2
        for i in range(
            int(np.floor((min(us) - slack) / self.pitch_u)), int(np.ceil((max(us) + slack) / self.pitch_u))
        ):
            for j in range(
                int(np.floor((min(vs) - slack) / self.pitch_v)),
                int(np.ceil((max(vs) + slack) / self.pitch_v)),
            ):
                u, v = i * self.pitch_u, j * self.pitch_v
                yield Block(i, j, u + half, v + half, u + self.pitch_u - half, v + self.pitch_v - half)


def _strip(
    canvas: Canvas, mask: BoolArray, material: Material, mix: FloatArray | float, gain: FloatArray | float
) -> None:
    """Paint the masked cells of the whole board."""
    canvas.material[mask] = material
    canvas.mix[mask] = mix[mask] if isinstance(mix, np.ndarray) else mix
    canvas.gain[mask] = gain[mask] if isinstance(gain, np.ndarray) else gain


def draw_streets(canvas: Canvas, streets: Streets, rng: np.random.Generator, near_water: BoolArray) -> None:
    """Draw carriageways, kerbs, pavements and lane marks; nothing where `near_water`."""
    x, y = canvas.axes()
    u, v = streets.to_frame(x, y)
    half = streets.width / 2
    number_u, number_v = np.rint(u / streets.pitch_u), np.rint(v / streets.pitch_v)
    cross_u = u - number_u * np.float32(streets.pitch_u)
    cross_v = v - number_v * np.float32(streets.pitch_v)
    du, dv = np.abs(cross_u) - half, np.abs(cross_v) - half
    radius = np.float32(5.0)
    corner = radius - np.hypot(np.maximum(radius - du, 0), np.maximum(radius - dv, 0))
    inside = np.where((du < radius) & (dv < radius) & (du > 0) & (dv > 0), corner, np.minimum(du, dv))
    dry = ~near_water
    if streets.walk:
        _strip(canvas, (inside > 1.7) & (inside < 3.1) & dry, Material.CONCRETE, 0.55, 0.96)
    _strip(canvas, (inside > -0.1) & (inside < 0.35) & dry, Material.CONCRETE, 0.35, 0.95)
    road = (inside <= 0) & dry
    shape = canvas.material.shape
    # At a crossing the v street runs on; the other one stops.
    on_u = dv > 0
    along = np.where(on_u, number_u * 7.13, number_v * 3.77 + 0.4)
    tone = np.float32(0.5) + np.float32(0.45) * np.sin(along.astype(np.float32) * np.float32(12.9))
    wear = noise(rng, shape, 60) * np.float32(0.10) + noise(rng, shape, 9) * np.float32(0.06)
    across = np.where(on_u, cross_u, cross_v)
    tracks = np.float32(0.07) * np.cos(across * np.float32(2 * np.pi / 1.75))
    if streets.concrete > 0.5:
        joints = np.where(on_u, v, u) % np.float32(5.0) < np.float32(0.3)
        gain = np.where(joints, np.float32(0.87), np.float32(0.93)) + wear * np.float32(0.5)
        _strip(canvas, road, Material.CONCRETE, np.clip(tone * np.float32(0.4) + tracks, 0, 1), gain)
    else:
        _strip(canvas, road, Material.ASPHALT, np.clip(tone + wear + tracks, 0, 1), 1.0)
    # Utility cuts: dark rectangles of fresh asphalt, picked by a hash of their place.
    cell = np.floor(np.where(on_u, v, u) / np.float32(6.3)) + np.where(across > 0, 0.37, 0.0) + along * 3.1
    patched = road & (np.sin(cell * 12.9898) * 4375.85 % 1 > 0.98) & (np.abs(across) > 0.4)
    _strip(canvas, patched, Material.ASPHALT, 0.12, 0.92)
    if streets.width > 10:
        clear = np.maximum(du, dv) > 2
        dashes = np.where(on_u, v, u) % np.float32(9.0) < 3.0
        middle = road & clear & (np.abs(np.abs(across) - 0.28) < 0.17)
        _strip(canvas, middle, Material.PAINT_YELLOW, 0.3, 0.62)
        if streets.width > 13:
            lanes = road & clear & dashes & (np.abs(np.abs(across) - np.float32(half / 2)) < 0.17)
            _strip(canvas, lanes, Material.PAINT, 0.3, 0.62)
        stop = road & (np.abs(np.maximum(du, dv) - 1.4) < 0.3) & (np.minimum(du, dv) < -0.4)
        _strip(canvas, stop, Material.PAINT, 0.3, 0.62)
        walk = road & (np.abs(np.maximum(du, dv) - 3.4) < 1.2) & (across % np.float32(1.3) < 0.6)
        _strip(canvas, walk & (np.minimum(du, dv) < -0.4), Material.PAINT, 0.3, 0.6)
    canvas.taken |= road


def draw_avenue(
    canvas: Canvas,
    at: tuple[float, float],
    angle: float,
    width: float,
    rng: np.random.Generator,
    *,
    dry: BoolArray,
) -> None:
    """Draw a straight main road through `at`, over the grid (a diagonal avenue)."""
    x, y = canvas.axes()
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    p, q = cos * (x - at[0]) + sin * (y - at[1]), cos * (y - at[1]) - sin * (x - at[0])
    aside = np.abs(q)
    _strip(
        canvas,
        (aside < width / 2 + 2.4) & (aside > width / 2 + 1.0) & ~canvas.taken & dry,
        Material.CONCRETE,
        0.5,
        0.96,
    )
    road = (aside < width / 2) & dry
    wear = noise(rng, canvas.material.shape, 40) * np.float32(0.10) + noise(
        rng, canvas.material.shape, 7
    ) * np.float32(0.05)
    tracks = np.float32(0.08) * np.cos(q * np.float32(2 * np.pi / 1.75))
    _strip(canvas, road, Material.ASPHALT, np.clip(np.float32(0.35) + wear + tracks, 0, 1), 1.0)
    _strip(canvas, road & (np.abs(aside - 0.3) < 0.17), Material.PAINT_YELLOW, 0.3, 0.65)
    dashes = (p % np.float32(9.0)) < 3.0
    _strip(canvas, road & dashes & (np.abs(aside - width / 4) < 0.17), Material.PAINT, 0.3, 0.65)
    _strip(canvas, road & (np.abs(aside - (width / 2 - 0.5)) < 0.15), Material.PAINT, 0.3, 0.55)
    canvas.taken |= road


def river_distance(
    canvas: Canvas, at: tuple[float, float], angle: float, swing: float, rng: np.random.Generator
) -> FloatArray:
    """Return the distance of every cell from the middle line of a river, m."""
    x, y = canvas.axes()
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    p, q = cos * (x - at[0]) + sin * (y - at[1]), cos * (y - at[1]) - sin * (x - at[0])
    turn = np.float32(2 * np.pi / 240)
    middle = np.float32(swing) * (np.sin(turn * p) + np.float32(0.3) * np.sin(np.float32(2.7) * turn * p + 1))
    slope = (
        np.float32(swing)
        * turn
        * (np.cos(turn * p) + np.float32(0.8) * np.cos(np.float32(2.7) * turn * p + 1))
    )
    ragged = noise(rng, canvas.material.shape, 26) * np.float32(0.9 if swing else 0.0)
    return np.asarray(np.abs(q - middle) / np.sqrt(1 + slope * slope) + ragged, np.float32)


def draw_water(
    canvas: Canvas,
    shore: FloatArray,
    rng: np.random.Generator,
    *,
    wall: bool,
    turbid: float,
    marsh: float = 0.0,
) -> None:
    """Fill with water where `shore` (m from the bank, negative inside) is below zero.

    A sea wall or a strip of reeds, sand and wet soil goes along the bank.
    """
    shape = canvas.material.shape
    water = shore < 0
    if wall:
        _strip(canvas, (shore >= 0) & (shore < 0.9), Material.CONCRETE, 0.5, 0.95)
    else:
        ragged = shore + noise(rng, shape, 14) * np.float32(1.0)
        if marsh:
            reeds = (ragged >= 0) & (ragged < marsh)
            _strip(canvas, reeds, Material.MARSH, np.clip(0.5 + 0.3 * noise(rng, shape, 8), 0, 1), 1.0)
        _strip(canvas, (ragged > -1) & (ragged < 0.9), Material.SOIL, 0.2, 0.8)
    depth = np.clip(-shore / np.float32(9.0), 0, 1)
    murk = np.float32(turbid) + (1 - depth) * np.float32(0.3) + noise(rng, shape, 70) * np.float32(0.12)
    ripple = 1 + noise(rng, shape, 3) * np.float32(0.025) + noise(rng, shape, 12) * np.float32(0.03)
    _strip(canvas, water, Material.WATER, np.clip(murk, 0, 1), ripple)
    canvas.height[water] = 0
    canvas.code[water] = CODES["water"]
    if wall:  # landing stages, like teeth along the wall
        x, y = canvas.axes()
        teeth = (np.sin(x * np.float32(0.31)) + np.sin(x * np.float32(0.17) + y * np.float32(0.02))) > 1.55
        stage = water & (shore > -4.5) & teeth
        _strip(canvas, stage, Material.DECK, 0.4, 0.8)
        canvas.code[stage] = CODES["unlabelled"]
    canvas.taken |= water
    canvas.taken |= (shore >= 0) & (shore < 1.0)


def draw_pond(canvas: Canvas, at: tuple[float, float], radius: float, rng: np.random.Generator) -> FloatArray:
    """Draw a pond with an uneven bank and return the distance from the bank, m."""
    x, y = canvas.axes()
    angle = rng.uniform(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    p, q = cos * (x - at[0]) + sin * (y - at[1]), cos * (y - at[1]) - sin * (x - at[0])
    long = rng.uniform(1.1, 1.6)
    bearing = np.arctan2(q, p)
    lobes = (
        1 + 0.14 * np.sin(2 * bearing + rng.uniform(0, 6)) + 0.08 * np.sin(3 * bearing + rng.uniform(0, 6))
    )
    shore: FloatArray = np.asarray(np.hypot(p / long, q * long**0.5) - radius * lobes, np.float32)
    draw_water(canvas, shore, rng, wall=False, turbid=float(rng.uniform(0.3, 0.8)))
    return shore


def draw_bridge(
    canvas: Canvas, at: tuple[float, float], angle: float, width: float, half_span: float, deck: float
) -> None:
    """Draw a bridge through `at`: level over the water, ramps of 8 % at both ends.

    Parameters
    ----------
    canvas : Canvas
    at : tuple of float
        Middle of the bridge, m.
    angle : float
        Direction of the road, radians.
    width : float
        Width of the deck, m.
    half_span : float
        Half the level part, m.
    deck : float
        Height of the deck above the water, m.
    """
    ramp = deck / 0.08
    area = canvas.area(at[0], at[1], angle, 2 * (half_span + ramp), width + 2)
    if area is None:
        return
    height = np.clip(deck - (np.abs(area.p) - half_span) * np.float32(0.08), 0, deck).astype(np.float32)
    aside = np.abs(area.q)
    raised = (aside < width / 2 + 0.6) & (height > 0.9)
    bank = CODES["bridge"]
    canvas.build(
        area, raised, height, Material.CONCRETE, wall=Material.CONCRETE, mix=0.45, gain=0.95, code=bank
    )
    canvas.height[area.window][raised & (aside > width / 2)] += np.float32(0.8)
    lane = raised & (aside < width / 2)
    window = area.window
    joints = (area.p % np.float32(14.0)) < 0.5
    canvas.material[window][lane] = Material.DECK
    canvas.mix[window][lane] = np.float32(0.3)
    canvas.gain[window][lane] = np.where(joints, 0.75, 1 + 0.06 * np.cos(area.q * 2 * np.pi / 1.75))[lane]
    dashes = (area.p % np.float32(9.0)) < 3.0
    for mask, material in (
        (np.abs(aside - 0.3) < 0.17, Material.PAINT_YELLOW),
        (dashes & (np.abs(aside - width / 4) < 0.17), Material.PAINT),
        (np.abs(aside - (width / 2 - 0.7)) < 0.15, Material.PAINT),
    ):
        cells = lane & mask
        canvas.material[window][cells] = material
        canvas.mix[window][cells] = np.float32(0.3)
        canvas.gain[window][cells] = np.float32(0.65)


def draw_river(
    canvas: Canvas,
    at: tuple[float, float],
    angle: float,
    width: float,
    rng: np.random.Generator,
    *,
    swing: float,
    wall: bool,
    turbid: float,
    marsh: float = 0.0,
) -> FloatArray:
    """Draw a river (or, with `wall` and no swing, a canal) and return the distance from its bank, m."""
    shore = river_distance(canvas, at, angle, swing, rng) - np.float32(width / 2)
    draw_water(canvas, shore, rng, wall=wall, turbid=turbid, marsh=marsh)
    return shore
