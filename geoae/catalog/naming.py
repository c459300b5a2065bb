"""File name templates: ``{city}_{tile}_{view}_{kind}.tif`` as a regular expression.

Names are matched as a whole. The kind and the file extension ignore case, because ``.TIF`` and
``_rgb`` are common spellings of the same thing; everything else is matched as it is written.
"""

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

from pydantic import Field, model_validator

from geoae.catalog.regexes import open_choices
from geoae.catalog.strict import StrictModel, checked

__all__ = ["KIND", "VERSION", "Name", "Naming", "compile_template", "compiled", "placeholders"]

KIND = "kind"
"""Placeholder that says which modality a file is."""

VERSION = "version"
"""Placeholder of re-issued files: of two versions of one file the higher number wins."""

MAX_REGEX = 300
"""Longest regular expression of a catalog, in characters: long enough for any file name (255), too short to
hide a program."""

MAX_CHOICES = 3
"""Most parts of an expression that may end at several places of a name. A name of 255 characters, the longest
there is, takes 0.05 s at worst; each further part would take 60 times as long."""

MAX_TEMPLATE = 255
"""Longest template: no file system has longer names."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]*")
_EXTENSION = re.compile(r"\.tiff?", re.IGNORECASE)


def placeholders(template: str) -> tuple[str, ...]:
    """Return the names between braces, in order.

    Raises
    ------
    ValueError
        If a brace is open, or a name is repeated or not in lower case.

    Examples
    --------
    >>> placeholders("{city}_{tile}_{kind}.tif")
    ('city', 'tile', 'kind')
    """
    names = tuple(_PLACEHOLDER.findall(template))
    for name in names:
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(f"{{{name}}} is no field: use lower-case letters, digits and '_'")
        if names.count(name) > 1:
            raise ValueError(f"{{{name}}} stands there twice")
    if set(_PLACEHOLDER.sub("", template)) & {"{", "}"}:
        raise ValueError(f"unbalanced braces in {template!r}")
    return names


def compiled(regex: str) -> re.Pattern[str]:
    """Compile one regular expression of a catalog.

    Raises
    ------
    ValueError
        If it is too long, is no regular expression, could take very long, or has capturing groups,
        which would clash with the fields.

    Examples
    --------
    >>> compiled("JAX|OMA").fullmatch("OMA") is not None
    True
    """
    if len(regex) > MAX_REGEX:
        raise ValueError(f"a regular expression has at most {MAX_REGEX} characters, not {len(regex)}")
    pattern = _compile(regex, regex)
    if pattern.groups:
        raise ValueError(f"use (?:...) for groups in {regex!r}")
    _check_choices(regex, regex)
    return pattern


def _compile(regex: str, shown: str, flags: int = re.DOTALL) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # "[[": a set within a set, some day
            return re.compile(regex, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"no regular expression: {error} in {shown!r}") from None


def _check_choices(regex: str, shown: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            choices = open_choices(regex, re.DOTALL)
    except ValueError as error:
        raise ValueError(f"{error} in {shown!r}") from None
    if choices > MAX_CHOICES:
        raise ValueError(
            f"{choices} parts of {shown!r} may end at several places, which takes very long; "
            "let them not match what separates them, such as [^_]+"
        )


def compile_template(template: str, fields: Mapping[str, str], kinds: Iterable[str]) -> re.Pattern[str]:
    """Turn a template into a regular expression with one named group for each placeholder.

    Parameters
    ----------
    template
        Name of a file, without folders.
    fields
        Regular expression of a placeholder; without one, ``{scene}`` takes anything and any other
        placeholder everything but ``_``.
    kinds
        What ``{kind}`` may be.

    Raises
    ------
    ValueError
        If the template is a path, too long, or no template.

    Examples
    --------
    >>> pattern = compile_template("{city}_{tile}_{kind}.tif", {"city": "JAX|OMA"}, ["RGB", "CLS"])
    >>> pattern.fullmatch("JAX_004_cls.TIF").groupdict()
    {'city': 'JAX', 'tile': '004', 'kind': 'cls'}
    >>> pattern.fullmatch("JAX_004_AGL.tif") is None
    True
    """
    if "/" in template or "\\" in template:
        raise ValueError(f"{template!r} is a path: files are found by name, in any folder")
    if len(template) > MAX_TEMPLATE:
        raise ValueError(f"a template has at most {MAX_TEMPLATE} characters, not {len(template)}")
    placeholders(template)
    parts = _PLACEHOLDER.split(template)  # literal, name, literal, name, ..., literal
    expression = ""
    for number, part in enumerate(parts):
        if number % 2 == 0:
            expression += _literal(part, last=number == len(parts) - 1)
        elif part == KIND:
            # The longest first: "RGB_1ft" before "RGB".
            choices = "|".join(re.escape(kind) for kind in sorted(kinds, key=lambda kind: (-len(kind), kind)))
            expression += f"(?P<{part}>(?i:{choices}))"
        else:
            expression += f"(?P<{part}>{fields.get(part, '.+' if part == 'scene' else '[^_]+')})"
    pattern = _compile(expression, template)
    _check_choices(expression, template)
    return pattern


def _literal(text: str, *, last: bool) -> str:
    if last and (dot := text.rfind(".")) >= 0:
        extension = r"\.tiff?" if _EXTENSION.fullmatch(text[dot:]) else re.escape(text[dot:])
        return f"{re.escape(text[:dot])}(?i:{extension})"
    return re.escape(text)


class Naming(StrictModel):
    """How names of files are made, and which scene a file belongs to.

    Parameters
    ----------
    file
        Template of the file's name, such as ``{city}_{tile}_{view}_{kind}.tif``.
    scene
        Template of the scene's key, made of the same fields.
    kind
        The kind, for templates without ``{kind}``.
    """

    file: str
    scene: str = Field(min_length=1)
    kind: str | None = None

    @model_validator(mode="after")
    def _fields_known(self) -> Self:
        fields = checked("file", placeholders, self.file)
        if not self.scene.isprintable() or "/" in self.scene or "\\" in self.scene:
            raise ValueError(f"scene: {self.scene!r} is no name: a key is one word, without '/'")
        for name in checked("scene", placeholders, self.scene):
            if name not in fields:
                raise ValueError(f"scene: {{{name}}} is not in {self.file!r}")
            if name in (KIND, VERSION):
                raise ValueError(f"scene: {{{name}}} differs between the files of one scene")
        if (self.kind is None) != (KIND in fields):
            raise ValueError("kind: a template needs either {kind} or a kind of its own")
        return self


class Name(NamedTuple):
    """What a file's name says: scene key, modality, fields, and version (0 for the first issue)."""

    key: str
    modality: str
    fields: Mapping[str, str]
    version: int
