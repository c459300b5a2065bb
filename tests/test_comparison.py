"""Comparison of cubes: what differs is said, what does not is not."""

import shutil
from pathlib import Path

import pytest
import tifffile

import geoae
from geoae.cli import main
from geoae.comparison import diff
from geoae.selection import Selection


def test_a_copy_is_equal(us3d_cube: Path, cube_copy: Path) -> None:
    found = diff(us3d_cube, cube_copy)
    assert found.equal
    assert found.lines == ()


def test_another_option_is_named(us3d_cube: Path, us3d_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    geoae.ingest(us3d_folder, out=other, patch=32, min_valid=0.9)
    assert diff(us3d_cube, other).lines == ("option min_valid: 0.5 / 0.9",)


def test_fewer_scenes(us3d_cube: Path, us3d_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    geoae.ingest(us3d_folder, out=other, patch=32, selection=Selection(cities=("OMA",)))
    lines = diff(us3d_cube, other).lines
    assert any("scenes only in the first" in line and "JAX_" in line for line in lines)
    assert any(line.startswith("patches: ") for line in lines)


def test_a_changed_pixel_is_found_in_its_shard(us3d_cube: Path, us3d_folder: Path, tmp_path: Path) -> None:
    source, other = tmp_path / "us3d", tmp_path / "other.zarr"
    shutil.copytree(us3d_folder, source)
    path = sorted(source.rglob("*_RGB.tif"))[0]
    pixels = tifffile.imread(path)
    pixels[40, 70, 0] ^= 1
    tifffile.memmap(path, mode="r+")[40, 70, 0] ^= 1
    assert (tifffile.imread(path) == pixels).all()
    geoae.ingest(source, out=other, patch=32)
    found = diff(us3d_cube, other)
    # Uncompressed, the file keeps its size, and the plan with it: only the pixels differ.
    assert set(found.patches) == {"rgb"}
    (shard,) = found.patches["rgb"]
    # The first scene; row 1 and column 2 of patches of 32 pixels, 4 a row.
    assert 1 * 4 + 2 in shard


def test_layers(us3d_cube: Path, cube_copy: Path, tmp_path: Path) -> None:
    geoae.split(cube_copy, seed=1)
    other = tmp_path / "second" / cube_copy.name
    shutil.copytree(us3d_cube, other)
    shutil.copytree(f"{us3d_cube}.work", f"{other}.work")
    assert diff(other, cube_copy).lines == ("splits/default only in the second",)
    geoae.split(other, seed=2)
    assert diff(other, cube_copy).lines == ("splits/default differs: seed: 2 / 1",)


def test_the_command(us3d_cube: Path, cube_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as code:
        main(["diff", str(us3d_cube), str(cube_copy)])
    assert code.value.code == 0
    assert capsys.readouterr().out == "no difference\n"
    geoae.split(cube_copy)
    with pytest.raises(SystemExit) as code:
        main(["diff", str(us3d_cube), str(cube_copy)])
    assert code.value.code == 1
