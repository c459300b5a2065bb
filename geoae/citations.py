"""Whom to cite: the data set, geoae, and the encoders that made a cube's latents."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from geoae.cube import Cube, LayerInfo

__all__ = ["Citation", "DataSource", "Software", "cite", "encoders_of"]

_TITLE = "geoae: latent clusters of remote sensing rasters"
_AUTHOR = "The geoae developers"
_LICENCE = "Apache-2.0"
"""As in CITATION.cff; a test compares them."""

ATTACHED = "attached"
"""In place of an encoder's name where latents were made elsewhere."""

_SPECIAL = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
"""How LaTeX writes characters that mean something to it."""


@dataclass(frozen=True)
class DataSource:
    """A data set, as the catalog in a cube describes it; texts are empty where it says nothing.

    Parameters
    ----------
    name, title
        The catalog's name, and the data set's.
    citation, licence
        How to cite it, and its terms.
    """

    name: str
    title: str
    citation: str
    licence: str


@dataclass(frozen=True)
class Software:
    """A package, and what it did.

    Parameters
    ----------
    name, version
        The distribution; the version is empty where nobody noted it.
    encoder
        Name of its encoder; ``attached`` for latents that were made elsewhere, with their origin as `name`;
        empty for geoae itself.
    layers
        Latents that it made.
    """

    name: str
    version: str
    encoder: str = ""
    layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        release = f"{self.name} {self.version}".rstrip()
        return f"{self.encoder} ({release})" if self.encoder else release


@dataclass(frozen=True)
class Citation:
    """What to cite.

    Parameters
    ----------
    geoae
        This version of geoae.
    data
        The data set; None without a cube.
    cube_id
        Digest of the cube; empty without one.
    encoders
        Who made the latents, by name.
    """

    geoae: Software
    data: DataSource | None = None
    cube_id: str = ""
    encoders: tuple[Software, ...] = ()

    def text(self) -> str:
        """Return it for people, a line each."""
        lines = []
        if self.data is not None:
            lines += [
                f"data      {self.data.title or self.data.name}",
                f"  cite    {self.data.citation or 'its catalog does not say how'}",
                f"  licence {self.data.licence or 'its catalog does not say which'}",
                f"cube      {self.cube_id}",
            ]
        lines += [f"software  {_TITLE}, version {self.geoae.version}. {_AUTHOR}. {_LICENCE}"]
        lines += [f"encoder   {one}, for {', '.join(one.layers)}" for one in self.encoders]
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "data": None if self.data is None else vars(self.data),
            "cube_id": self.cube_id or None,
            "software": {**_named(self.geoae), "title": _TITLE, "author": _AUTHOR, "licence": _LICENCE},
            "encoders": [
                {**_named(one), "encoder": one.encoder, "layers": list(one.layers)} for one in self.encoders
            ],
        }

    def bibtex(self) -> str:
        """Return it as entries of BibTeX.

        A catalog's citation is a text and may hold several works, so it stands as a note.
        """
        entries = []
        if self.data is not None:
            dois = re.findall(r"doi:\s*(10\.\S+?)[.,;]?(?=\s|$)", self.data.citation)
            licence = self.data.licence and f"Licence: {self.data.licence}"
            note = ". ".join(part.rstrip(".") for part in (self.data.citation, licence) if part)
            fields = {"title": self.data.title or self.data.name, "note": note}
            if len(set(dois)) == 1:
                fields["doi"] = dois[0]
            entries.append(_entry("misc", self.data.name, fields))
        own = {"author": f"{{{_AUTHOR}}}", "title": f"{{{_TITLE}}}", "version": self.geoae.version}
        entries.append(_entry("software", "geoae", {**own, "license": _LICENCE}, braced=("author", "title")))
        foreign = [one for one in self.encoders if one.name != "geoae"]
        entries += [
            _entry(
                "software",
                f"{one.name}-{one.encoder}",
                {
                    "title": one.name
                    if one.encoder == ATTACHED
                    else f"{one.name}: encoder {one.encoder} of geoae",
                    "version": one.version,
                },
            )
            for one in foreign
        ]
        return "\n\n".join(entries)


def _named(one: Software) -> dict[str, str]:
    return {"name": one.name, "version": one.version}


def _entry(kind: str, key: str, fields: Mapping[str, str], *, braced: Iterable[str] = ()) -> str:
    """Write an entry; what is in braces already stays as it is."""
    safe = re.sub(r"[^A-Za-z0-9_.:-]+", "-", key).strip("-") or "data"
    lines = [
        f"  {name} = {{{text if name in set(braced) else _escaped(text)}}}"
        for name, text in fields.items()
        if text
    ]
    return f"@{kind}{{{safe},\n" + ",\n".join(lines) + "\n}"


def _escaped(text: str) -> str:
    r"""Write a text for LaTeX.

    Examples
    --------
    >>> print(_escaped("R&D, 10 % of x_1"))
    R\&D, 10 \% of x\_1
    """
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def cite(cube: str | os.PathLike[str] | Cube | None = None) -> Citation:
    """Say whom to cite for a cube and what was made from it.

    Parameters
    ----------
    cube
        The cube, or its path or URL; without one, geoae alone.

    Returns
    -------
    Citation
        The data set as the catalog in the cube names it, geoae, and the encoders of the cube's latents with
        the versions that made them.
    """
    own = Software("geoae", version("geoae"))
    if cube is None:
        return Citation(own)
    handle = Cube.open(cube)
    catalog = handle.catalog
    data = DataSource(catalog.name, catalog.title, catalog.citation, catalog.licence)
    return Citation(own, data, handle.cube_id, encoders_of(handle.layers()))


def encoders_of(layers: Iterable[LayerInfo]) -> tuple[Software, ...]:
    """Return who made the latents among some layers, with the versions that are noted with them."""
    made: dict[tuple[str, str, str], list[str]] = {}
    for info in layers:
        if info.kind != "latents":
            continue
        if info.record.made_by == "attach":
            makers = {str(info.record.options.get("origin") or "unknown origin"): ""}
        else:
            makers = dict(info.record.software) or {"unknown": ""}
        encoder = str(info.record.options.get("plugin") or ATTACHED)
        for name, release in makers.items():
            made.setdefault((encoder, name, release), []).append(info.path)
    return tuple(
        Software(name, release, encoder, tuple(paths))
        for (encoder, name, release), paths in sorted(made.items())
    )
