"""The JSON schema of a catalog, for editors that complete and check YAML."""

import re
from inspect import cleandoc
from typing import Any

from pydantic import BaseModel

from geoae.catalog.classes import ClassEntry, ClassTable
from geoae.catalog.modality import Band, Extraction, Modality
from geoae.catalog.models import Catalog, City
from geoae.catalog.naming import Naming

__all__ = ["catalog_schema"]

_MODELS: tuple[type[BaseModel], ...] = (
    *(Catalog, Naming, Modality, Band, Extraction, ClassTable, ClassEntry, City),
)

_FILLED = {"Modality": ("resampling",)}
"""Keys that need a value and get one from others before they are checked."""

_PARAMETER = re.compile(r"^(\w[\w, ]*)\n((?:    .*\n?|\n)+)", re.MULTILINE)


def catalog_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a catalog.

    It has the structure, types and meaning of all keys. What keys must agree on, such as that bands in
    ``extract`` exist, only `load_catalog` checks.

    Examples
    --------
    >>> sorted(catalog_schema()["required"])
    ['format', 'modalities', 'name', 'title']
    """
    schema = Catalog.model_json_schema()
    parts = {"Catalog": schema, **schema["$defs"]}
    for model in _MODELS:
        part = parts[model.__name__]
        text = cleandoc(model.__doc__ or "")
        part["description"] = " ".join(text.split("\n\n")[0].split())
        for names, meaning in _PARAMETER.findall(text.partition("Parameters\n----------\n")[2]):
            for name in names.split(", "):
                part["properties"][name]["description"] = " ".join(meaning.split())
        for name in _FILLED.get(model.__name__, ()):
            part["required"].remove(name)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
