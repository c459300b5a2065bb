"""Selections: which scenes of a folder an ingest takes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyproj

from geoae.errors import UsageError
from geoae.grid import Bounds, Grid
from geoae.scene import Scene, SceneHeader

__all__ = ["Selection"]


@dataclass(frozen=True)
class Selection:
    """Which scenes of a folder to take.

    Parameters
    ----------
    cities, scenes
        Keys to keep; empty for all.
    bbox
        Bounding box that a scene's grid must intersect.
    bbox_crs
        CRS of the box; None for each scene's own.
    limit
        At most so many scenes, in key order.
    """

    cities: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()
    bbox: Bounds | None = None
    bbox_crs: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"a limit of scenes is at least 1, not {self.limit}")

    def by_name(self, scenes: Sequence[Scene]) -> list[Scene]:
        """Apply the rules that need no header."""
        _known("city", self.cities, {s.fields.get("city", "") for s in scenes})
        _known("scene", self.scenes, {s.key for s in scenes})
        kept = [
            s
            for s in scenes
            if (not self.cities or s.fields.get("city") in self.cities)
            and (not self.scenes or s.key in self.scenes)
        ]
        return kept[: self.limit] if self.bbox is None else kept

    def by_place(self, headers: Sequence[SceneHeader]) -> list[SceneHeader]:
        """Apply the bounding box. Scenes that could not be read stay: nobody knows where they lie."""
        if self.bbox is None:
            return list(headers)
        kept = [h for h in headers if h.grid is None or self._touches(h.grid)]
        return kept[: self.limit]

    def without_place(self, headers: Sequence[SceneHeader]) -> list[str]:
        """Say which scenes the bounding box leaves out only because they have no CRS, one line each."""
        if self.bbox is None:
            return []
        nowhere = [h for h in headers if h.grid is not None and h.grid.crs is None]
        return [f"{h.scene.key}: has no CRS, so the bounding box leaves it out" for h in nowhere]

    def _touches(self, grid: Grid) -> bool:
        if self.bbox is None or grid.crs is None:
            return False
        box = self.bbox
        if self.bbox_crs is not None:
            transformer = pyproj.Transformer.from_crs(self.bbox_crs, grid.crs, always_xy=True)
            box = Bounds(*transformer.transform_bounds(*box))
        return grid.bounds.intersects(box)


def _known(what: str, wanted: Iterable[str], there: set[str]) -> None:
    missing = sorted(set(wanted) - there)
    if missing:
        some = ", ".join(sorted(filter(None, there))[:8]) or "none"
        raise UsageError(f"no {what} {', '.join(missing)} in the folder", hint=f"there are {some}")
