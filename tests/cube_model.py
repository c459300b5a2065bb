"""A model in numpy of what commands leave in a cube: values, lineage, staleness. No code of geoae in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

CLASSES = (2, 5, 6)
"""Label codes that have a class in `cube_scenes.SMALL`."""

Check = Callable[[Mapping[str, np.ndarray]], None]


@dataclass(frozen=True)
class Layer:
    """A layer: what it is made of, by identities, and what its values must be."""

    identity: tuple[Any, ...]
    inputs: Mapping[str, tuple[Any, ...]]
    check: Check


@dataclass(frozen=True)
class State:
    """Everything that a reader sees, and the models beside it.

    A command that is killed leaves one of the states that it goes through.
    """

    patch: int | None = None
    layers: Mapping[str, Layer] = field(default_factory=dict)
    models: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def cube(self) -> tuple[Any, ...]:
        """What the cube is made of."""
        return ("cube", self.patch)

    def with_layer(self, path: str, layer: Layer) -> "State":
        return State(self.patch, {**self.layers, path: layer}, self.models)

    def without(self, path: str) -> "State":
        return State(self.patch, {p: v for p, v in self.layers.items() if p != path}, self.models)

    def with_model(self, name: str, identity: tuple[Any, ...]) -> "State":
        return State(self.patch, self.layers, {**self.models, name: identity})

    def with_cube(self, patch: int) -> "State":
        """Models stay beside a cube that is replaced, layers do not."""
        return State(patch, {}, self.models)

    def stale(self, path: str) -> set[str]:
        """Inputs of a layer that are gone, are others now, or are stale themselves."""
        found = set()
        for name, identity in self.layers[path].inputs.items():
            if name == "cube":
                there: Any = self.cube
            else:
                there = self.layers[name].identity if name in self.layers else None
            if there != identity or (name in self.layers and self.stale(name)):
                found.add(name)
        return found


def cut(values: np.ndarray, side: int) -> np.ndarray:
    """Cut ``(..., y, x)`` into patches ``(patch, ..., y, x)``, row by row."""
    rows, cols = values.shape[-2] // side, values.shape[-1] // side
    corners = [(r * side, c * side) for r in range(rows) for c in range(cols)]
    return np.stack([values[..., y : y + side, x : x + side] for y, x in corners])


class World:
    """Scenes with known pixels, and what each command must make of them.

    Parameters
    ----------
    scenes
        Pixels of each scene by kind, in the order of the scenes' keys.
    """

    def __init__(self, scenes: list[Mapping[str, np.ndarray]]) -> None:
        self._scenes = scenes

    def pixels(self, patch: int, kind: str) -> np.ndarray:
        """All patches of a kind of raster."""
        return np.concatenate([cut(scene[kind], patch) for scene in self._scenes])

    def tiles(self, patch: int) -> np.ndarray:
        """Number of the scene, which is a tile of its own, of each patch."""
        counts = [len(cut(scene["RGB"], patch)) for scene in self._scenes]
        return np.repeat(np.arange(len(counts)), counts)

    def check_cube(self, patch: int, read: Callable[[str], np.ndarray]) -> None:
        """Compare the pixels of a cube."""
        assert np.array_equal(read("rgb"), self.pixels(patch, "RGB"))
        assert np.array_equal(read("label"), self.pixels(patch, "CLS"))
        assert np.array_equal(read("rgb_valid"), self.pixels(patch, "RGB").any(axis=1))

    def split(self, state: State, seed: int) -> Layer:
        """No tile is cut in two, and some are learned from."""
        tiles = self.tiles(state.patch or 0)

        def check(values: Mapping[str, np.ndarray]) -> None:
            part = values["split"]
            assert set(part) <= {0, 1, 2}
            assert (part == 0).any()
            assert all(len(set(part[tiles == tile])) == 1 for tile in set(tiles))

        return Layer(("split", seed, state.cube), {"cube": state.cube}, check)

    def _means(self, patch: int, size: int) -> np.ndarray:
        means = (self.pixels(patch, "RGB") / 255).mean(axis=(2, 3))
        return np.resize(means.T, (size, len(means))).T

    def latents(self, state: State, model: tuple[Any, ...]) -> Layer:
        """The means of the channels, 8 bits divided by 255 and void pixels 0, repeated to the size."""
        expected = self._means(state.patch or 0, model[1])

        def check(values: Mapping[str, np.ndarray]) -> None:
            assert np.allclose(values["z"], expected, atol=1e-6)

        return Layer(("latents", model), {"cube": state.cube, "splits/default": model[2]}, check)

    def summary(self, state: State) -> Layer:
        """Shares of the classes; the most frequent one, the lowest code of several."""
        codes = self.pixels(state.patch or 0, "CLS")
        counts = np.stack([(codes == code).sum(axis=(1, 2)) for code in CLASSES], axis=1)

        def check(values: Mapping[str, np.ndarray]) -> None:
            known = values["dominant_class"] != -1
            assert np.array_equal(known, counts.sum(axis=1) > 0)
            shares = counts[known] / counts[known].sum(axis=1, keepdims=True)
            assert np.allclose(values["class_fraction"][known], shares, atol=1e-6)
            assert np.array_equal(
                values["dominant_class"][known], np.take(CLASSES, counts[known].argmax(axis=1))
            )

        return Layer(("summary", state.cube), {"cube": state.cube}, check)

    def clusters(self, state: State, name: str, k: int) -> Layer:
        """Each patch belongs to its nearest centre; clusters are numbered by size."""
        latents = state.layers[f"latents/{name}"]
        _, (_, size, _, (_, patch)) = latents.identity
        z = self._means(patch, size)

        def check(values: Mapping[str, np.ndarray]) -> None:
            distances = np.linalg.norm(z[:, None] - values["center"][None], axis=2)
            own = distances[np.arange(len(z)), values["cluster"]]
            assert np.allclose(own, distances.min(axis=1), atol=1e-5)
            assert np.allclose(values["distance"], own, atol=1e-5)
            assert np.array_equal(
                values["size"], np.bincount(values["cluster"], minlength=len(values["size"]))
            )
            assert (np.diff(values["size"]) <= 0).all()

        return Layer(("clusters", k, latents.identity), {f"latents/{name}": latents.identity}, check)
