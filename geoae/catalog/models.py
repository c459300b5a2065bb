"""The catalog itself, and what its parts must agree on."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Literal, Self

from pydantic import Field, model_validator

from geoae import schema
from geoae.catalog.classes import ClassTable
from geoae.catalog.modality import Modality, Role
from geoae.catalog.naming import KIND, VERSION, Name, Naming, compile_template, compiled, placeholders
from geoae.catalog.strict import StrictModel, checked, require_unique
from geoae.provenance import digest_of

__all__ = ["Catalog", "City"]

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_ROOT_NAMES = frozenset(
    {*schema.COORDINATES, schema.PATCH, schema.SCENE, schema.MODALITY, "valid_fraction", "x", "y", "split"}
)


class City(StrictModel):
    """A city, or whatever the first part of names stands for.

    Parameters
    ----------
    title
        Its name.
    crs
        Its usual coordinate reference system: information for people, never given to a raster.
    gsd
        Nominal pixel size in metres.
    """

    title: str
    crs: str | None = None
    gsd: float | None = Field(default=None, gt=0)


class Catalog(StrictModel):
    """How a data set looks.

    Parameters
    ----------
    format
        Version of the catalog format, 1.
    name, title, description
        What the catalog is called, and what it describes.
    licence, citation
        Terms of the data set, and how to cite it.
    names
        Templates of file names; the first that fits is taken.
    fields
        Regular expression of each field.
    exclude
        Regular expressions of whole file names, ignoring case, that are not part of the data set.
    modalities
        The modalities by the names of their variables in a cube.
    class_tables
        Meanings of the label codes.
    default_class_table
        The one to use if none is asked for.
    codes
        Names of raw label codes.
    reference
        Modalities in the order in which they give a scene's grid; without it the finest one does.
    group
        Field that splits must not cut. Its values are taken within a city.
    cities
        Cities by the value of ``{city}``.
    gsd
        Nominal pixel size in metres.
    """

    format: Literal[1]
    name: str
    title: str
    description: str = ""
    licence: str = ""
    citation: str = ""
    names: tuple[Naming, ...] = ()
    fields: Mapping[str, str] = Field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    modalities: Mapping[str, Modality] = Field(min_length=1)
    class_tables: Mapping[str, ClassTable] = Field(default_factory=dict)
    default_class_table: str | None = None
    codes: Mapping[int, str] = Field(default_factory=dict)
    reference: tuple[str, ...] = ()
    group: str = "tile"
    cities: Mapping[str, City] = Field(default_factory=dict)
    gsd: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for check in (_check_variables, _check_kinds, _check_extractions, _check_tables, _check_names):
            check(self)
        return self

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        """Modality by kind, in lower case."""
        return {kind.lower(): key for key, modality in self.modalities.items() for kind in modality.kinds}

    @cached_property
    def _patterns(self) -> tuple[tuple[Naming, re.Pattern[str]], ...]:
        return tuple((name, compile_template(name.file, self.fields, self.kinds)) for name in self.names)

    @cached_property
    def _excluded(self) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(regex, re.DOTALL | re.IGNORECASE) for regex in self.exclude)

    def excludes(self, file_name: str) -> bool:
        """Say whether the catalog leaves a file of this name out on purpose."""
        return any(pattern.fullmatch(file_name) for pattern in self._excluded)

    def parse(self, file_name: str) -> Name | None:
        """Read a file's name.

        Parameters
        ----------
        file_name
            The last part of a path.

        Returns
        -------
        Name or None
            None if no template explains the name, or if it is excluded.
        """
        if self.excludes(file_name):
            return None
        for naming, pattern in self._patterns:
            if match := pattern.fullmatch(file_name):
                fields = match.groupdict()
                kind = fields.pop(KIND, naming.kind)
                digits = re.sub("[^0-9]", "", fields.pop(VERSION, ""))
                key = naming.scene.format_map(fields)
                if key in (".", ".."):  # a folder, to whoever writes a file for each scene
                    return None
                return Name(key, self.kinds[str(kind).lower()], fields, int(digits or 0))
        return None

    def role(self, role: Role) -> tuple[str, ...]:
        """Return the modalities of a role, in the catalog's order."""
        return tuple(key for key, modality in self.modalities.items() if modality.role == role)

    def digest(self) -> str:
        """Return the digest of everything that the catalog says."""
        # Canonical JSON sorts keys, but the order of modalities means something.
        return digest_of({"catalog": self.model_dump(mode="json"), "order": list(self.modalities)})


def _check_variables(catalog: Catalog) -> None:
    names = list(_ROOT_NAMES)
    for key, modality in catalog.modalities.items():
        if not _IDENTIFIER.fullmatch(key):
            raise ValueError(f"modalities.{key}: use lower-case letters, digits and '_'")
        names += [key]
        if modality.role != "height":
            names += [schema.valid_name(key)]
        if modality.role == "image":
            names += [schema.band_dim(key), f"{key}_wavelength", f"{key}_bandwidth"]
    for key in catalog.modalities:
        if names.count(key) > 1:
            raise ValueError(f"modalities.{key}: a cube has another variable of this name")


def _check_kinds(catalog: Catalog) -> None:
    owner: dict[str, str] = {}
    for key, modality in catalog.modalities.items():
        for kind in modality.kinds:
            if other := owner.get(kind.lower()):
                raise ValueError(f"modalities.{key}.kinds: {kind!r} is a kind of {other}, too")
            owner[kind.lower()] = key


def _check_extractions(catalog: Catalog) -> None:
    for key, modality in catalog.modalities.items():
        if modality.extract is None:
            continue
        path, extract = f"modalities.{key}.extract", modality.extract
        source = catalog.modalities.get(extract.modality)
        if source is None or source.role != "image" or extract.modality == key:
            raise ValueError(f"{path}.modality: {extract.modality!r} is no other image of this catalog")
        for band in extract.bands:
            if source.bands is None or band not in source.band_names(0):
                raise ValueError(f"{path}.bands: {extract.modality} has no band {band!r}")
        if modality.bands is not None and len(modality.bands) != len(extract.bands):
            raise ValueError(f"{path}.bands: {len(extract.bands)} of them for {len(modality.bands)} bands")
        if modality.dtype not in (None, "uint8"):
            raise ValueError(f"{path}: makes uint8, not {modality.dtype}")


def _check_tables(catalog: Catalog) -> None:
    if catalog.class_tables and catalog.default_class_table is None:
        raise ValueError(f"default_class_table: choose one of {', '.join(catalog.class_tables)}")
    if catalog.default_class_table is not None and catalog.default_class_table not in catalog.class_tables:
        raise ValueError(f"default_class_table: no class table {catalog.default_class_table!r}")
    for code in catalog.codes:
        if not 0 <= code <= 255:
            raise ValueError(f"codes.{code}: a label code lies between 0 and 255")
    for key in catalog.reference:
        if key not in catalog.modalities:
            raise ValueError(f"reference: no modality {key!r}")
    require_unique("reference", catalog.reference)


def _check_names(catalog: Catalog) -> None:
    def compile_file(template: str) -> re.Pattern[str]:
        return compile_template(template, catalog.fields, catalog.kinds)

    used: set[str] = set()
    for name, regex in catalog.fields.items():
        checked(f"fields.{name}", compiled, regex)
        if name == KIND:
            raise ValueError("fields.kind: the kinds of the modalities say what {kind} may be")
    for number, regex in enumerate(catalog.exclude):
        checked(f"exclude.{number}", compiled, regex)
    for number, naming in enumerate(catalog.names):
        checked(f"names.{number}.file", compile_file, naming.file)
        used |= set(placeholders(naming.file))
        if naming.kind is not None and naming.kind.lower() not in catalog.kinds:
            raise ValueError(f"names.{number}.kind: {naming.kind!r} is a kind of no modality")
    if catalog.names:
        for name in sorted(set(catalog.fields) - used):
            raise ValueError(f"fields.{name}: no name has a {{{name}}}")
