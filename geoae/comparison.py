"""Comparison of two cubes: what differs, from provenance and bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from geoae.cube import Cube
from geoae.store import METADATA, shard_key

__all__ = ["CubeDiff", "diff"]

_FEW = 8
"""Names that a line lists before it counts the rest."""


@dataclass(frozen=True)
class CubeDiff:
    """What differs between two cubes.

    Parameters
    ----------
    first, second
        The cubes.
    lines
        One line for each difference; empty if the cubes are equal.
    patches
        By array, the patches whose stored bytes may differ (whole shards); for cubes of equal shape.
    """

    first: str
    second: str
    lines: tuple[str, ...]
    patches: Mapping[str, tuple[range, ...]]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.lines


def diff(first: Cube | str, second: Cube | str) -> CubeDiff:
    """Compare two cubes and their layers.

    Parameters
    ----------
    first, second
        The cubes, or their paths.

    Returns
    -------
    CubeDiff
        Differences in options, catalog, scenes, arrays (with the shards that differ) and layers (with the
        options and inputs that differ).
    """
    a, b = Cube.open(first), Cube.open(second)
    lines: list[str] = []
    patches: dict[str, tuple[range, ...]] = {}
    if a.attrs != b.attrs:
        lines += _values("option", a.options, b.options)
        lines += _values("catalog", a.attrs["geoae_catalog"], b.attrs["geoae_catalog"])
        lines += _scenes(a.scenes(), b.scenes())
        if a.n_patches != b.n_patches:
            lines.append(f"patches: {a.n_patches} / {b.n_patches}")
        lines += _arrays(a, b, patches)
    lines += _layers(a, b)
    return CubeDiff(a.path, b.path, tuple(lines), patches)


def _values(what: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Compare mappings key by key; nested ones by their own keys."""
    lines = []
    for key in dict.fromkeys([*a, *b]):
        if a.get(key) == b.get(key):
            continue
        if isinstance(a.get(key), Mapping) and isinstance(b.get(key), Mapping):
            lines += _values(f"{what} {key}", a[key], b[key])
        else:
            lines.append(f"{what} {key}: {_short(a.get(key))} / {_short(b.get(key))}")
    return lines


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _FEW} more" if len(listed) > _FEW else ""
    return ", ".join(listed[:_FEW]) + more


def _place(transform: Iterable[float], shape: Iterable[int]) -> str:
    """Return transform and shape as something that can be compared."""
    return " ".join(repr(float(number)) for number in (*transform, *shape))


def _scenes(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    a, b = (
        t.assign(place=[_place(r, s) for r, s in zip(t.scene_transform, t.scene_shape, strict=True)])
        .drop(columns=["scene_transform", "scene_shape"])
        .set_index("scene_name")
        for t in (a, b)
    )
    lines = []
    for title, names in (("first", a.index.difference(b.index)), ("second", b.index.difference(a.index))):
        if len(names):
            lines.append(f"{len(names)} scenes only in the {title}: {_few(names)}")
    common = a.index.intersection(b.index)
    for column in a.columns:
        differ = common[(a.loc[common, column] != b.loc[common, column]).to_numpy()]
        if len(differ):
            lines.append(f"{column.removeprefix('scene_')} differs in {len(differ)} scenes: {_few(differ)}")
    return lines


def _arrays(a: Cube, b: Cube, patches: dict[str, tuple[range, ...]]) -> list[str]:
    digests_a, digests_b = a.attrs["geoae_arrays"], b.attrs["geoae_arrays"]
    lines = []
    for name in dict.fromkeys([*digests_a, *digests_b]):
        if digests_a.get(name) == digests_b.get(name):
            continue
        if name not in digests_a or name not in digests_b:
            lines.append(f"array {name} only in the {'first' if name in digests_a else 'second'}")
            continue
        one, two = a.array(name), b.array(name)
        if one.shape[0] != two.shape[0] and one.shape[1:] == two.shape[1:] and one.dtype == two.dtype:
            continue  # another number of patches, scenes or bands, which has been said
        if (one.shape, one.dtype) != (two.shape, two.dtype):
            lines.append(f"array {name}: {one.shape} {one.dtype} / {two.shape} {two.dtype}")
            continue
        length = (one.shards or one.chunks)[0]
        if (two.shards or two.chunks)[0] != length:
            lines.append(f"array {name}: shards of {length} / {(two.shards or two.chunks)[0]} patches")
            continue
        ranges = []
        for number in range(-(-one.shape[0] // length)):
            key = f"{name}/{shard_key(number, one.ndim)}"
            if a.location.sha256(key) != b.location.sha256(key):
                ranges.append(range(number * length, min((number + 1) * length, one.shape[0])))
        patches[name] = tuple(ranges)
        where = f"{len(ranges)} shards, patches {_few(f'{r.start}-{r.stop - 1}' for r in ranges)}"
        same_head = a.location.get(f"{name}/{METADATA}") == b.location.get(f"{name}/{METADATA}")
        lines.append(f"array {name} differs in {where if ranges else 'its metadata'}")
        if ranges and not same_head:
            lines.append(f"array {name} differs in its metadata")
    return lines


def _layers(a: Cube, b: Cube) -> list[str]:
    one, two = ({info.path: info for info in cube.layers()} for cube in (a, b))
    lines = []
    for path in dict.fromkeys([*one, *two]):
        if path not in one or path not in two:
            lines.append(f"{path} only in the {'first' if path in one else 'second'}")
        elif one[path].digest != two[path].digest:
            reasons = _values("", one[path].record.options, two[path].record.options)
            inputs = [
                name
                for name in one[path].record.inputs
                if one[path].record.inputs[name] != two[path].record.inputs.get(name)
            ]
            if inputs:
                reasons.append(f"made from another {', '.join(inputs)}")
            lines.append(f"{path} differs: " + ("; ".join(r.strip() for r in reasons) or "values"))
    return lines
