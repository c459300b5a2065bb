"""Several cubes as one Dataset."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import geoae
from geoae.errors import UsageError
from geoae.selection import Selection


@pytest.fixture(scope="module")
def omaha(us3d_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("omaha") / "oma.zarr"
    geoae.ingest(us3d_folder, out=path, patch=32, selection=Selection(cities=("OMA",)))
    return path


def test_patches_follow_each_other(us3d_cube: Path, omaha: Path) -> None:
    first, second = geoae.open_cube(us3d_cube), geoae.open_cube(omaha)
    both = geoae.open_cubes([us3d_cube, omaha])
    n = first.sizes["patch"]
    assert both.sizes["patch"] == n + second.sizes["patch"]
    assert both.indexes["patch"].is_unique
    np.testing.assert_array_equal(both["agl"][n:].values, second["agl"].values)
    np.testing.assert_array_equal(both["city"][:n].values, first["city"].values)
    np.testing.assert_array_equal(both["cube"].values, [0] * n + [1] * second.sizes["patch"])
    np.testing.assert_array_equal(both["cube_patch"][n:].values, second["patch"].values)


def test_it_is_lazy(us3d_cube: Path, omaha: Path) -> None:
    assert geoae.open_cubes([us3d_cube, omaha])["msi"].chunks is not None


def test_layers_of_all_stay_and_others_are_named(us3d_cube: Path, cube_copy: Path) -> None:
    geoae.split(cube_copy)
    both = geoae.open_cubes([us3d_cube, cube_copy])
    assert "split" not in both.variables
    assert "split" in both.attrs["left_out"]


def test_one_cube_has_the_same_values(us3d_cube: Path) -> None:
    one, whole = geoae.open_cubes([us3d_cube]), geoae.open_cube(us3d_cube)
    for name in ("msi", "rgb", "label", "agl", "row", "bounds"):
        xr.testing.assert_equal(
            one[name].drop_vars(list(one[name].coords)), whole[name].drop_vars(list(whole[name].coords))
        )


def test_other_patches_are_refused(us3d_cube: Path, us3d_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    geoae.ingest(us3d_folder, out=other, patch=64)
    with pytest.raises(UsageError, match="patches of 64 pixels, not 32"):
        geoae.open_cubes([us3d_cube, other])


def test_no_cube_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        geoae.open_cubes([])
