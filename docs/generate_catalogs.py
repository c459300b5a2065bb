"""Write the tables of a catalog's keys from the models themselves, at each build of the pages."""

import re
import types
import typing
from inspect import getdoc
from pathlib import Path
from typing import Any

from numpydoc.docscrape import NumpyDocString
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx

from geoae.catalog import Band, Catalog, City, ClassEntry, ClassTable, Extraction, Modality, Naming

PARTS: dict[str, type[BaseModel]] = {
    "catalog": Catalog,
    "naming": Naming,
    "modality": Modality,
    "band": Band,
    "extraction": Extraction,
    "class-table": ClassTable,
    "class": ClassEntry,
    "city": City,
}

SIMPLE = {str: "text", int: "integer", float: "number", bool: "true or false"}

DEFAULTS = {
    "Modality.resampling": "by the role",
    "Modality.unit": "`metre`",
    "ClassEntry.codes": "`code` alone",
}
"""Defaults that a validator sets."""

MEANINGS = {
    "Catalog.name": "What the catalog is called; `geoae info` shows it.",
    "Catalog.title": "A name for people; titles of cubes and maps begin with it.",
    "Catalog.description": "What the data set is.",
    "Catalog.licence": "Terms of the data set; kept in cubes and exports.",
    "Catalog.citation": "How to cite the data set; kept in cubes and exports.",
}
"""Keys that share one sentence in the docstring."""


def type_name(annotation: Any) -> str:
    """Say in words what a key takes."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in SIMPLE:
        return SIMPLE[annotation]
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(part) for part in arguments if part is not type(None))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {plural(arguments[0])}"
        return f"{len(arguments)} {plural(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return f"mapping of {plural(arguments[1])}"


def plural(annotation: Any) -> str:
    """Say in words what a list or a mapping holds."""
    name = type_name(annotation)
    return {"text": "texts", "mapping": "mappings"}.get(name, f"{name}s")


def default(model: type[BaseModel], name: str) -> str:
    """Say what is used where a key is left out."""
    if text := DEFAULTS.get(f"{model.__name__}.{name}"):
        return text
    value = model.model_fields[name].get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "**needed**"
    if value in ("", None, (), {}):
        return "none"
    text = ", ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)
    return f"`{text.lower() if isinstance(value, bool) else text}`"


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstring says of each key."""
    found = {}
    for names, _, lines in NumpyDocString(getdoc(model) or "")["Parameters"]:
        text = re.sub(r"``([^`]*)``", r"`\1`", " ".join(lines)).replace("|", "\\|")
        found |= dict.fromkeys(names.split(", "), text)
    return found


def table(model: type[BaseModel]) -> list[str]:
    """Return the keys of a model as the rows of a table."""
    said = meanings(model)
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        meaning = MEANINGS.get(f"{model.__name__}.{name}") or said.get(name)
        if meaning is None:
            raise ValueError(f"the docstring of {model.__name__} says nothing of {name}")
        rows.append(f"| `{name}` | {type_name(field.annotation)} | {default(model, name)} | {meaning} |")
    return rows


def write_tables(folder: Path) -> None:
    """Write a page of one table for each part of a catalog."""
    folder.mkdir(exist_ok=True)
    for part, model in PARTS.items():
        (folder / f"catalog-{part}.md").write_text("\n".join([*table(model), ""]), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Run at the start of a build, before any page is read."""
    app.connect("builder-inited", lambda _app: write_tables(Path(app.confdir) / "_generated"))
    return {"parallel_read_safe": True}
