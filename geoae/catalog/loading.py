"""Reading catalogs: YAML in, `Catalog` or one line about what is wrong out."""

import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from geoae.catalog.classes import ClassEntry, ClassTable
from geoae.catalog.modality import Band, Extraction, Modality
from geoae.catalog.models import Catalog, City
from geoae.catalog.naming import KIND, VERSION, Naming, placeholders
from geoae.errors import CatalogError, UsageError

__all__ = ["load_catalog", "parse_catalog", "shipped_catalogs"]

MAX_BYTES = 1 << 17
"""Largest catalog file: thirty times the largest that is shipped. Reading YAML takes seconds a megabyte."""

FORMAT = 1
"""The newest catalog format that this version reads."""

# Models below each key of a catalog, to find what a misspelt key was meant to be.
_MODELS: Mapping[str, tuple[type[BaseModel], ...]] = {
    "modalities": (Modality, Band, Extraction),
    "class_tables": (ClassTable, ClassEntry),
    "names": (Naming,),
    "cities": (City,),
}


def load_catalog(name_or_path: str | Path, *, pattern: str | None = None) -> Catalog:
    """Load a shipped catalog by its name, or one's own by its path.

    Parameters
    ----------
    name_or_path
        ``us3d``, ``lidar``, ``generic``, or the path of a YAML file. A `Path` is always a path.
    pattern
        How files are named, for catalogs that leave it open, such as ``{scene}_{kind}.tif``.

    Raises
    ------
    CatalogError
        If there is no such catalog, or something is wrong in it; says where.
    UsageError
        If a pattern is given to a catalog that has names of its own.

    Examples
    --------
    >>> load_catalog("us3d").parse("JAX_004_006_RGB.tif").key
    'JAX_004_006'
    """
    if isinstance(name_or_path, str) and (shipped := shipped_catalogs().get(name_or_path)):
        catalog, source = shipped, name_or_path
    else:
        path = Path(name_or_path)
        if isinstance(name_or_path, str) and not path.suffix and not path.exists():
            known = ", ".join(shipped_catalogs())
            raise CatalogError(
                f"no catalog {name_or_path!r}; shipped are {known}{_meant(name_or_path, shipped_catalogs())}",
                hint="the path of a .yaml file names one's own catalog",
            )
        catalog, source = _read(path), str(name_or_path)
    if pattern is not None:
        return _with_pattern(catalog, source, pattern)
    if not catalog.names:
        raise CatalogError(
            f"catalog {catalog.name} does not say how files are named",
            hint="give --pattern '{scene}_{kind}.tif', or a catalog with names",
        )
    return catalog


@lru_cache(maxsize=1)
def shipped_catalogs() -> Mapping[str, Catalog]:
    """Return the shipped catalogs by name.

    Catalogs that ask for a pattern are among them, without names.
    """
    found = {path.stem: _read(path) for path in sorted(_shipped_folder().glob("*.yaml"))}
    # us3d first: it is what geoae is for.
    return dict(sorted(found.items(), key=lambda item: (item[0] != "us3d", not item[1].names, item[0])))


def _shipped_folder() -> Path:
    package = Path(__file__).parents[1]
    checkout = package.parent / "catalogs"
    # In a checkout the catalogs lie beside the package and are read in place, even if an older copy
    # was built into the package. site-packages has no pyproject.toml.
    if checkout.is_dir() and (package.parent / "pyproject.toml").is_file():
        return checkout
    return package / "_catalogs"


def _with_pattern(catalog: Catalog, source: str, pattern: str) -> Catalog:
    if catalog.names:
        raise UsageError(
            f"catalog {catalog.name} says itself how files are named",
            hint="leave --pattern out, or use --catalog generic",
        )
    try:
        fields = placeholders(pattern)
    except ValueError as error:
        raise CatalogError(f"--pattern {pattern!r}: {error}") from None
    if KIND not in fields:
        raise CatalogError(
            f"--pattern {pattern!r}: without {{kind}} nothing says what a file is",
            hint="for example --pattern '{scene}_{kind}.tif'",
        )
    keys = [field for field in fields if field not in (KIND, VERSION)]
    if not keys:
        raise CatalogError(
            f"--pattern {pattern!r}: without a field such as {{scene}} all files are one scene",
            hint="for example --pattern '{scene}_{kind}.tif'",
        )
    scene = "_".join(f"{{{key}}}" for key in keys)
    used = {name: regex for name, regex in catalog.fields.items() if name in fields}
    data = catalog.model_dump(mode="json") | {"names": [{"file": pattern, "scene": scene}], "fields": used}
    return _validated(data, f"{source} with --pattern {pattern!r}")


def _read(path: Path) -> Catalog:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CatalogError(f"{path} is larger than {MAX_BYTES} bytes: no catalog")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}", hint="geoae catalogs lists those shipped") from None
    except UnicodeDecodeError:
        raise CatalogError(f"{path} is not UTF-8 text: no catalog") from None
    return parse_catalog(text, str(path))


def parse_catalog(text: str, source: str) -> Catalog:
    """Read a catalog from its text.

    Parameters
    ----------
    text
        YAML.
    source
        Where it comes from, for messages.

    Raises
    ------
    CatalogError
        If it is no YAML, or no catalog.
    """
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise CatalogError(f"{source}: not YAML: {_yaml_message(error)}") from None
    except RecursionError:
        raise CatalogError(f"{source}: nested too deeply: no catalog") from None
    except (ValueError, OverflowError, TypeError, LookupError, AttributeError) as error:
        # PyYAML's constructors: a date in month 99, a number of 5,000 digits, "!!bool 7".
        raise CatalogError(f"{source}: a value cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise CatalogError(
            f"{source}: a catalog is a mapping of keys to values", hint="see catalogs/us3d.yaml"
        )
    return _validated(data, source)


def _validated(data: Mapping[str, Any], source: str) -> Catalog:
    found = data.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise CatalogError(
            f"format: {found} is newer than {FORMAT}, which this version of geoae reads ({source})",
            hint="install a newer geoae",
        )
    try:
        return Catalog.model_validate(data)
    except ValidationError as error:
        raise CatalogError(f"{_explain(error)} ({source})") from None
    except RecursionError:
        raise CatalogError(f"{source}: nested too deeply: no catalog") from None


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    path = ".".join(str(part) for part in first["loc"])
    more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        models = _MODELS.get(str(first["loc"][0]), ()) if len(first["loc"]) > 1 else (Catalog,)
        keys = [key for model in models for key in model.model_fields]
        return f"{path}: unknown key{_meant(str(first['loc'][-1]), keys)}{more}"
    if first["type"] == "missing":
        return f"{path}: missing{more}"
    if first["type"] == "value_error":
        # Ours: "key: what", with the key below the place that pydantic names; or just what is wrong.
        text = first["msg"].removeprefix("Value error, ")
        joint = "." if path and _starts_with_key(text) else ": " if path else ""
        return f"{path}{joint}{text}{more}"
    return f"{path}: {first['msg'][0].lower()}{first['msg'][1:]}{more}"


def _starts_with_key(text: str) -> bool:
    key, colon, _ = text.partition(": ")
    return bool(colon) and " " not in key


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _yaml_message(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"{problem} in line {mark.line + 1}" if mark is not None else problem


class _Loader(yaml.SafeLoader):
    """YAML without surprises: a repeated key and an alias are errors."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not used", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                raise yaml.constructor.ConstructorError(None, None, "a key is one word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
