"""Small scenes with known pixels, written by rasterio, and what their cubes are compared with."""

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from geoae.catalog import Catalog
from geoae.scene import SceneHeader, find_scenes, read_scene

UTM = "EPSG:32617"
NORTH_UP = Affine(0.5, 0, 434_000, 0, -0.5, 3_354_000)

MODALITIES: dict[str, Any] = {
    "msi": {
        "role": "image",
        "kinds": ["MSI"],
        "dtype": "uint16",
        "range": [0, 2047],
        "bands": [
            {"name": "red", "wavelength": 660, "bandwidth": 60},
            {"name": "nir", "wavelength": 830, "bandwidth": 120},
        ],
    },
    "rgb": {
        "role": "image",
        "kinds": ["RGB"],
        "dtype": "uint8",
        "bands": [{"name": "red"}, {"name": "green"}, {"name": "blue"}],
    },
    "agl": {"role": "height", "kinds": ["AGL"], "quantity": "above-ground", "void": [-9999, -999, -10000]},
    "label": {"role": "label", "kinds": ["CLS"]},
}


def catalog_of(**changes: Any) -> Catalog:
    """A catalog of two images, heights and labels; named arguments replace its parts.

    ``modalities`` maps names to changes of single modalities, None leaving one out.
    """
    modalities = {name: dict(description) for name, description in MODALITIES.items()}
    for name, change in changes.pop("modalities", {}).items():
        if change is None:
            del modalities[name]
        else:
            modalities[name] = {**modalities.get(name, {}), **change}
    document = {
        "format": 1,
        "name": "small",
        "title": "Small scenes",
        "names": [{"file": "{city}_{tile}_{view}_{kind}.tif", "scene": "{city}_{tile}_{view}"}],
        "fields": {"city": "[A-Z]+", "tile": "[0-9]+", "view": "[0-9]+"},
        "modalities": modalities,
        "codes": {2: "ground", 5: "trees", 6: "building"},
        "default_class_table": "three",
        "class_tables": {
            "three": {
                "classes": [
                    {"code": 2, "name": "ground", "color": "#e8d8a0"},
                    {"code": 5, "name": "trees", "color": "#0f7a4a"},
                    {"code": 6, "name": "building", "color": "#d55e00"},
                ]
            }
        },
        "reference": [n for n in ("rgb", "msi", "agl", "label") if n in modalities],
    }
    return Catalog.model_validate({**document, **changes})


SMALL = catalog_of()


def write_tif(
    path: Path,
    values: np.ndarray,
    *,
    crs: str | None = UTM,
    transform: Affine = NORTH_UP,
    scale: float | None = None,
    offset: float | None = None,
    **profile: Any,
) -> Path:
    """Write ``(y, x)`` or ``(band, y, x)``; without a CRS the transform is left out, too."""
    bands = values if values.ndim == 3 else values[None]
    place = {} if crs is None else {"crs": crs, "transform": transform}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=bands.shape[2],
            height=bands.shape[1],
            count=len(bands),
            dtype=bands.dtype.name,
            **place,
            **profile,
        ) as raster:
            raster.write(bands)
            if scale is not None:
                raster.scales = (scale,) * len(bands)
            if offset is not None:
                raster.offsets = (offset,) * len(bands)
    return path


def scene_pixels(
    shape: tuple[int, int],
    seed: int,
    *,
    void: float = 0.05,
    kinds: tuple[str, ...] = ("MSI", "RGB", "AGL", "CLS"),
) -> dict[str, np.ndarray]:
    """Random pixels by kind: images with black pixels, heights with NaN, labels with odd codes."""
    rng = np.random.default_rng(seed)
    black = rng.random(shape) < void
    msi = rng.integers(1, 2048, (2, *shape)).astype(np.uint16)
    rgb = rng.integers(1, 256, (3, *shape)).astype(np.uint8)
    msi[:, black] = 0
    rgb[:, rng.random(shape) < void] = 0
    agl = rng.normal(5, 10, shape).astype(np.float32)
    agl[rng.random(shape) < void] = np.nan
    label = rng.choice(np.array([0, 2, 5, 6, 65, 214], np.uint8), shape)
    return {k: v for k, v in {"MSI": msi, "RGB": rgb, "AGL": agl, "CLS": label}.items() if k in kinds}


def write_scene(
    folder: Path, key: str, pixels: Mapping[str, np.ndarray], **options: Any
) -> Mapping[str, np.ndarray]:
    """Write one file for each kind, ``<key>_<kind>.tif``, and return the pixels."""
    for kind, values in pixels.items():
        write_tif(folder / f"{key}_{kind}.tif", values, **options)
    return pixels


def header_of(folder: Path, catalog: Catalog, key: str | None = None) -> SceneHeader:
    """Header of a folder's scene, the first one if no key is given."""
    scenes = find_scenes(folder, catalog).scenes
    scene = scenes[0] if key is None else next(s for s in scenes if s.key == key)
    return read_scene(scene, catalog)


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with the digest of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
