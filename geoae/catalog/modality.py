"""Modalities: images, heights and labels, and their bands."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from geoae.catalog.strict import StrictModel, require_unique

__all__ = ["Band", "Extraction", "Modality", "Resampling", "Role", "Unit"]

Role = Literal["image", "height", "label"]
Unit = Literal["metre", "foot", "us-survey-foot", "decimetre", "centimetre"]
Resampling = Literal["nearest", "bilinear", "cubic", "average", "mode"]

_ONLY_FOR: Mapping[str, Role] = {
    "bands": "image",
    "dtype": "image",
    "range": "image",
    "extract": "image",
    "black_is_void": "image",
    "unit": "height",
    "quantity": "height",
    "void": "height",
    "valid_range": "height",
}

_IMAGE_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


class Band(StrictModel):
    """One band of an image.

    Parameters
    ----------
    name
        Name, unique in its modality.
    wavelength
        Centre of the band in nm.
    bandwidth
        Width of the band in nm.
    """

    name: str = Field(min_length=1)
    wavelength: float | None = Field(default=None, gt=0)
    bandwidth: float | None = Field(default=None, gt=0)


class Extraction(StrictModel):
    """How to make an image that is missing out of the bands of another one.

    Each scene is stretched linearly between two percentiles of its valid pixels, to uint8.

    Parameters
    ----------
    modality
        The image to take the bands from.
    bands
        Names of its bands, in the order of the result.
    percentiles
        Lower and upper percentile, which become 0 and 255.
    """

    modality: str
    bands: tuple[str, ...] = Field(min_length=1)
    percentiles: tuple[float, float] = (2.0, 98.0)

    @field_validator("percentiles")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] < value[1] <= 100:
            raise ValueError("two percentiles, the lower one first, between 0 and 100")
        return value


class Modality(StrictModel):
    """One kind of raster of a scene.

    Parameters
    ----------
    role
        ``image``, ``height`` or ``label``.
    kinds
        What ``{kind}`` is in the names of its files; case does not matter.
    title
        A name for people.
    bands
        Bands of an image. Without them an image has the bands that its file has, as ``band_1``, ...
    band_indices
        Which bands of the file these are, from 1; without it all of them, in order.
    dtype
        Data type that an image must have; without it the file's.
    range
        Values of an image that mean something, lowest and highest; 0 and 255 for uint8 if not given.
    unit
        Unit of heights in the file.
    quantity
        Whether heights are ``above-ground`` or those of the ``surface``.
    nodata
        ``auto`` takes the file's nodata tag for void, but for 255 in a uint8 image, where white is
        legitimate; ``tag`` takes it always, ``none`` never.
    void
        Heights that mean void beside NaN and infinity, in the file's unit.
    black_is_void
        Whether a pixel of an image is void if all its bands are 0.
    valid_range
        Lowest and highest height in metres that is no error; others are void.
    resampling
        How the modality is brought to another grid; nearest for labels, else bilinear.
    layout
        ``band-first``, ``hwc`` (height, width, band, as tifffile writes it) or ``auto``.
    extract
        How to make an image where its file is missing.
    """

    role: Role
    kinds: tuple[str, ...] = Field(min_length=1)
    title: str = ""
    bands: tuple[Band, ...] | None = Field(default=None, min_length=1)
    band_indices: tuple[int, ...] | None = Field(default=None, min_length=1)
    dtype: str | None = None
    range: tuple[float, float] | None = None
    unit: Unit | None = None
    quantity: Literal["above-ground", "surface"] | None = None
    nodata: Literal["auto", "tag", "none"] = "auto"
    void: tuple[float, ...] = ()
    black_is_void: bool = True
    valid_range: tuple[float, float] | None = None
    resampling: Resampling
    layout: Literal["auto", "band-first", "hwc"] = "auto"
    extract: Extraction | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_role(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        role = filled.get("role")
        if filled.get("resampling") is None:
            filled["resampling"] = "nearest" if role == "label" else "bilinear"
        if role == "height" and filled.get("unit") is None:
            filled["unit"] = "metre"
        return filled

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, value: str | None) -> str | None:
        if value is not None and value not in _IMAGE_DTYPES:
            raise ValueError(f"no data type {value!r}; known: {', '.join(_IMAGE_DTYPES)}")
        return value

    @field_validator("range", "valid_range")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("two numbers, the lower one first")
        return value

    @field_validator("band_indices")
    @classmethod
    def _from_one(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and min(value) < 1:
            raise ValueError("bands are counted from 1")
        if value is not None and len(set(value)) < len(value):
            raise ValueError("a band is there twice")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key, role in _ONLY_FOR.items():
            value = getattr(self, key)
            default = type(self).model_fields[key].default
            if role != self.role and value != default:
                raise ValueError(f"{key}: only for role {role}")
        if self.role == "height" and self.quantity is None:
            raise ValueError("quantity: say whether heights are above-ground or those of the surface")
        if self.role == "label" and self.resampling not in ("nearest", "mode"):
            raise ValueError(f"resampling: {self.resampling} would mix label codes; use nearest or mode")
        require_unique("bands", [band.name for band in self.bands or ()])
        if self.band_indices is not None:
            wanted = len(self.bands) if self.bands else None if self.role == "image" else 1
            if wanted is not None and len(self.band_indices) != wanted:
                raise ValueError(f"band_indices: {len(self.band_indices)} of them for {wanted} bands")
        return self

    def band_names(self, count: int) -> tuple[str, ...]:
        """Return the names of an image's bands.

        Parameters
        ----------
        count
            How many bands the file has, used where the catalog neither names nor chooses bands.

        Returns
        -------
        tuple of str
            The catalog's names; else ``band_<number in the file>``, so that the third band of a file is
            ``band_3`` also if it is the only one that is taken.

        Examples
        --------
        >>> Modality(role="image", kinds=["PAN"]).band_names(2)
        ('band_1', 'band_2')
        >>> Modality(role="image", kinds=["PAN"], band_indices=[4, 2]).band_names(8)
        ('band_4', 'band_2')
        """
        if self.bands is not None:
            return tuple(band.name for band in self.bands)
        if self.band_indices is not None:
            return tuple(f"band_{number}" for number in self.band_indices)
        return tuple(f"band_{number}" for number in range(1, count + 1))
