"""Guesses: what the files of one kind are, and which of that a person must decide."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyproj

from geoae.catalog.modality import Role
from geoae.drafts.looks import Sample
from geoae.drafts.patterns import is_band, known_word
from geoae.raster import RasterHeader

__all__ = ["Guess", "guess"]

MAX_CODES = 64
"""More values than that in a sample are no label codes."""

_SENTINELS = (-999.0, -9999.0, -10000.0, -32767.0, -32768.0)
"""Heights that mean void in files of many makers."""

_FEET = {"foot": "foot", "US survey foot": "us-survey-foot"}
_STATED = {
    **dict.fromkeys(("ft", "foot", "feet"), "foot"),
    **dict.fromkeys(("us survey foot", "us-ft", "ftus", "foot_us", "us_survey_foot"), "us-survey-foot"),
    **dict.fromkeys(("m", "metre", "meter", "metres", "meters"), "metre"),
    **dict.fromkeys(("cm", "centimetre", "centimeter"), "centimetre"),
    **dict.fromkeys(("dm", "decimetre", "decimeter"), "decimetre"),
}


_HEIGHTS = (-500.0, 9000.0)
"""Metres between which there is ground on Earth."""


@dataclass
class Guess:
    """What the files of one kind seem to be.

    Parameters
    ----------
    kinds
        The kind as names have it, in all its spellings.
    role
        Its role.
    keys
        Keys of the modality in the order in which they are written.
    remarks
        For a key: why it is so. Those that begin with ``DECIDE`` ask a person.
    codes
        Label codes that were seen, with how often.
    key
        Name of the modality.
    """

    kinds: tuple[str, ...]
    role: Role
    keys: dict[str, Any] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    codes: Mapping[int, int] = field(default_factory=dict)
    key: str = ""


def guess(kinds: Sequence[str], headers: Sequence[RasterHeader], sample: Sample) -> Guess:
    """Guess what files are.

    Parameters
    ----------
    kinds
        Spellings of their kind.
    headers
        Their headers; at least one.
    sample
        Some of their pixels.
    """
    most = Counter((header.count, header.dtype) for header in headers).most_common(1)[0][0]
    word = known_word(kinds[0])
    role, reason = _role(kinds[0], most, sample, word, headers)
    made = Guess(tuple(kinds), role, remarks={"role": reason})
    if len({(header.count, header.dtype) for header in headers}) > 1:
        made.remarks["role"] = (
            f"DECIDE: files differ in bands or type; most are {most[0]} x {most[1]}. {reason}"
        )
    fitting = [header for header in headers if (header.count, header.dtype) == most]
    {"image": _image, "height": _height, "label": _label}[role](made, fitting, sample, word)
    tags = sorted({f"{header.nodata:g}" for header in headers if header.nodata is not None} - {"nan"})
    if tags:
        made.keys["nodata"] = "auto"
        white = role == "image" and most[1] == "uint8" and "255" in tags
        made.remarks["nodata"] = f"the files say {', '.join(tags)}" + (
            ", which is also white: not taken for void unless you write tag" if white else ""
        )
    return made


def _role(
    kind: str,
    look: tuple[int, str],
    sample: Sample,
    word: tuple[str, str] | None,
    headers: Sequence[RasterHeader],
) -> tuple[Role, str]:
    count, dtype = look
    integer = np.dtype(dtype).kind in "iu"
    few = sample.codes is not None and 0 < len(sample.codes) <= MAX_CODES
    codes = (
        integer and few and sample.codes is not None and 0 <= min(sample.codes) <= max(sample.codes) <= 255
    )
    if count > 1:
        return "image", f"{count} bands of {dtype}"
    if word is not None and word[0] == "label" and codes:
        return "label", f"by its name; {len(sample.codes or ())} codes in a sample"
    if word is not None and word[0] == "height":
        return "height", f"by its name; one band of {dtype}"
    if word is not None and word[0] == "label" and not integer:
        return "image", f"DECIDE: {dtype}; labels are integers (gdal_translate -ot Byte makes them so)"
    if word is not None and word[0] == "label":
        return "image", f"DECIDE: {dtype} with values beyond the codes 0 to 255 that a label may have"
    if word is not None and word[0] == "image":
        return "image", f"by its name; one band of {dtype}"
    if is_band(kind):
        return "image", f"by its name, a band in a file of its own; {dtype}"
    if not integer and sample.quantiles[1] > _HEIGHTS[1]:
        return "image", f"DECIDE: one band of {dtype}; half of a sample is above {sample.quantiles[1]:.4g}"
    if not integer:
        return "height", f"DECIDE: one band of {dtype} may be heights, or any other measure (then: image)"
    if codes:
        return "label", f"DECIDE: one band of {dtype} with {len(sample.codes or ())} values in a sample"
    if np.dtype(dtype).kind == "i" and any(header.grid.crs is not None for header in headers):
        return "height", f"DECIDE: one band of {dtype} may be heights in whole units (else: image)"
    return "image", f"DECIDE: one band of {dtype} with many values"


def _image(
    made: Guess, headers: Sequence[RasterHeader], sample: Sample, word: tuple[str, str] | None
) -> None:
    first = headers[0]
    # A mask of what is to be seen is no band of the image.
    shown = [i for i, color in enumerate(first.colors, start=1) if color != "alpha"]
    if shown and len(shown) < first.count:
        made.keys["band_indices"] = shown
        made.remarks["band_indices"] = "the other band is alpha, which says what is to be seen"
    count = len(shown) or first.count
    names = {header.band_names for header in headers}
    named = next(iter(names)) if len(names) == 1 else ()
    named = tuple(named[i - 1] for i in shown) if named else ()
    if named and all(named) and len(set(named)) == len(named):
        made.keys["bands"] = list(named)
        made.remarks["bands"] = "as the files name them; add wavelength and bandwidth in nm"
    elif count == 3 and first.dtype == "uint8" and (word is None or word[1] == "rgb"):
        made.keys["bands"] = ["red", "green", "blue"]
        made.remarks["bands"] = "DECIDE: three bands of 8 bits are red, green, blue in most files"
    elif count > 1:
        made.remarks["bands"] = (
            f"DECIDE: name the {count} bands in the files' order, "
            "as bands: [{name: ..., wavelength: nm}, ...]"
        )
    made.keys["dtype"] = first.dtype
    if first.dtype != "uint8" and np.isfinite(sample.high):
        made.remarks["range"] = (
            f"DECIDE: range: [lowest, highest] that mean something; a sample has {sample.low:.5g} to "
            f"{sample.high:.5g}"
        )


def _height(
    made: Guess, headers: Sequence[RasterHeader], sample: Sample, word: tuple[str, str] | None
) -> None:
    above = word is not None and word[1] in ("agl", "chm")
    low, middle, high = sample.quantiles
    if word is None or word[0] != "height":
        above = bool(-5 < low < 3 and middle < 30 and high < 150)
        made.remarks["quantity"] = f"DECIDE: above-ground or surface; half of a sample is below {middle:.4g}"
    made.keys["quantity"] = "above-ground" if above else "surface"
    made.keys["unit"], made.remarks["unit"] = _unit(headers)
    made.keys["void"] = [int(value) for value in _SENTINELS]
    if np.isfinite(sample.low) and sample.low < -500 and sample.low not in _SENTINELS:
        made.remarks["void"] = f"DECIDE: the lowest value of a sample is {sample.low:.6g}: a void?"
    made.keys["valid_range"] = [int(value) for value in _HEIGHTS]
    made.remarks["valid_range"] = "metres; heights outside are void"


def _unit(headers: Sequence[RasterHeader]) -> tuple[str, str]:
    stated = {unit.casefold() for header in headers for unit in header.units if unit}
    if len(stated) == 1 and (unit := _STATED.get(next(iter(stated)))):
        return unit, "as the files state"
    systems = {header.grid.crs for header in headers if header.grid.crs is not None}
    linear = {pyproj.CRS.from_user_input(crs).axis_info[0].unit_name for crs in systems}
    if len(linear) == 1 and (unit := _FEET.get(next(iter(linear)))):
        return unit, "DECIDE: guessed from the unit of the CRS; heights may be in metres"
    return "metre", "DECIDE: no file states its unit"


def _label(
    made: Guess, headers: Sequence[RasterHeader], sample: Sample, _word: tuple[str, str] | None
) -> None:
    voids = {header.nodata for header in headers}
    made.codes = {code: n for code, n in sorted((sample.codes or {}).items()) if code not in voids}
