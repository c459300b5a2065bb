"""Export of latents: vectors beside what is known of each patch, and the way back."""

import io
import json
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import runner
from latent_scenes import give_latents, make_cube
from PIL import Image

import geoae
from geoae.cube import Cube
from geoae.errors import InputError, StoreExistsError, UsageError
from geoae.exports.thumbnails import Thumbnails, png
from geoae.layers import remove_layer
from geoae.plots.pictures import Display, choose_display, read_rows, render, stretch_limits


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes with latents of all patches but number 5, clusters, summary, projection."""
    cube = make_cube(tmp_path_factory.mktemp("latents"), scenes=3)
    z = np.random.default_rng(0).normal(size=(cube.n_patches, 4))
    z[5] = np.nan
    give_latents(cube, z, "mine")
    geoae.summarize(cube)
    geoae.cluster(cube, latents="mine", k=3)
    geoae.project(cube, latents="mine")
    return cube.location.path


@pytest.fixture
def cube(made: Path, tmp_path: Path) -> Cube:
    for path in made.parent.iterdir():
        if path.is_dir() and path.name != "scenes":
            shutil.copytree(path, tmp_path / path.name)
    return Cube.open(tmp_path / made.name)


def test_rows_are_the_patches_with_vectors(cube: Cube, tmp_path: Path) -> None:
    report = geoae.export_latents(cube, tmp_path / "l.parquet")
    assert (report.latents, report.patches, report.left_out) == ("latents/mine", cube.n_patches - 1, 1)
    assert (report.latent_dim, report.projection, report.thumbnail_side) == (4, "projections/mine_pca", 0)
    assert report.n_bytes == (tmp_path / "l.parquet").stat().st_size
    table = pq.read_table(tmp_path / "l.parquet")
    assert table.schema.field("vector").type == pa.list_(pa.float32())
    assert table["vector"].null_count == 0
    frame = pd.read_parquet(tmp_path / "l.parquet")  # as Embedding Atlas reads it
    rows = np.delete(np.arange(cube.n_patches), 5)
    np.testing.assert_array_equal(frame.patch_id, rows)
    np.testing.assert_array_equal(np.stack(frame.vector), cube.layer("latents/mine")["z"].to_numpy()[rows])
    xy = cube.layer("projections/mine_pca")["xy"].to_numpy()[rows]
    np.testing.assert_array_equal(frame[["proj_x", "proj_y"]], xy)
    np.testing.assert_array_equal(frame.cluster, cube.layer("clusters/mine")["cluster"].to_numpy()[rows])
    # Patch (row, col) is (2, 5, 6)[(row + col) % 3] and 10 row + col metres high, see `make_cube`.
    np.testing.assert_array_equal(frame.dominant_class, np.array([2, 5, 6])[(frame.row + frame.col) % 3])
    np.testing.assert_allclose(frame.mean_height_m, 10 * frame.row + frame.col)
    assert set(frame.city) == {"JAX", "OMA"}
    assert "thumbnail" not in frame


def test_geometry_follows_the_rules_of_the_polygons(tmp_path: Path) -> None:
    cube = make_cube(tmp_path, scenes=2, crs="EPSG:32617")
    give_latents(cube, np.arange(cube.n_patches * 2.0).reshape(-1, 2), "mine")
    geoae.export_latents(cube, tmp_path / "l.parquet")
    geoae.export_geoparquet(cube, tmp_path / "p.parquet")
    one, other = (geopandas.read_parquet(tmp_path / name) for name in ("l.parquet", "p.parquet"))
    assert one.crs == other.crs == "EPSG:4326"
    assert one.geometry.geom_equals_exact(other.geometry, 0).all()


def test_there_and_back(cube: Cube, tmp_path: Path) -> None:
    geoae.export_latents(cube, tmp_path / "l.parquet", thumbnails=True)
    report = geoae.attach(cube, tmp_path / "l.parquet", name="back")
    assert (report.matched_by, report.vector, report.missing) == ("patch", "vector", 1)
    np.testing.assert_array_equal(
        cube.layer("latents/back")["z"].to_numpy(), cube.layer("latents/mine")["z"].to_numpy()
    )


def test_another_cube_does_not_take_them(cube: Cube, tmp_path: Path) -> None:
    geoae.export_latents(cube, tmp_path / "l.parquet")
    other = make_cube(tmp_path / "other", scenes=4)
    with pytest.raises(InputError, match="is of the cube"):
        geoae.attach(other, tmp_path / "l.parquet", name="back")
    # By scene and place they are the same patches.
    report = geoae.attach(other, tmp_path / "l.parquet", name="back", by="cell")
    assert report.attached == cube.n_patches - 1


def test_equal_exports_have_equal_bytes(cube: Cube, tmp_path: Path) -> None:
    for name in ("a", "b"):
        geoae.export_latents(cube, tmp_path / f"{name}.parquet", thumbnails=True)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_groups_of_rows_do_not_change_values(
    cube: Cube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    geoae.export_latents(cube, tmp_path / "a.parquet", thumbnails=True)
    monkeypatch.setattr("geoae.exports.geoparquet._LATE_ROW_GROUP", 7)
    geoae.export_latents(cube, tmp_path / "b.parquet", thumbnails=True)
    assert pq.ParquetFile(tmp_path / "b.parquet").num_row_groups > 5
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))


def test_thumbnails_are_the_patches(cube: Cube, tmp_path: Path) -> None:
    report = geoae.export_latents(cube, tmp_path / "l.parquet", thumbnails=True, scenes=["OMA_001_001"])
    assert report.thumbnail_side == 4  # the patch is no larger
    table = pq.read_table(tmp_path / "l.parquet")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert table.schema.field("thumbnail").type == kind
    for row in table.to_pylist():
        picture = np.asarray(Image.open(io.BytesIO(row["thumbnail"]["bytes"])))
        pixels = cube.array("rgb")[row["patch_id"]]
        np.testing.assert_array_equal(picture, np.moveaxis(np.asarray(pixels), 0, -1))
        assert row["thumbnail"]["path"] == f"{row['patch_id']}.png"


def test_thumbnails_are_averaged_down(cube: Cube, tmp_path: Path) -> None:
    report = geoae.export_latents(cube, tmp_path / "l.parquet", thumbnails=True, thumbnail_side=3)
    assert report.thumbnail_side == 2
    first = pq.read_table(tmp_path / "l.parquet").to_pylist()[0]
    picture = np.asarray(Image.open(io.BytesIO(first["thumbnail"]["bytes"])))
    pixels = np.moveaxis(np.asarray(cube.array("rgb")[0]), 0, -1).astype(float)
    expected = pixels.reshape(2, 2, 2, 2, 3).mean(axis=(1, 3)).round()
    np.testing.assert_array_equal(picture, expected)


def test_a_png_is_read_by_others_as_it_was_written() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 3, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)


def test_all_thumbnails_share_one_stretch(us3d_cube: Path) -> None:
    cube = Cube.open(us3d_cube)
    rows = np.flatnonzero(cube.table()["msi_valid_fraction"].to_numpy() > 0)
    display = Display("msi", "stretch", (4, 2, 1))
    limits = stretch_limits(display, *read_rows(cube, display, rows))
    whole = render(display, *read_rows(cube, display, rows))
    pictures = Thumbnails(cube, display, 1, limits, 0.5)
    for start in (0, 30):
        for offset, file in enumerate(pictures.of_rows(rows[start : start + 3])):
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), whole[start + offset])
    assert Thumbnails.of(cube, rows, 64).display == choose_display(cube, rows)


def test_several_latents_have_to_be_named(cube: Cube, tmp_path: Path) -> None:
    give_latents(cube, np.ones((cube.n_patches, 2)), "other")
    with pytest.raises(UsageError, match="several latents: mine, other"):
        geoae.export_latents(cube, tmp_path / "l.parquet")
    report = geoae.export_latents(cube, tmp_path / "l.parquet", latents="other")
    assert (report.latent_dim, report.projection, report.left_out) == (2, None, 0)
    frame = pd.read_parquet(tmp_path / "l.parquet")
    assert frame.cluster.isna().all()  # the clusters there are those of others
    assert frame.proj_x.isna().all()


def test_what_cannot_be_exported(cube: Cube, tmp_path: Path) -> None:
    (tmp_path / "l.parquet").write_text("mine")
    with pytest.raises(StoreExistsError, match="exists"):
        geoae.export_latents(cube, tmp_path / "l.parquet")
    with pytest.raises(UsageError, match=r"ends in \.parquet"):
        geoae.export_latents(cube, tmp_path / "l.csv")
    with pytest.raises(UsageError, match="lies in the cube"):
        geoae.export_latents(cube, cube.location.path / "l.parquet")
    with pytest.raises(UsageError, match="has no latents/vae"):
        geoae.export_latents(cube, tmp_path / "m.parquet", latents="vae")
    with pytest.raises(ValueError, match="at least one pixel"):
        geoae.export_latents(cube, tmp_path / "m.parquet", thumbnail_side=0)
    z = np.ones((cube.n_patches, 2))
    z[np.flatnonzero(cube.table().city == "OMA")] = np.nan
    give_latents(cube, z, "jax")
    with pytest.raises(InputError, match="no patch that was chosen has a vector in latents/jax"):
        geoae.export_latents(cube, tmp_path / "m.parquet", latents="jax", cities=["OMA"])
    for info in cube.layers():
        remove_layer(cube, info.path)
    with pytest.raises(UsageError, match="has no latents"):
        geoae.export_latents(cube, tmp_path / "m.parquet")
    assert not (tmp_path / "m.parquet").exists()


def test_a_stale_layer_is_said_and_the_licence_goes_along(cube: Cube, tmp_path: Path) -> None:
    give_latents(cube, np.ones((cube.n_patches, 4)), "mine", seed=1)
    report = geoae.export_latents(cube, tmp_path / "l.parquet")
    assert any("clusters/mine is stale" in text for text in report.warnings)
    metadata = pq.read_schema(tmp_path / "l.parquet").metadata
    assert metadata[b"geoae_cube"].decode() == cube.cube_id
    assert {b"licence", b"citation", b"description"} <= metadata.keys()
    assert "latents/mine" in json.loads(metadata[b"layers"])


def test_the_command(cube: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner(capsys)
    answer = run("export", "latents", tmp_path / "l.parquet", "--cube", cube.path, "--thumbnails")
    assert answer.code == 0
    assert "47 vectors of 4 components, thumbnails of 4 pixels, " in answer.out
    assert answer.out.endswith("1 patches have no vector\n")
    assert "embedding-atlas" in answer.err
    assert "--x proj_x --y proj_y --image thumbnail" in answer.err
    again = run("export", "latents", tmp_path / "l.parquet", "--cube", cube.path)
    assert again.code == 2
