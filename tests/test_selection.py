"""Selections of scenes by name and by place."""

import pyproj
import pytest
from affine import Affine
from cube_scenes import NORTH_UP, SMALL, UTM, scene_pixels, write_scene

from geoae.errors import InputError, SceneError, UsageError
from geoae.grid import Bounds
from geoae.planning import plan_ingest
from geoae.selection import Selection
from geoae.testing.quirks import empty_tif

KEYS = ("JAX_001_001", "JAX_001_002", "OMA_002_001")


@pytest.fixture
def folder(tmp_path):
    """Three small scenes of two cities, side by side."""
    root = tmp_path / "scenes"
    for number, key in enumerate(KEYS):
        write_scene(
            root,
            key,
            scene_pixels((20, 30), number),
            transform=NORTH_UP @ Affine.translation(100 * number, 0),
        )
    return root


def keys(plan):
    return tuple(h.scene.key for h in plan.scenes)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), KEYS),
        (Selection(cities=("OMA",)), KEYS[2:]),
        (Selection(cities=("OMA", "JAX")), KEYS),
        (Selection(scenes=("OMA_002_001", "JAX_001_001")), (KEYS[0], KEYS[2])),
        (Selection(cities=("JAX",), scenes=("JAX_001_002", "OMA_002_001")), KEYS[1:2]),
        (Selection(limit=2), KEYS[:2]),
        (Selection(limit=9), KEYS),
        (Selection(cities=("JAX",), limit=1), KEYS[:1]),
    ],
)
def test_selections_by_name(folder, selection, expected):
    assert keys(plan_ingest(folder, SMALL, patch=8, selection=selection)) == expected


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(cities=("JAX", "XYZ")), "no city XYZ in the folder .there are JAX, OMA"),
        (Selection(scenes=("JAX_009_001",)), "no scene JAX_009_001 in the folder .there are JAX_001_001"),
    ],
)
def test_names_that_are_not_there_are_refused_with_those_that_are(folder, selection, message):
    with pytest.raises(UsageError, match=message) as caught:
        plan_ingest(folder, SMALL, patch=8, selection=selection)
    assert caught.value.exit_code == 2


def test_a_limit_is_positive():
    for limit in (0, -1):
        with pytest.raises(ValueError, match="limit"):
            Selection(limit=limit)


def test_selections_by_place(folder):
    # Scene n begins at x = 434,000 + 50 n and is 15 m wide.
    box = Bounds(434_050, 3_353_990, 434_060, 3_354_000)

    def chosen(**options):
        return keys(plan_ingest(folder, SMALL, patch=8, selection=Selection(**options)))

    assert chosen(bbox=box) == KEYS[1:2]
    assert chosen(bbox=Bounds(433_000, 3_353_000, 435_000, 3_355_000)) == KEYS
    assert chosen(bbox=Bounds(433_000, 3_353_000, 435_000, 3_355_000), limit=2) == KEYS[:2]
    to = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    degrees = Bounds(*to.transform_bounds(*box))
    assert chosen(bbox=degrees, bbox_crs="EPSG:4326") == KEYS[1:2]
    with pytest.raises(InputError, match=r"no scene of .* is selected") as caught:
        chosen(bbox=Bounds(0, 0, 1, 1))
    assert caught.value.exit_code == 3


def test_a_box_leaves_nothing_out_in_silence(folder):
    # A file that cannot be read, and a scene that lies nowhere: neither can be compared with a box.
    empty_tif(folder / "JAX_001_003_RGB.tif")
    write_scene(folder, "JAX_001_004", scene_pixels((20, 30), 1, kinds=("RGB",)), crs=None)
    selection = Selection(bbox=Bounds(434_000, 3_353_000, 434_010, 3_355_000))
    with pytest.raises(SceneError, match="JAX_001_003"):
        plan_ingest(folder, SMALL, patch=8, selection=selection)
    plan = plan_ingest(folder, SMALL, patch=8, selection=selection, skip_bad=True)
    assert keys(plan) == ("JAX_001_001", "JAX_001_003")
    said = " ".join(plan.problems)
    assert "JAX_001_003: rgb: JAX_001_003_RGB.tif is empty" in said
    assert "JAX_001_004" in said
    assert "no CRS" in said
