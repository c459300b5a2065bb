"""Class tables: what label codes mean."""

import colorsys
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from geoae.catalog.strict import StrictModel, require_unique

__all__ = ["VOID", "ClassEntry", "ClassTable", "class_colors"]

VOID = 255
"""Class position of label codes that belong to no class."""

# Paul Tol's scheme "muted": its colours can be told apart with every kind of colour blindness.
# fmt: off
_MUTED = (
    "#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499",
)
# fmt: on

_COLOR = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)


def class_colors(number: int) -> tuple[str, ...]:
    """Return colours for classes whose meaning is not known yet.

    Nine of them can be told apart without seeing red or green; further ones only differ.

    Parameters
    ----------
    number
        How many, at most 255.

    Examples
    --------
    >>> class_colors(2), len(set(class_colors(255)))
    (('#cc6677', '#332288'), 255)
    """
    colors = list(_MUTED[:number])
    while len(colors) < number:
        # Steps of the golden section through the hues never come back to one; lightness alternates.
        step = len(colors)
        red, green, blue = colorsys.hls_to_rgb(step * 0.618034 % 1, (0.35, 0.55, 0.75)[step % 3], 0.6)
        colors.append(f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}")
    return tuple(colors)


class ClassEntry(StrictModel):
    """One class of a class table.

    Parameters
    ----------
    code
        The code that stands for the class in results.
    codes
        All raw label codes that belong to it; `code` alone if not given.
    name
        Name of the class.
    color
        ``#rrggbb``, chosen so that all colours of a table can be told apart without seeing red or green.
    """

    code: int = Field(ge=0, le=254)
    codes: tuple[int, ...] = ()
    name: str = Field(min_length=1)
    color: str

    @model_validator(mode="before")
    @classmethod
    def _own_code(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("codes") is None and "code" in data:
            return {**data, "codes": (data["code"],)}
        return data

    @field_validator("codes")
    @classmethod
    def _one_byte(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 0 or max(value) > 255:
            raise ValueError("one or more codes between 0 and 255")
        return value

    @field_validator("color")
    @classmethod
    def _hexadecimal(cls, value: str) -> str:
        if not _COLOR.fullmatch(value):
            raise ValueError(f"a colour is written '#rrggbb', not {value!r}")
        return value.lower()


class ClassTable(StrictModel):
    """A meaning of the label codes: some codes form classes, all others are void.

    Parameters
    ----------
    title
        A name for people.
    classes
        The classes, in order.
    """

    title: str = ""
    classes: tuple[ClassEntry, ...] = Field(min_length=1, max_length=VOID)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        require_unique("classes", [entry.name for entry in self.classes])
        require_unique("classes", [entry.code for entry in self.classes])
        require_unique("classes", [code for entry in self.classes for code in entry.codes])
        return self

    @classmethod
    def of_codes(cls, codes: Iterable[int], names: Mapping[int, str]) -> Self:
        """Return a table in which every code is a class of its own.

        Parameters
        ----------
        codes
            Raw label codes, 0 to 254; 255 stands for void and is left out.
        names
            Names of codes; a code without one is ``code_<number>``.

        Raises
        ------
        ValueError
            If there is no code.

        Examples
        --------
        >>> [entry.name for entry in ClassTable.of_codes([6, 2, 255], {2: "ground"}).classes]
        ['ground', 'code_6']
        """
        known = sorted({int(code) for code in codes} - {VOID})
        called = [names.get(code) or f"code_{code}" for code in known]
        # Two codes may have one name, which classes may not.
        called = [
            name if called.count(name) == 1 else f"{name}_{code}"
            for name, code in zip(called, known, strict=True)
        ]
        colors = class_colors(len(known))
        classes = [
            {"code": code, "name": name, "color": color}
            for code, name, color in zip(known, called, colors, strict=True)
        ]
        return cls.model_validate({"title": "Every label code a class", "classes": classes})

    def lookup(self) -> npt.NDArray[np.uint8]:
        """Return the class position of every label code.

        Returns
        -------
        numpy.ndarray
            ``(256,)`` uint8: position in `classes`, or 255 where the code is void.

        Examples
        --------
        >>> table = ClassTable(classes=[{"code": 2, "name": "ground", "color": "#ddcc77"},
        ...     {"code": 5, "codes": [3, 4, 5], "name": "vegetation", "color": "#117733"}])
        >>> table.lookup()[[0, 2, 3, 5, 65]].tolist()
        [255, 0, 1, 1, 255]
        """
        table = np.full(256, VOID, dtype=np.uint8)
        for position, entry in enumerate(self.classes):
            table[list(entry.codes)] = position
        return table
