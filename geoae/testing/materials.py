"""Materials of the synthetic town and their reflectance in WorldView-3's eight bands.

The numbers follow what spectra of such surfaces look like: vegetation with its red edge, water that is dark
in the near infrared, flat asphalt, bright concrete, soil that rises towards the infrared. They are made to be
plausible, not to be measured from.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["BAND_NAMES", "FACADE_MATERIALS", "Material", "reflectance"]

#: WorldView-3's multispectral bands in the order of the MSI files.
BAND_NAMES = ("coastal", "blue", "green", "yellow", "red", "rededge", "nir1", "nir2")


class Material(IntEnum):
    """What a surface of the town is made of; the value indexes the table of `reflectance`."""

    GRASS = 0
    ASPHALT = 1
    CONCRETE = 2
    SOIL = 3
    SAND = 4
    WATER = 5
    POOL = 6
    BROADLEAF = 7
    EVERGREEN = 8
    CROP = 9
    MARSH = 10
    SHINGLE_GREY = 11
    SHINGLE_BROWN = 12
    SHINGLE_DARK = 13
    SHINGLE_TAN = 14
    TERRACOTTA = 15
    METAL = 16
    METAL_BLUE = 17
    MEMBRANE = 18
    GRAVEL = 19
    TAR = 20
    BRICK = 21
    STUCCO = 22
    GLASS = 23
    PAINT = 24
    PAINT_YELLOW = 25
    TRACK = 26
    COURT_GREEN = 27
    COURT_BLUE = 28
    CAR_WHITE = 29
    CAR_SILVER = 30
    CAR_BLACK = 31
    CAR_RED = 32
    CAR_BLUE = 33
    DECK = 34


#: Materials a wall can be made of; `Town.wall` holds one of them for each building cell.
FACADE_MATERIALS = (Material.BRICK, Material.STUCCO, Material.CONCRETE, Material.GLASS, Material.METAL)

_Spectrum = tuple[float, float, float, float, float, float, float, float]

# Two ends per material, per mille of reflectance: a cell's `mix` (0..1) goes from the first to the second.
_ENDS: dict[Material, tuple[_Spectrum, _Spectrum]] = {
    Material.GRASS: ((38, 50, 88, 77, 66, 205, 372, 390), (76, 94, 134, 148, 152, 226, 306, 326)),
    Material.ASPHALT: ((66, 73, 82, 87, 90, 94, 99, 102), (128, 142, 160, 170, 175, 181, 188, 191)),
    Material.CONCRETE: ((150, 168, 186, 196, 201, 207, 213, 217), (222, 248, 276, 290, 298, 305, 312, 316)),
    Material.SOIL: ((62, 76, 104, 134, 154, 178, 208, 222), (120, 148, 198, 244, 272, 302, 338, 354)),
    Material.SAND: ((150, 182, 236, 280, 305, 330, 360, 372), (240, 295, 370, 420, 448, 472, 498, 508)),
    Material.WATER: ((42, 44, 42, 30, 22, 14, 8, 5), (50, 58, 76, 72, 62, 38, 20, 12)),
    Material.POOL: ((120, 190, 205, 110, 56, 28, 16, 10), (185, 275, 280, 165, 90, 44, 24, 14)),
    Material.BROADLEAF: ((23, 29, 56, 47, 37, 172, 350, 366), (36, 46, 82, 76, 62, 205, 385, 400)),
    Material.EVERGREEN: ((22, 28, 48, 42, 35, 132, 268, 284), (32, 40, 66, 60, 51, 160, 308, 325)),
    Material.CROP: ((26, 34, 74, 54, 38, 200, 440, 460), (78, 96, 140, 168, 184, 246, 310, 330)),
    Material.MARSH: ((36, 46, 74, 76, 72, 150, 240, 250), (60, 78, 112, 128, 132, 190, 265, 275)),
    Material.SHINGLE_GREY: (
        (98, 108, 118, 124, 127, 132, 138, 141),
        (158, 174, 190, 198, 202, 207, 213, 216),
    ),
    Material.SHINGLE_BROWN: ((62, 70, 86, 108, 124, 144, 164, 174), (94, 106, 128, 156, 176, 198, 220, 230)),
    Material.SHINGLE_DARK: ((44, 48, 52, 55, 57, 61, 66, 69), (74, 81, 88, 92, 95, 100, 106, 109)),
    Material.SHINGLE_TAN: (
        (124, 142, 170, 196, 212, 228, 244, 250),
        (170, 196, 234, 264, 282, 298, 314, 320),
    ),
    Material.TERRACOTTA: ((56, 63, 86, 146, 196, 240, 276, 288), (84, 96, 130, 204, 262, 306, 342, 354)),
    Material.METAL: ((220, 244, 264, 270, 272, 272, 270, 262), (330, 366, 396, 405, 407, 405, 400, 386)),
    Material.METAL_BLUE: ((96, 140, 146, 112, 96, 104, 142, 160), (130, 190, 196, 152, 130, 138, 178, 196)),
    Material.MEMBRANE: ((280, 325, 352, 362, 366, 368, 365, 352), (390, 450, 485, 497, 502, 503, 495, 478)),
    Material.GRAVEL: ((150, 168, 190, 202, 208, 214, 221, 225), (215, 242, 272, 288, 296, 303, 310, 314)),
    Material.TAR: ((52, 56, 61, 64, 66, 69, 73, 75), (96, 105, 115, 120, 123, 127, 132, 135)),
    Material.BRICK: ((70, 78, 100, 148, 182, 210, 236, 246), (105, 116, 145, 200, 236, 262, 288, 298)),
    Material.STUCCO: ((210, 246, 294, 324, 338, 350, 360, 364), (310, 360, 420, 452, 468, 480, 490, 492)),
    Material.GLASS: ((50, 58, 56, 50, 46, 46, 52, 54), (96, 116, 118, 110, 104, 104, 112, 114)),
    Material.PAINT: ((270, 310, 345, 355, 358, 360, 362, 360), (360, 410, 450, 460, 465, 468, 470, 468)),
    Material.PAINT_YELLOW: (
        (100, 125, 290, 380, 400, 412, 420, 422),
        (120, 150, 330, 430, 450, 460, 470, 470),
    ),
    Material.TRACK: ((74, 76, 88, 160, 220, 240, 254, 258), (94, 97, 112, 190, 254, 274, 288, 292)),
    Material.COURT_GREEN: ((60, 82, 110, 84, 66, 76, 110, 124), (72, 98, 132, 100, 80, 90, 126, 140)),
    Material.COURT_BLUE: ((100, 150, 124, 82, 66, 76, 122, 140), (120, 176, 148, 98, 80, 90, 138, 156)),
    Material.CAR_WHITE: ((420, 480, 510, 515, 518, 516, 505, 490), (470, 540, 570, 576, 580, 576, 566, 550)),
    Material.CAR_SILVER: ((200, 225, 240, 245, 246, 246, 246, 240), (270, 300, 320, 326, 328, 328, 326, 318)),
    Material.CAR_BLACK: ((26, 28, 30, 31, 32, 34, 38, 40), (46, 50, 53, 55, 56, 58, 62, 64)),
    Material.CAR_RED: ((44, 42, 42, 110, 250, 300, 330, 335), (52, 50, 52, 130, 290, 345, 375, 380)),
    Material.CAR_BLUE: ((60, 90, 66, 46, 42, 60, 120, 140), (84, 124, 92, 64, 58, 80, 150, 170)),
    Material.DECK: ((96, 108, 122, 131, 136, 142, 148, 152), (150, 166, 186, 197, 203, 210, 217, 221)),
}

# What a deciduous crown and a lawn become when the season is over: twigs and straw.
_DORMANT: dict[Material, tuple[_Spectrum, _Spectrum]] = {
    Material.BROADLEAF: ((70, 82, 102, 116, 124, 150, 190, 204), (92, 108, 134, 152, 164, 196, 240, 254)),
    Material.GRASS: ((64, 80, 118, 134, 138, 200, 280, 300), (92, 114, 158, 190, 204, 248, 306, 322)),
    Material.CROP: ((74, 90, 124, 156, 176, 208, 248, 262), (112, 136, 182, 224, 248, 280, 316, 330)),
    Material.MARSH: ((60, 74, 104, 124, 134, 168, 214, 224), (88, 108, 146, 172, 186, 218, 258, 268)),
}


def reflectance(dormancy: float = 0.0) -> NDArray[np.float32]:
    """Return the reflectance of every material at both ends of its range.

    Parameters
    ----------
    dormancy : float
        Season of the vegetation: 0 in full leaf, 1 leafless and dry.

    Returns
    -------
    ndarray, shape (material, 2, 8), float32
        Reflectance (0..1) in the order of `BAND_NAMES`; axis 1 holds the ends that `Town.mix` blends.

    Examples
    --------
    >>> table = reflectance()
    >>> table.shape
    (35, 2, 8)
    >>> bool(table[Material.GRASS, 0, 6] > 5 * table[Material.GRASS, 0, 4])  # the red edge
    True
    """
    table = np.array([_ENDS[material] for material in Material], dtype=np.float32)
    for material, ends in _DORMANT.items():
        table[material] += np.float32(dormancy) * (np.array(ends, dtype=np.float32) - table[material])
    return table / np.float32(1000.0)
