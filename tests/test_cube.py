"""Cubes as plain xarray, plain zarr and geoae itself read them."""

import json
import math
import shutil

import numpy as np
import pytest
import xarray as xr
import zarr
from cube_scenes import SMALL, scene_pixels, tree, write_scene, write_tif

from geoae.cube import Cube
from geoae.errors import IncompleteError, IntegrityError, NotACubeError, UsageError
from geoae.ingestion import ingest
from geoae.layers import write_layer
from geoae.provenance import Record
from geoae.store import METADATA, METADATA_DIGEST, metadata_digest
from geoae.testing.quirks import empty_tif

PIXELS = ("msi", "rgb", "agl", "label", "msi_valid", "rgb_valid", "label_valid")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cube of several shards with a scene without CRS and one that could not be read; two layers."""
    root = tmp_path_factory.mktemp("made")
    for number, key in enumerate(("JAX_001_001", "JAX_001_002", "OMA_001_001")):
        crs = {"crs": None} if number == 1 else {}
        write_scene(root / "s", key, scene_pixels((80, 72), number), **crs)
    write_tif(root / "s" / "OMA_002_001_RGB.tif", scene_pixels((80, 72), 5)["RGB"])
    empty_tif(root / "s" / "OMA_002_001_AGL.tif")
    ingest(root / "s", catalog=SMALL, out=root / "c.zarr", patch=8, skip_bad=True, min_valid=0.25)
    cube = Cube.open(root / "c.zarr")
    n = cube.n_patches
    z = xr.Dataset({"z": (("patch", "component"), np.arange(2 * n, dtype=np.float32).reshape(n, 2))})
    write_layer(cube, "latents/a", z, Record(made_by="test", inputs={"cube": cube.cube_id}))
    numbers = xr.Dataset(
        {"cluster": ("patch", np.arange(n, dtype=np.int32) % 3), "size": ("cluster_id", np.array([1, 2, 3]))},
        {"cluster_id": [0, 1, 2], "note": ("cluster_id", ["a", "b", "c"])},
        {"title": "three"},
    )
    inputs = {"cube": cube.cube_id, "latents/a": cube.layer_digest("latents/a")}
    write_layer(cube, "clusters/a", numbers, Record(made_by="test", inputs=inputs))
    return root / "c.zarr"


@pytest.fixture
def copied(made, tmp_path):
    shutil.copytree(made, tmp_path / "c.zarr")
    return tmp_path / "c.zarr"


# --- without geoae (warnings are errors in every test) --------------------------------------------


OPENINGS = {
    "by chunks": xr.open_zarr,
    "without Dask": lambda path: xr.open_zarr(path, chunks=None),
    "by shards": lambda path: xr.open_zarr(path, chunks=None).chunk(patch=64),
}


@pytest.mark.parametrize("way", OPENINGS)
def test_plain_xarray_reads_what_zarr_reads(made, way):
    group = zarr.open_group(made, mode="r")
    with OPENINGS[way](made) as opened:
        assert set(opened.variables) == set(group.array_keys())
        for name in opened.variables:
            stored = group[name][...]
            read = opened[name].values
            assert read.dtype == stored.dtype or read.dtype.kind in "TO", name  # integers stay integers
            assert np.array_equal(read, stored, equal_nan=stored.dtype.kind == "f")


def test_pixels_are_variables_and_all_else_is_a_coordinate(made):
    with xr.open_zarr(made) as opened:
        assert set(opened.data_vars) == set(PIXELS)
        assert opened.msi.dims == ("patch", "msi_band", "y", "x")
        assert opened.agl.dims == opened.msi_valid.dims == ("patch", "y", "x")
        assert opened.msi_band.values.tolist() == ["red", "nir"]
        assert opened.msi_wavelength.values.tolist() == [660, 830]
        assert {"city", "bounds", "valid_fraction", "scene_crs"} <= set(opened.coords)
        assert opened.attrs["Conventions"] == "CF-1.11"
        assert opened.label.attrs["flag_values"] == [2, 5, 6]
        assert opened.agl.attrs["units"] == "m"


def test_scenes_can_be_grouped_by_what_is_known_of_them(made):
    with xr.open_zarr(made) as opened:
        counts = opened.row.groupby(opened.scene_id.compute()).count()
        assert counts.to_series().to_dict() == dict.fromkeys(
            ("JAX_001_001", "JAX_001_002", "OMA_001_001", "OMA_002_001"), 90
        )
        assert (opened.agl.isel(patch=opened.city.values == "JAX").sizes["patch"]) == 180


@pytest.mark.parametrize("path", ["latents/a", "clusters/a"])
def test_plain_xarray_opens_layers(made, path):
    with xr.open_zarr(made, group=path) as opened:
        group = zarr.open_group(made / path, mode="r")
        assert set(opened.variables) == set(group.array_keys())
        assert opened.patch.values.tolist() == list(range(360))
    with xr.open_zarr(made, group="clusters/a") as opened:
        assert opened.attrs["title"] == "three"
        assert opened.cluster.dtype == np.int32
        assert set(opened.coords) == {"patch", "cluster_id", "note"}


def test_a_tree_holds_everything(made):
    with xr.open_datatree(made, engine="zarr") as opened:
        assert {"/", "/latents/a", "/clusters/a"} <= set(opened.groups)
        assert np.array_equal(opened["latents/a/z"].values[:, 0], np.arange(0, 720, 2))
        assert opened["/"].dataset.rgb.shape == (360, 3, 8, 8)


def test_looking_at_a_cube_reads_no_pixel(made, monkeypatch):
    keys = []
    original = zarr.storage.LocalStore.get

    async def get(self, key, *rest, **options):
        keys.append(f"{self.root}/{key}")
        return await original(self, key, *rest, **options)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", get)
    with xr.open_zarr(made) as opened:
        repr(opened)
        opened._repr_html_()
        opened.isel(patch=slice(0, 3)).msi.sel(msi_band="nir")
    assert not [key for key in keys if any(f"/{name}/c/" in key for name in PIXELS)]
    with xr.open_zarr(made) as opened:
        opened.msi.isel(patch=slice(0, 3)).values  # noqa: B018 (reads)
    assert {key.split("/c.zarr/")[1] for key in keys if "/msi/c/" in key} == {"msi/c/0/0/0/0"}


def test_the_consolidated_metadata_are_those_of_the_arrays(made):
    root = json.loads((made / METADATA).read_text())
    members = root["consolidated_metadata"]["metadata"]
    files = {str(p.parent.relative_to(made)) for p in made.rglob(METADATA)} - {"."}
    assert set(members) == files
    for name, document in members.items():
        alone = json.loads((made / name / METADATA).read_text())
        alone.pop("consolidated_metadata", None)
        assert document == alone, name


# --- opening --------------------------------------------------------------------------------------


def test_a_cube_is_known_by_its_root(made):
    cube = Cube.open(made)
    assert Cube.open(cube).cube_id == Cube.open(str(made)).cube_id == cube.cube_id
    assert cube.path == str(made)
    assert cube.n_patches == 360
    assert (cube.patch_size, cube.stride, cube.min_valid) == (8, 8, 0.25)
    assert cube.modalities == ("msi", "rgb", "agl", "label")
    assert cube.by_role("image") == ("msi", "rgb")
    assert (cube.by_role("height"), cube.by_role("label")) == (("agl",), ("label",))
    assert cube.bands("msi") == ("red", "nir")
    assert cube.bands("agl") == ("agl",)
    assert cube.catalog == SMALL
    assert list(cube.catalog.modalities) == list(SMALL.modalities)
    assert [r.stop - r.start for r in cube.shards()] == [64] * 5 + [40]


def test_tables_of_patches_and_scenes(made):
    cube = Cube.open(made)
    table = cube.table()
    assert table.index.name == "patch_id"
    row = table.loc[90 + 9 + 1]  # second scene, second row, second column
    assert (row.scene_id, row.city, row.tile, row["view"]) == ("JAX_001_002", "JAX", "001", "002")
    assert (row.row, row.col, row.y_start, row.x_start) == (1, 1, 8, 8)
    assert (row.xmin, row.ymin, row.xmax, row.ymax) == (8, 8, 16, 16)
    assert math.isnan(row.pixel_size_x)
    first = table.loc[0]
    assert (first.xmin, first.ymin, first.xmax, first.ymax) == (434_000, 3_353_996, 434_004, 3_354_000)
    assert 0.8 < table.msi_valid_fraction[:90].mean() < 1
    table.loc[0, "city"] = "changed"
    assert cube.table().city[0] == "JAX"
    scenes = cube.scenes()
    assert scenes.scene_shape[0].tolist() == [80, 72]
    assert list(cube.bad_scenes()) == ["OMA_002_001"]
    assert cube.grid(0).crs
    assert cube.grid(1).crs is None
    assert cube.grid(0).shape == (80, 72)
    assert cube.grid(0).transform.a == 0.5


def test_columns_are_those_of_the_tables(made):
    cube = Cube.open(made)
    for name in ("scene_number", "pixel_size_x", "city"):
        assert np.array_equal(cube.values(name), cube.table()[name], equal_nan=name == "pixel_size_x")
    assert cube.values("scene_status").dtype == object
    assert cube.values("scene_status").tolist() == cube.scenes()["scene_status"].tolist()
    status = cube.scenes().set_index("scene_name")["scene_status"]
    assert cube.bad_scenes() == {"OMA_002_001": status["OMA_002_001"]}


def test_the_share_of_valid_pixels_is_the_smallest_of_the_modalities(made):
    cube = Cube.open(made)
    table = cube.table()
    columns = table[["msi_valid_fraction", "agl_valid_fraction"]]
    assert np.array_equal(cube.valid_fraction(("msi", "agl")), columns.min(axis=1))
    assert np.array_equal(
        cube.valid_fraction(), table[["msi_valid_fraction", "rgb_valid_fraction"]].min(axis=1)
    )


def refused(path, kind, message, code):
    with pytest.raises(kind, match=message) as caught:
        Cube.open(path)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)


def test_what_is_no_cube(tmp_path, copied):
    refused(tmp_path / "nowhere.zarr", NotACubeError, "is not a geoae cube .*geoae ingest", 3)
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", NotACubeError, "is not a geoae cube", 3)
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", NotACubeError, "is not a geoae cube", 3)
    zarr.create_group(tmp_path / "group")
    refused(tmp_path / "group", NotACubeError, "is a Zarr group, but not a geoae cube", 3)
    for document in (
        {"zarr_format": 3, "node_type": "group"},
        {"zarr_format": 3, "node_type": "group", "attributes": {"geoae_format": "1"}},
    ):
        (tmp_path / "group" / METADATA).write_text(json.dumps(document))
        refused(tmp_path / "group", NotACubeError, "not a geoae cube", 3)
    (copied / METADATA).unlink()
    refused(copied, NotACubeError, "is not a geoae cube", 3)
    (tmp_path / "c.zarr.work" / "ingest").mkdir(parents=True)
    (tmp_path / "c.zarr.work" / "ingest" / "plan.json").write_text("{}")
    refused(copied, IncompleteError, "is incomplete", 5)


def change_root(path, **changes):
    document = json.loads((path / METADATA).read_text())
    document["attributes"] |= changes
    return document


def test_a_newer_format_is_refused(copied):
    document = change_root(copied, geoae_format=99)
    document["attributes"][METADATA_DIGEST] = metadata_digest(document["attributes"])
    (copied / METADATA).write_text(json.dumps(document))
    refused(copied, NotACubeError, "has format 99, this geoae reads up to 1 .update geoae", 3)


def test_a_changed_root_is_noticed(copied):
    (copied / METADATA).write_text(json.dumps(change_root(copied, title="changed")))
    refused(copied, IntegrityError, "attributes of .* were changed", 5)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_broken_root_is_one_line(copied, content):
    (copied / METADATA).write_bytes(content)
    refused(copied, IntegrityError, r"zarr\.json", 5)


def test_a_missing_array_is_one_line(copied):
    shutil.rmtree(copied / "rgb")
    with pytest.raises(IntegrityError, match=r"c\.zarr/rgb is missing .*geoae verify"):
        Cube.open(copied).array("rgb")


def test_a_cube_can_be_moved_and_read_where_nothing_can_be_written(copied, tmp_path):
    copied.rename(tmp_path / "moved.zarr")
    for path in [tmp_path / "moved.zarr", *(tmp_path / "moved.zarr").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = tree(tmp_path)
    cube = Cube.open(tmp_path / "moved.zarr")
    assert cube.table().shape[0] == 360
    assert len(cube.layers()) == 2
    assert tree(tmp_path) == before
    for path in [tmp_path / "moved.zarr", *(tmp_path / "moved.zarr").rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


# --- layers ---------------------------------------------------------------------------------------


def test_layers_are_listed_with_what_they_were_made_from(made):
    cube = Cube.open(made)
    latents, clusters = cube.layers()
    assert (latents.path, latents.kind, latents.name) == ("latents/a", "latents", "a")
    assert set(latents.variables) == {"patch", "z"}
    assert clusters.record.inputs["latents/a"] == latents.digest == cube.layer_digest("latents/a")
    assert (latents.stale, clusters.stale) == ((), ())
    assert cube.layer_info("clusters/a") == clusters
    assert cube.layer("latents/a").z.shape == (360, 2)


def test_layers_that_are_not_there(made):
    cube = Cube.open(made)
    for call in (cube.layer, cube.layer_info, cube.layer_digest):
        with pytest.raises(UsageError, match=r"has no latents/b .latents there: a") as caught:
            call("latents/b")
        assert caught.value.exit_code == 2
        with pytest.raises(UsageError, match=r"names no layer|has no"):
            call("rgb")


def test_a_changed_layer_is_noticed(copied):
    document = json.loads((copied / "latents/a" / METADATA).read_text())
    document["attributes"]["title"] = "changed"
    (copied / "latents/a" / METADATA).write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match=r"attributes of latents/a of c\.zarr were changed"):
        Cube.open(copied).layers()
