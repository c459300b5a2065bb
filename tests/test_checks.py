"""Checking a catalog against a folder: what is counted, what is a problem, what only a remark."""

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from cube_scenes import SMALL, catalog_of, scene_pixels, write_scene, write_tif

from geoae.checks import check_catalog
from geoae.cli import main
from geoae.errors import CatalogError, InputError, UsageError
from geoae.ingestion import ingest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scenes = tmp_path / "scenes"
    write_scene(scenes, "JAX_001_001", scene_pixels((32, 32), 1))
    write_scene(scenes, "JAX_001_002", scene_pixels((32, 32), 2, kinds=("RGB", "CLS")))
    return scenes


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_good_folder_has_no_problem_and_stays_as_it_is(folder: Path) -> None:
    before = contents(folder.parent)
    found = check_catalog(folder, SMALL)
    assert found.ok
    assert [header.scene.key for header in found.scenes] == ["JAX_001_001", "JAX_001_002"]
    assert found.provided() == {
        "msi": {"copied": 1, "missing": 1},
        "rgb": {"copied": 2},
        "agl": {"copied": 1, "missing": 1},
        "label": {"copied": 2},
    }
    assert contents(folder.parent) == before


def test_codes_are_counted_and_those_outside_the_class_table_named(folder: Path) -> None:
    found = check_catalog(folder, SMALL)
    raw = np.concatenate([scene_pixels((32, 32), seed)["CLS"] for seed in (1,)])
    raw = np.concatenate([raw, scene_pixels((32, 32), 2, kinds=("RGB", "CLS"))["CLS"]])
    codes, counts = np.unique(raw, return_counts=True)
    assert found.codes["label"] == dict(zip(codes.tolist(), counts.tolist(), strict=True))
    assert found.outside == {"label": (0, 65, 214)}


def test_without_a_class_table_no_code_is_outside(folder: Path) -> None:
    found = check_catalog(folder, catalog_of(class_tables={}, default_class_table=None))
    assert found.outside == {}
    assert 214 in found.codes["label"]


def test_files_that_nothing_explains_are_ignored_and_no_problem(folder: Path) -> None:
    write_tif(folder / "overview.tif", np.ones((4, 4), np.uint8))
    found = check_catalog(folder, SMALL)
    assert found.ok
    assert found.ignored == ("overview.tif",)


def test_bad_scenes_are_problems_one_line_each(folder: Path) -> None:
    write_scene(folder, "OMA_001_001", {"RGB": np.ones((4, 8, 8), np.uint8)})
    (folder / "OMA_001_002_RGB.tif").write_bytes(b"")
    found = check_catalog(folder, SMALL)
    assert not found.ok
    assert [problem.split(":")[0] for problem in found.problems] == ["OMA_001_001", "OMA_001_002"]
    assert "4 bands" in found.problems[0]
    assert "empty" in found.problems[1]


def test_scenes_of_other_bands_than_most_are_problems(tmp_path: Path) -> None:
    catalog = catalog_of(modalities={"rgb": {"bands": None}})
    for number in range(3):
        write_scene(tmp_path, f"JAX_001_00{number}", {"RGB": np.ones((3 + number // 2, 8, 8), np.uint8)})
    found = check_catalog(tmp_path, catalog)
    assert found.problems == ("JAX_001_002: rgb has 4 bands of uint8, most scenes have 3 of uint8",)


def test_pixels_that_cannot_be_decoded_are_found(folder: Path) -> None:
    path = write_tif(folder / "JAX_002_001_RGB.tif", scene_pixels((64, 64), 3)["RGB"], compress="deflate")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    found = check_catalog(folder, SMALL)
    assert len(found.problems) == 1
    assert "JAX_002_001" in found.problems[0]


def test_a_wrong_unit_or_range_is_remarked(tmp_path: Path) -> None:
    pixels = {
        "MSI": np.full((2, 8, 8), 4000, np.uint16),
        "AGL": np.full((8, 8), 30_000, np.float32),
    }
    write_scene(tmp_path, "JAX_001_001", pixels)
    remarks = " | ".join(
        check_catalog(tmp_path, catalog_of(modalities={"agl": {"valid_range": [0, 500]}})).remarks
    )
    assert "agl: 100% of a sample is void; check nodata, unit, void and valid_range" in remarks
    assert "msi: a sample has 4000 to 4000, outside of its range 0 to 2047" in remarks


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no file"):
        check_catalog(tmp_path, SMALL)
    write_tif(tmp_path / "a.tif", np.ones((4, 4), np.uint8))
    with pytest.raises(CatalogError, match="explains no file"):
        check_catalog(tmp_path, SMALL)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0), capsys.readouterr().out


def test_the_command_says_the_same_and_exits_3_for_problems(
    us3d_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(capsys, "catalogs", "check", "us3d", str(us3d_folder), "--quiet")
    assert code == 0
    assert "scenes can be used" in out.splitlines()[0]
    assert "65 unlabelled (void)" in out
    code, out = run(capsys, "catalogs", "check", "us3d", str(us3d_folder), "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["problems"]) == (0, True, [])
    assert len(document["scenes"]) == len({scene["key"] for scene in document["scenes"]})
    write_tif(tmp_path / "JAX_001_001_RGB.tif", np.ones((4, 8, 8), np.uint8))
    code, out = run(capsys, "catalogs", "check", "us3d", str(tmp_path), "--json")
    assert code == 3
    assert len(json.loads(out)["problems"]) == 1
    code, out = run(
        capsys, "catalogs", "check", "generic", str(tmp_path), "--pattern", "{scene}_{kind}.tif", "--quiet"
    )
    assert code == 0
    assert out.startswith("generic: 1 of 1 scenes can be used")


def test_pixel_sizes_that_an_ingest_would_not_take_are_a_problem(tmp_path: Path) -> None:
    for number, pixel in enumerate((0.5, 0.5, 0.6)):
        where = Affine(pixel, 0, 434_000, 0, -pixel, 3_354_000)
        pixels = scene_pixels((32, 32), number, kinds=("RGB",))
        write_scene(tmp_path / "s", f"JAX_001_00{number}", pixels, crs="EPSG:32617", transform=where)
    found = check_catalog(tmp_path / "s", SMALL)
    assert not found.ok
    (problem,) = found.problems
    assert problem.startswith("pixel sizes differ: 0.5")
    assert "--mixed-resolution" in problem
    with pytest.raises(UsageError, match="pixel sizes differ"):
        ingest(tmp_path / "s", catalog=SMALL, out=tmp_path / "c.zarr", patch=16)
