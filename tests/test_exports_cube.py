"""Exports of a cube: which layers and patches, and that nothing changes on the way."""

import json
import warnings
from pathlib import Path

import export_scenes as scenes
import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import xarray as xr

from geoae.cube import Cube
from geoae.errors import InputError, StoreExistsError, UsageError
from geoae.exports import export_geopackage, export_geoparquet
from geoae.grid import Grid
from geoae.ingestion import ingest
from geoae.layers import write_layer
from geoae.provenance import Record
from geoae.summaries import summarize

SCENES = {"JAX_004_006": scenes.NORTH_UP, "JAX_004_007": scenes.LOOSE, "OMA_132_002": scenes.OTHER_ZONE}
EACH = scenes.ROWS * scenes.COLUMNS


def write(path: Path, values: np.ndarray, grid: Grid) -> None:
    profile = {"driver": "GTiff", "height": grid.height, "width": grid.width, "count": values.shape[0]}
    if grid.crs is not None:
        profile |= {"crs": grid.crs, "transform": grid.transform}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # a scene without a CRS
        with rasterio.open(path, "w", dtype=values.dtype, **profile) as raster:
            raster.write(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """US3D names; pixels say to which patch they belong."""
    folder = tmp_path_factory.mktemp("us3d")
    code = scenes.pixels()
    row, col = np.divmod(code, 100)
    for name, grid in SCENES.items():
        write(folder / f"{name}_RGB.tif", np.stack([10 + row, 10 + col, 10 + row]).astype(np.uint8), grid)
        # rows of ground, trees, buildings; the last patch is void
        label = np.where(code == 203, 65, np.array([2, 5, 6])[row.clip(0, 2)]).astype(np.uint8)
        write(folder / f"{name}_CLS.tif", label[np.newaxis], grid)
        height = np.where(code == 203, np.nan, row + col / 10).astype(np.float32)
        write(folder / f"{name}_AGL.tif", height[np.newaxis], grid)
    return folder


def make(cube: Cube, path: str, dataset: xr.Dataset, *inputs: str, **options: object) -> None:
    digests = {name: cube.layer_digest(name) for name in inputs} or {"cube": cube.cube_id}
    write_layer(cube, path, dataset, Record(made_by="test", inputs=digests, options=options), overwrite=True)


def make_clusters(cube: Cube, name: str, latents: str, number: int = 3) -> None:
    label = (np.arange(cube.n_patches) % number).astype(np.int32)
    label[0] = -1
    dataset = xr.Dataset({"cluster": ("patch", label), "size": ("cluster_id", np.bincount(label[1:]))})
    make(cube, f"clusters/{name}", dataset, f"latents/{latents}", k=number)


def make_latents(cube: Cube, name: str, shift: float = 0) -> None:
    z = np.arange(cube.n_patches * 2, dtype=np.float32).reshape(-1, 2) + np.float32(shift)
    error = np.full(cube.n_patches, 0.25, dtype=np.float32)
    error[0] = np.nan
    dataset = xr.Dataset({"z": (("patch", "component"), z), "error": ("patch", error)})
    make(cube, f"latents/{name}", dataset, shift=shift)


def make_projection(cube: Cube, name: str, latents: str, sign: float = 1) -> None:
    xy = sign * np.stack([np.arange(cube.n_patches)] * 2, axis=1).astype(np.float32)
    dataset = xr.Dataset({"xy": (("patch", "axis"), xy)}, attrs={"method": "pca"})
    make(cube, f"projections/{name}", dataset, f"latents/{latents}")


def new_cube(folder: Path, out: Path) -> Cube:
    ingest(folder, catalog="us3d", patch=scenes.PATCH, out=out, mixed_resolution=True, workers=1)
    return Cube.open(out)


@pytest.fixture
def bare(folder: Path, tmp_path: Path) -> Cube:
    """A cube without layers."""
    return new_cube(folder, tmp_path / "bare.zarr")


@pytest.fixture(scope="module")
def cube(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Cube:
    """A cube with one layer of each kind."""
    cube = new_cube(folder, tmp_path_factory.mktemp("cube") / "us3d.zarr")
    summarize(cube)
    make_latents(cube, "pca")
    make_clusters(cube, "pca", "pca")
    make_projection(cube, "pca_pca", "pca")
    part = np.repeat(np.array([0, 2, -1], dtype=np.int8), EACH)
    make(cube, "splits/default", xr.Dataset({"split": ("patch", part)}))
    return cube


@pytest.fixture(scope="module")
def exported(cube: Cube, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "clusters.gpkg"
    report = export_geopackage(cube.path, path)
    assert report.warnings == ()
    assert report.patches == 3 * EACH
    assert [(layer.name, layer.crs, layer.features) for layer in report.layers] == [
        ("overview_pixels", None, EACH),
        ("overview", "EPSG:4326", 2 * EACH),
        ("clusters_epsg_32617", "EPSG:32617", EACH),
        ("clusters_epsg_32615", "EPSG:32615", EACH),
        ("clusters_pixels", None, EACH),
    ]
    return path


def test_columns(exported: Path) -> None:
    frame = scenes.read(exported, "clusters_epsg_32617")
    assert frame.columns.tolist() == [
        "patch_id", "scene_id", "city", "tile", "view", "row", "col", "y_start", "x_start", "split",
        "rgb_valid_fraction", "agl_valid_fraction", "label_valid_fraction", "dominant_class", "class_name",
        "purity", "mean_height_m", "height_valid", "cluster", "error", "proj_x", "proj_y", "geometry",
    ]  # fmt: skip
    assert len({name.lower() for name in frame.columns}) == len(frame.columns)


def test_values_are_those_of_the_cube(exported: Path) -> None:
    frame = scenes.read(exported, "clusters_epsg_32617")
    first = frame.iloc[5]  # row 1, column 1
    assert (first.scene_id, first.city, first.tile, first["view"]) == ("JAX_004_006", "JAX", "004", "006")
    assert (first.patch_id, first.row, first.col, first.y_start, first.x_start) == (5, 1, 1, 16, 16)
    assert (first.dominant_class, first.purity, first.split) == (5, 1, "train")
    assert (first.mean_height_m, first.height_valid, first.error) == (1.1, 1, 0.25)
    assert (first.cluster, first.proj_x, first.proj_y) == (2, 5, 5)


def test_what_is_unknown_is_null(exported: Path) -> None:
    frame = scenes.read(exported, "clusters_epsg_32617")
    void = frame.iloc[11]
    assert void[["dominant_class", "class_name", "mean_height_m"]].isna().all()
    assert void.height_valid == 0
    assert frame["cluster"].isna().tolist() == [True] + [False] * 11
    assert frame["error"].isna().tolist() == [True] + [False] * 11
    assert scenes.read(exported, "clusters_epsg_32615")["split"].isna().all()  # in no part


def test_centroids_sampled_in_the_folder_give_their_patches(exported: Path, folder: Path) -> None:
    for name, layer in (("JAX_004_006", "clusters_epsg_32617"), ("OMA_132_002", "clusters_epsg_32615")):
        frame = scenes.read(exported, layer)
        centres = frame.geometry.centroid
        with rasterio.open(folder / f"{name}_RGB.tif") as raster:
            found = [tuple(v[:2] - 10) for v in raster.sample(zip(centres.x, centres.y, strict=True))]
        assert found == list(zip(frame["row"], frame["col"], strict=True))


def test_metadata_names_cube_layers_and_licence(exported: Path, cube: Cube) -> None:
    metadata = pyogrio.read_info(exported, layer="overview")["layer_metadata"]
    assert metadata["cube_id"] == cube.cube_id
    assert metadata["citation"] == cube.catalog.citation
    layers = json.loads(metadata["layers"])
    assert list(layers) == [
        "clusters/pca",
        "latents/pca",
        "projections/pca_pca",
        "splits/default",
        "summaries/dfc2019",
    ]
    assert layers["clusters/pca"]["digest"] == cube.layer_digest("clusters/pca")
    assert layers["clusters/pca"]["record"]["options"] == {"k": 3}
    assert str(Path(cube.path).parent) not in exported.read_bytes().decode(errors="ignore")


def test_geoparquet_holds_the_same(exported: Path, cube: Cube, tmp_path: Path) -> None:
    report = export_geoparquet(cube, tmp_path / "x.parquet")
    assert [(layer.name, layer.features) for layer in report.layers] == [
        ("geometry", 2 * EACH),
        ("pixel_geometry", 3 * EACH),
    ]
    frame = geopandas.read_parquet(tmp_path / "x.parquet")
    overview = scenes.read(exported, "overview")
    same = frame[frame.geometry.notna()].reset_index(drop=True)
    assert same.geometry.geom_equals(overview.geometry).all()
    for column in ("patch_id", "scene_id", "dominant_class", "cluster", "split"):
        assert same[column].astype(object).where(same[column].notna(), None).tolist() == (
            overview[column].astype(object).where(overview[column].notna(), None).tolist()
        )
    np.testing.assert_allclose(same["mean_height_m"], overview["mean_height_m"], rtol=1e-7)


@pytest.mark.parametrize(
    ("options", "patches"),
    [
        ({"cities": ["OMA"]}, range(24, 36)),
        ({"scenes": ["JAX_004_006", "OMA_132_002"]}, [*range(12), *range(24, 36)]),
        ({"split": "test"}, range(12, 24)),
        ({"split": "default:train", "cities": ["JAX"]}, range(12)),
    ],
)
def test_selections(cube: Cube, tmp_path: Path, options: dict[str, list[str] | str], patches: range) -> None:
    export_geoparquet(cube, tmp_path / "all.parquet")
    export_geoparquet(cube, tmp_path / "some.parquet", **options)  # type: ignore[arg-type]
    expected = geopandas.read_parquet(tmp_path / "all.parquet").iloc[list(patches)].reset_index(drop=True)
    found = geopandas.read_parquet(tmp_path / "some.parquet")
    assert found["patch_id"].tolist() == list(patches)
    for column in found.columns.difference(
        ["geometry", "pixel_geometry"]
    ):  # these depend on what else is there
        pd.testing.assert_series_equal(found[column], expected[column], check_dtype=False)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cities": ["Atlantis"]}, UsageError, r"no patches of the city 'Atlantis' \(there: JAX, OMA\)"),
        ({"scenes": ["JAX_004_999"]}, UsageError, "no patches of the scene 'JAX_004_999'"),
        ({"split": "validation"}, InputError, "no patch to export"),
        ({"split": "sunday"}, UsageError, "unknown part 'sunday'"),
        ({"split": "other:train"}, UsageError, "has no splits/other"),
        ({"clusters": "vae"}, UsageError, r"has no clusters/vae \(clusters there: pca"),
        ({"table": "thesis"}, UsageError, "has no summaries/thesis"),
        ({"projection": "tsne"}, UsageError, "has no projections/tsne"),
    ],
)
def test_what_is_not_there_is_named(
    cube: Cube, tmp_path: Path, options: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        export_geopackage(cube, tmp_path / "x.gpkg", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_cube_without_layers_exports_its_patches(bare: Cube, tmp_path: Path) -> None:
    report = export_geopackage(bare, tmp_path / "x.gpkg")
    assert [layer.name for layer in report.layers][2:] == [
        "patches_epsg_32617",
        "patches_epsg_32615",
        "patches_pixels",
    ]
    frame = scenes.read(tmp_path / "x.gpkg", "patches_epsg_32617")
    always = [
        "dominant_class",
        "class_name",
        "purity",
        "mean_height_m",
        "height_valid",
        "cluster",
        "proj_x",
        "proj_y",
    ]
    assert frame[always].isna().all(axis=None)


def test_layers_are_chosen_by_their_latents_or_asked_for(bare: Cube, tmp_path: Path) -> None:
    for sign, name in ((1, "pca"), (-1, "vae")):
        make_latents(bare, name, shift=sign)
        make_projection(bare, f"{name}_pca", name, sign)
    make_clusters(bare, "vae", "vae")
    export_geopackage(bare, tmp_path / "x.gpkg")  # one layer of clusters: of vae, hence its projection
    assert scenes.read(tmp_path / "x.gpkg", "clusters_pixels")["proj_x"].max() < 0
    make_clusters(bare, "pca", "pca", number=2)
    with pytest.raises(
        UsageError, match=r"bare\.zarr has several clusters: pca, vae \(choose one with --clusters\)"
    ):
        export_geopackage(bare, tmp_path / "y.gpkg")
    export_geopackage(bare, tmp_path / "y.gpkg", clusters="pca", projection="vae_pca")
    frame = scenes.read(tmp_path / "y.gpkg", "clusters_pixels")
    assert frame["cluster"].max() == 1
    assert frame["proj_x"].max() < 0
    make_projection(bare, "vae_other", "vae")
    with pytest.raises(UsageError, match="several projections: vae_other, vae_pca"):
        export_geopackage(bare, tmp_path / "z.gpkg", clusters="vae")


def test_stale_layers_are_said(bare: Cube, tmp_path: Path) -> None:
    make_latents(bare, "pca")
    make_clusters(bare, "pca", "pca")
    make_latents(bare, "pca", shift=1)
    report = export_geopackage(bare, tmp_path / "x.gpkg")
    assert report.warnings == ("clusters/pca is stale: latents/pca changed since it was made",)


def test_the_target_is_checked(cube: Cube, tmp_path: Path) -> None:
    path = tmp_path / "x.gpkg"
    export_geopackage(cube, path)
    before = path.read_bytes()
    with pytest.raises(StoreExistsError):
        export_geopackage(cube, path)
    export_geopackage(cube, path, overwrite=True)
    assert path.read_bytes() == before
    with pytest.raises(UsageError, match="lies in the cube"):
        export_geopackage(cube, f"{cube.path}/x.gpkg")
    (tmp_path / "x.parquet").write_text("a list")
    with pytest.raises(StoreExistsError, match="is not a Parquet file"):
        export_geoparquet(cube, tmp_path / "x.parquet", overwrite=True)


@pytest.mark.parametrize(
    ("name", "raster", "patch", "layer", "number"),
    [
        ("ign_770550", "IGN_770550_6277600_RGB.tif", 64, "patches_epsg_2154", 9),
        ("olinda", "L7_ETMs.tif", 32, "patches_epsg_31985", 110),
    ],
)
def test_real_rasters_patches_and_polygons_agree(
    realdata: Path,
    repository: Path,
    tmp_path: Path,
    name: str,
    raster: str,
    patch: int,
    layer: str,
    number: int,
) -> None:
    catalog = repository / "tests" / "catalogs" / f"{name}.yaml"
    ingest(realdata / name, catalog=catalog, patch=patch, out=tmp_path / "x.zarr", workers=1)
    export_geopackage(tmp_path / "x.zarr", tmp_path / "x.gpkg")
    frame = scenes.read(tmp_path / "x.gpkg", layer)
    assert len(frame) == number
    cube = Cube.open(tmp_path / "x.zarr")
    image = cube.by_role("image")[0] if name == "olinda" else "rgb"
    with rasterio.open(realdata / name / raster) as file:
        for row in frame.itertuples():
            # the pixels under the polygon are the pixels of the patch
            window = rasterio.windows.from_bounds(*row.geometry.bounds, transform=file.transform)
            found = file.read(window=window.round_offsets().round_lengths())
            np.testing.assert_array_equal(cube.array(image)[row.patch_id], found)
