"""Dry runs of exports: they say what the real run does, refuse what it refuses, and write nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyogrio
import pytest

from geoae.clusters import cluster
from geoae.encoding import encode
from geoae.errors import GeoaeError, StoreExistsError
from geoae.exports import export_geopackage, export_geoparquet
from geoae.ingestion import ingest
from geoae.summaries import summarize
from geoae.testing import write_georeferenced

WRITERS = {".gpkg": export_geopackage, ".parquet": export_geoparquet}


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube of scenes in two zones, with a layer of most kinds."""
    folder = tmp_path_factory.mktemp("placed")
    write_georeferenced(folder / "town", tiles=1, size=128)
    cube = folder / "town.zarr"
    ingest(folder / "town", out=cube, patch=16, mixed_resolution=True)
    summarize(cube)
    encode(cube, plugin="random-projection", options={"latent_dim": 2})
    cluster(cube, latents="random-projection", k=2)
    return cube


@pytest.fixture(params=["placed", "loose"])
def cube(request: pytest.FixtureRequest, placed: Path, us3d_cube: Path) -> Path:
    return placed if request.param == "placed" else us3d_cube


@pytest.mark.parametrize("ending", WRITERS)
def test_it_says_what_the_real_run_does(cube: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    planned = WRITERS[ending](cube, path, dry_run=True)
    assert planned.dry_run
    assert list(tmp_path.iterdir()) == []
    made = WRITERS[ending](cube, path)
    assert made.n_bytes == path.stat().st_size
    assert replace(planned, n_bytes=made.n_bytes, dry_run=False) == made
    least = 0.5 if ending == ".gpkg" else 0.1  # Parquet compresses, by how much is not known before
    assert least < made.n_bytes / planned.n_bytes < 1.3


def test_an_addition_too(placed: Path, us3d_cube: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.gpkg"
    export_geopackage(us3d_cube, path)
    before = path.read_bytes()
    planned = export_geopackage(placed, path, add=True, dry_run=True)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.gpkg"]
    assert set(planned.kept) == {name for name, _ in pyogrio.list_layers(path)} - {"layer_styles"}
    made = export_geopackage(placed, path, add=True)
    assert replace(planned, n_bytes=made.n_bytes, dry_run=False) == made
    assert 0.5 < made.n_bytes / planned.n_bytes < 1.3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.shp", {}),
        ("nowhere/x.gpkg", {}),
        ("there.gpkg", {}),
        ("text.gpkg", {"overwrite": True}),
        ("text.gpkg", {"add": True}),
        ("there.gpkg", {"add": True}),  # a layer of the same name from another cube
        ("x.gpkg", {"prefix": "gpkg_"}),
        ("x.gpkg", {"cities": ["NYC"]}),
        ("x.gpkg", {"clusters": "nope"}),
    ],
)
def test_it_refuses_what_the_real_run_refuses(
    placed: Path, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    (tmp_path / "text.gpkg").write_text("text")
    pyogrio.write_dataframe(
        pyogrio.read_dataframe(_export(placed, tmp_path / "other.gpkg"), layer="overview"),
        tmp_path / "there.gpkg", layer="overview", driver="GPKG",
    )  # fmt: skip
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    said = []
    for dry_run in (True, False):
        with pytest.raises(GeoaeError) as caught:
            export_geopackage(placed, tmp_path / name, dry_run=dry_run, **options)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def _export(cube: Path, path: Path) -> Path:
    export_geopackage(cube, path)
    return path


def test_a_dry_run_of_parquet_refuses_an_existing_file(placed: Path, tmp_path: Path) -> None:
    export_geoparquet(placed, tmp_path / "x.parquet")
    with pytest.raises(StoreExistsError):
        export_geoparquet(placed, tmp_path / "x.parquet", dry_run=True)
