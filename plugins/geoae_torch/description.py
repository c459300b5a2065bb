"""Descriptions of networks by name or from YAML files; one line about what is wrong with them."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from geoae.errors import UsageError
from geoae_torch import architecture as layers
from geoae_torch.architecture import FORMAT, Architecture
from geoae_torch.presets import preset, preset_names

__all__ = ["load_architecture", "parse_architecture", "write_architecture"]

MAX_BYTES = 1 << 20
SUFFIXES = (".yaml", ".yml")


def load_architecture(name_or_path: str | Path) -> Architecture:
    """Return a preset by its name, or one's own network by the path of its YAML file.

    Raises
    ------
    UsageError
        If there is no such preset or file, or something is wrong in it; says where.

    Examples
    --------
    >>> load_architecture("platos").input.patch
    28
    """
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text in preset_names(readings=True):
        return preset(text)
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and path.suffix not in SUFFIXES and not path.exists():
        raise UsageError(
            f"no network {text!r}{_meant(text, preset_names())}",
            hint="geoae networks lists the presets; the path of a .yaml file names one's own network",
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES} bytes: no network")
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="geoae networks lists the presets") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text: no network") from None
    return parse_architecture(source, str(path))


def parse_architecture(source: str, where: str) -> Architecture:
    """Read a description.

    Parameters
    ----------
    source
        YAML.
    where
        Names the source in messages.

    Raises
    ------
    UsageError
        If something is wrong in it; says where.
    """
    try:
        data = yaml.load(source, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" in line {mark.line + 1}"
        raise UsageError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}{line}") from None
    except RecursionError:
        raise UsageError(f"{where}: nested too deeply: no network") from None
    if not isinstance(data, dict):
        raise UsageError(
            f"{where}: a network is a mapping of keys to values",
            hint="geoae networks NAME --yaml prints one to start from",
        )
    found = data.get("format", FORMAT)
    if isinstance(found, int) and found > FORMAT:
        raise UsageError(
            f"{where}: format {found} is newer than {FORMAT}, which this version reads",
            hint="install a newer geoae",
        )
    try:
        return Architecture.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{where}: {_explain(error)}") from None


def write_architecture(architecture: Architecture) -> str:
    """Return a description as YAML that `parse_architecture` reads back.

    Examples
    --------
    >>> network = load_architecture("report-fcae")
    >>> parse_architecture(write_architecture(network), "") == network
    True
    """
    data = architecture.model_dump(mode="json", exclude_defaults=True)
    for part in ("encoder", "decoder"):
        data[part] = [
            {"layer": layer.layer, **layer.model_dump(mode="json", exclude_defaults=True)}
            for layer in getattr(architecture, part)
        ]
    data = {"format": architecture.format, **data}
    data["code"] = {"kind": architecture.code.kind, **data.get("code", {})}
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    # pydantic puts the tag that chose a layer's kind into the path; the file has no such key.
    parts = list(first["loc"])
    tag = ""
    if parts[:1] in (["encoder"], ["decoder"]) and len(parts) > 2:
        tag = str(parts.pop(2))
    elif parts[:1] == ["code"] and len(parts) > 1:
        tag = str(parts.pop(1))
    path = ".".join(str(part) for part in parts)
    more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{path}: unknown key{_meant(str(parts[-1]), _keys(tag))}{more}"
    if first["type"] == "missing":
        return f"{path}: missing{more}"
    if first["type"] == "union_tag_not_found":
        return f"{path}: says no {'kind' if path == 'code' else 'layer'}{more}"
    return f"{path}: {first['msg'][0].lower()}{first['msg'][1:]}{more}"


def _keys(tag: str) -> list[str]:
    """Keys of the model that a tag chose; without one, those of the whole."""
    for model in vars(layers).values():
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        for key in ("layer", "kind"):
            if tag and key in model.model_fields and model.model_fields[key].default == tag:
                return list(model.model_fields)
    return list(Architecture.model_fields)


def _meant(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class _Dumper(yaml.SafeDumper):
    """Layers on one line each."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        flat = isinstance(mapping, dict) and ("layer" in mapping or "kind" in mapping or "patch" in mapping)
        return super().represent_mapping(tag, mapping, flow_style=True if flat else flow_style)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (the name is yaml's)
        return True


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
