"""Which encoders are installed, and their options.

Encoders are found through the entry-point group ``geoae.encoders``; the built-in ones come through the
same door as a stranger's. Listing reads package metadata only: no plugin is imported, so a broken or
slow one cannot disturb a command that does not use it.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from geoae.encoder import CONTRACT_VERSION, Encoder, EncoderConfig
from geoae.errors import PluginError, UsageError

__all__ = [
    "GROUP",
    "EncoderInfo",
    "Option",
    "check_class",
    "describe",
    "encoder_info",
    "list_encoders",
    "load_encoder",
    "parse_options",
]

GROUP = "geoae.encoders"
"""The entry-point group of encoders."""


@dataclass(frozen=True)
class EncoderInfo:
    """An encoder that some installed package offers.

    Parameters
    ----------
    name
        What users type; the entry point's key.
    distribution, version
        The package that offers it.
    target
        ``module:attribute`` of the class.
    problem
        Why it cannot be used, empty if it can as far as metadata tell.
    hint
        What mends the problem.
    """

    name: str
    distribution: str
    version: str
    target: str
    problem: str = ""
    hint: str = ""

    @property
    def available(self) -> bool:
        """Whether nothing is known to be wrong with it."""
        return not self.problem


@dataclass(frozen=True)
class Option:
    """An option of an encoder, from a field of its configuration.

    Parameters
    ----------
    name
        As typed, with hyphens: ``latent-dim``.
    field
        As in Python: ``latent_dim``.
    type
        ``int``, ``float``, ``bool``, ``str``, the choices separated by ``|``, or the name of another type.
    default
        The value that is used when none is given; None also if there is none.
    required
        Whether the option has no default. The contract asks for defaults.
    description
        One sentence.
    """

    name: str
    field: str
    type: str
    default: Any
    required: bool
    description: str


def _entry_points() -> Iterator[tuple[EncoderInfo, metadata.EntryPoint]]:
    points = sorted(
        metadata.entry_points(group=GROUP),
        key=lambda point: (point.name, "" if point.dist is None else point.dist.name),
    )
    owners: dict[str, list[str]] = {}
    for point in points:
        owners.setdefault(point.name, []).append(_owner(point))
    for point in points:
        problem, hint = _missing(point)
        if len(owners[point.name]) > 1:
            problem = f"offered by {' and by '.join(owners[point.name])}"
            hint = f"uninstall one of {', '.join(owners[point.name])}"
        target = point.value.split("[")[0].strip()
        version = "" if point.dist is None else point.dist.version
        yield EncoderInfo(point.name, _owner(point), version, target, problem, hint), point


def _owner(point: metadata.EntryPoint) -> str:
    return "an unknown package" if point.dist is None else point.dist.name


def _missing(point: metadata.EntryPoint) -> tuple[str, str]:
    """Tell which packages of the extras that an entry point names are not installed.

    An entry point ``vae = "geoae_torch:VAE [torch]"`` says that it works with the extra ``torch`` of its
    distribution only; the distribution's metadata say which packages that extra means.
    """
    if point.dist is None:
        return "", ""
    absent = []
    for extra in point.extras:
        for requirement in point.dist.requires or ():
            package, _, marker = requirement.partition(";")
            if not re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", marker):
                continue
            match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", package.strip())
            if match and not _installed(match.group()):
                absent.append(match.group())
    if not absent:
        return "", ""
    extras = ",".join(point.extras)
    return f"needs {', '.join(absent)}", f'pip install "{point.dist.name}[{extras}]"'


def _installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def list_encoders() -> tuple[EncoderInfo, ...]:
    """List the encoders that are installed, by name, without importing any.

    Returns
    -------
    tuple of EncoderInfo
        Also those that cannot be used, with the reason.
    """
    return tuple(info for info, _ in _entry_points())


def encoder_info(name: str) -> EncoderInfo:
    """Tell who offers an encoder, without importing it.

    Parameters
    ----------
    name
        Its name, as `list_encoders` gives it.

    Returns
    -------
    EncoderInfo
        The first one where several packages offer this name; its `problem` names them.

    Raises
    ------
    UsageError
        If no package offers an encoder of this name.
    """
    return _find(name)[0]


def _find(name: str) -> tuple[EncoderInfo, metadata.EntryPoint]:
    entries = list(_entry_points())
    for info, point in entries:
        if info.name == name:
            return info, point
    names = list(dict.fromkeys(info.name for info, _ in entries))
    close = difflib.get_close_matches(name, names, n=3)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise UsageError(
        f"there is no encoder {name!r}", hint=f"{meant}installed are {', '.join(names) or 'none'}"
    )


def load_encoder(name: str) -> type[Encoder]:
    """Import an encoder.

    Parameters
    ----------
    name
        Its name, as `list_encoders` gives it.

    Returns
    -------
    type
        The encoder's class.

    Raises
    ------
    UsageError
        If no package offers an encoder of this name.
    PluginError
        If more than one does, if it cannot be imported, or if it is no encoder of this contract.
    """
    info, point = _find(name)
    if not info.available:
        raise PluginError(f"encoder {name} cannot be used: {info.problem}", hint=info.hint)
    where = f"encoder {name} of {info.distribution} {info.version} ({info.target})"
    try:
        loaded = point.load()
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises becomes one line
        raise PluginError(
            f"{where} cannot be imported: {type(error).__name__}: {error}",
            hint=f"update or reinstall {info.distribution}",
        ) from error
    return check_class(loaded, where)


def check_class(loaded: Any, where: str) -> type[Encoder]:
    """Check what can be seen of an encoder's class without using it.

    Parameters
    ----------
    loaded
        What should be a class.
    where
        Begins the message.

    Returns
    -------
    type
        The same.

    Raises
    ------
    PluginError
        If it is no encoder of this contract.
    """
    if not (isinstance(loaded, type) and issubclass(loaded, Encoder)):
        raise PluginError(f"{where} is no subclass of geoae.encoder.Encoder")
    version: Any = loaded.contract_version  # whatever a stranger wrote there
    if version != CONTRACT_VERSION:
        raise PluginError(
            f"{where} was written for version {version} of the plugin contract, this is version "
            f"{CONTRACT_VERSION}",
            hint="install versions of both that fit together",
        )
    config: Any = getattr(loaded, "Config", None)
    if not (isinstance(config, type) and issubclass(config, EncoderConfig)):
        raise PluginError(f"{where} has no Config that is a subclass of geoae.encoder.EncoderConfig")
    if not (config.model_config.get("frozen") and config.model_config.get("extra") == "forbid"):
        raise PluginError(f"{where} has a Config that is not frozen or accepts unknown options")
    abstract = sorted(getattr(loaded, "__abstractmethods__", ()))
    if abstract:
        raise PluginError(f"{where} does not implement {', '.join(abstract)}")
    return loaded


def describe(encoder: type[Encoder]) -> list[Option]:
    """List the options of an encoder, in the order of its configuration's fields.

    Parameters
    ----------
    encoder
        The encoder's class.

    Returns
    -------
    list of Option
        For help texts and documentation.

    Examples
    --------
    >>> from geoae.encoder import Encoder
    >>> [(option.name, option.type, option.default) for option in describe(Encoder)]
    [('latent-dim', 'int', 64), ('seed', 'int', 0)]
    """
    return [
        Option(
            name=field.replace("_", "-"),
            field=field,
            type=_type_name(info),
            default=_default(info),
            required=info.is_required(),
            description=info.description or "",
        )
        for field, info in encoder.Config.model_fields.items()
    ]


def _default(info: FieldInfo) -> Any:
    value = info.get_default(call_default_factory=True, validated_data={})
    return None if info.is_required() else value


def _type_name(info: FieldInfo) -> str:
    return "any" if info.annotation is None else _annotation_name(info.annotation)


def _annotation_name(annotation: Any) -> str:
    kind = get_origin(annotation)
    if kind is Literal:
        return "|".join(str(choice) for choice in get_args(annotation))
    if kind in (Union, UnionType):
        return " | ".join(_annotation_name(part) for part in get_args(annotation))
    if annotation is type(None):
        return "None"
    if kind is None and isinstance(annotation, type):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("NoneType", "None")


def parse_options(encoder: type[Encoder], options: Mapping[str, Any]) -> EncoderConfig:
    """Make a configuration from options as they are typed.

    Parameters
    ----------
    encoder
        The encoder's class.
    options
        Values by option, with hyphens or underscores. Strings are read as the option's type
        asks; lists and mappings as JSON.

    Returns
    -------
    EncoderConfig
        An instance of the encoder's `Config`.

    Raises
    ------
    UsageError
        If an option is unknown, given twice, or its value is not allowed.

    Examples
    --------
    >>> from geoae.encoder import Encoder
    >>> parse_options(Encoder, {"latent-dim": "16"}).latent_dim
    16
    """
    known = {option.field: option for option in describe(encoder)}
    values: dict[str, Any] = {}
    for name, value in options.items():
        field = name.strip().removeprefix("--").replace("-", "_")
        if field not in known:
            names = [option.name for option in known.values()]
            close = difflib.get_close_matches(field.replace("_", "-"), names, n=1)
            raise UsageError(
                f"{encoder.__name__} has no option --{field.replace('_', '-')}",
                hint=f"did you mean --{close[0]}?" if close else f"its options are {', '.join(names)}",
            )
        if field in values:
            raise UsageError(f"option --{known[field].name} is given twice")
        values[field] = _read(value, known[field])
    try:
        return encoder.Config.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        raise UsageError("; ".join(_problem(problem, options) for problem in problems)) from error


def _read(value: Any, option: Option) -> Any:
    """Read what pydantic does not read from a string: JSON's lists and mappings, and None where allowed."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    kinds = re.split(r"[^A-Za-z]+", option.type)
    if "None" in kinds and text.lower() in ("none", "null"):
        return None
    if "str" not in kinds and text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return value
    return value


def _problem(problem: Any, options: Mapping[str, Any]) -> str:
    place = [str(part) for part in problem["loc"]]
    if not place:
        return str(problem["msg"])
    name = place[0].replace("_", "-")
    inside = f" at {'.'.join(place[1:])}" if place[1:] else ""
    given = {key.strip().removeprefix("--").replace("_", "-"): value for key, value in options.items()}
    shown = f" (given: {given[name]!r})" if name in given else ""
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"option --{name}{inside}: {message}{shown}"
