"""Maps and examples of clusters: the right pixels below the right cells."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from latent_scenes import give_latents, make_cube, plotted_cube, texts
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from geoae.clusters import cluster
from geoae.cube import Cube
from geoae.errors import UsageError
from geoae.grid import Grid, Window
from geoae.plots import (
    cluster_colors,
    plot_cluster_examples,
    plot_map,
)
from geoae.plots.examples import class_mix, nearest_patches
from geoae.plots.map import most_varied_scene
from geoae.plots.panels import Cells, MapScale, cells_of, draw_clusters, draw_north, nice_length
from geoae.plots.pictures import (
    scene_picture,
)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Cube:
    return plotted_cube(tmp_path_factory.mktemp("plots"))


def test_the_picture_is_the_scene(cube: Cube) -> None:
    figure = plot_map(cube, "pca", scene="OMA_001_001")
    shown = np.asarray(figure.axes[0].get_images()[0].get_array())
    y, x = np.mgrid[:16, :16]
    np.testing.assert_array_equal(shown, np.stack([1 + y * 7, 1 + x * 7, np.full_like(y, 41)], axis=-1))


def test_cells_lie_on_their_patches_in_the_colours_of_their_clusters(cube: Cube) -> None:
    figure = plot_map(cube, "pca", scene="JAX_000_001")
    known, missing = (c for c in figure.axes[1].collections if isinstance(c, PolyCollection))
    table, label = cube.table().iloc[:16], cube.layer("clusters/pca")["cluster"].to_numpy()[:16]
    assert label[5] == -1
    rows = np.flatnonzero(label >= 0)
    for row, path, face in zip(rows, known.get_paths(), known.get_facecolor(), strict=True):
        box = path.get_extents()
        y, x = table["y_start"].iloc[row], table["x_start"].iloc[row]
        assert (box.x0, box.y0, box.x1, box.y1) == (x, y, x + 4, y + 4)
        assert to_hex(face) == cluster_colors(3)[label[row]]
        assert 0.3 < face[3] < 0.9
    (hatched,) = missing.get_paths()
    assert (hatched.get_extents().x0, hatched.get_extents().y0) == (4, 4)
    assert missing.get_hatch()
    assert len(missing.get_facecolor()) == 0
    numbers = [t.get_text() for t in figure.axes[1].texts]
    assert numbers == [str(i) for i in label if i >= 0]
    words = texts(figure)
    assert "Hatched: patches without latents." in words
    assert "k = 3, seed 0" in words
    for i in range(3):
        if (label == i).any():
            assert f"{i} ({(label == i).mean():.0%})" in words


def test_without_a_crs_axes_are_pixels_and_there_is_no_north(cube: Cube) -> None:
    figure = plot_map(cube, "pca")
    left = figure.axes[0]
    assert left.get_xlabel() == "pixels"
    assert "px" in texts(figure)
    assert not [
        p for p in left.patches if isinstance(p, Polygon) and len(p.get_xy()) == 5 and p.get_closed()
    ][1:]
    assert "N" not in [t.get_text() for t in left.texts]


def test_with_a_crs_axes_are_metres(tmp_path: Path) -> None:
    placed = make_cube(tmp_path, scenes=1, crs="EPSG:32617")  # pixels of 0.5 m
    give_latents(placed, np.random.default_rng(0).normal(size=(placed.n_patches, 3)))
    cluster(placed, latents="pca", k=2)
    left = plot_map(placed, "pca").axes[0]
    assert left.get_xlabel() == "m"
    assert left.get_xlim() == (0, 8)
    assert left.get_ylim() == (8, 0)
    assert [t.get_text() for t in left.texts] == ["2 m", "N"]


def test_the_default_scene_is_the_most_varied() -> None:
    scene = np.repeat([0, 1, 2, 3], 4)
    label = np.array([0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 2, 3, -1, -1, -1, -1])
    assert most_varied_scene(scene, label) == 2
    assert most_varied_scene(scene, np.roll(label, 4)) == 3
    assert most_varied_scene(scene, np.zeros(16, int)) == 0
    assert most_varied_scene(scene, np.full(16, -1)) == 0


def test_what_is_not_there(cube: Cube) -> None:
    with pytest.raises(UsageError, match="no scene 'JAX_999_001'"):
        plot_map(cube, "pca", scene="JAX_999_001")
    with pytest.raises(UsageError, match="no clusters/none"):
        plot_map(cube, "none")


def test_overlapping_patches_have_the_cell_of_their_middle() -> None:
    y, x = np.array([0, 4, 8]), np.array([0, 4, 8])
    box = cells_of(y, x, Window(0, 0, 14, 16), patch=8, stride=4)
    np.testing.assert_array_equal(box, [[2, 2, 6, 6], [6, 6, 10, 10], [10, 10, 14, 14]])
    padded = cells_of(np.array([8]), np.array([8]), Window(0, 0, 12, 11), patch=8, stride=8)
    np.testing.assert_array_equal(padded, [[8, 8, 11, 12]])  # ends with the scene
    gaps = cells_of(np.array([12]), np.array([0]), Window(0, 0, 20, 8), patch=8, stride=12)
    np.testing.assert_array_equal(gaps, [[0, 12, 8, 20]])


def test_overlapping_and_padded_patches_give_the_scene_back(tmp_path: Path) -> None:
    from cube_scenes import catalog_of, write_scene

    from geoae.ingestion import ingest

    rng = np.random.default_rng(0)
    rgb = rng.integers(1, 256, (3, 22, 18)).astype(np.uint8)
    write_scene(tmp_path / "scenes", "JAX_001_001", {"RGB": rgb}, crs=None)
    options = {"catalog": catalog_of(), "patch": 8, "stride": 4, "edge": "pad"}
    ingest(tmp_path / "scenes", out=tmp_path / "c.zarr", **options)  # type: ignore[arg-type]
    picture = scene_picture(Cube.open(tmp_path / "c.zarr"), 0)
    np.testing.assert_array_equal(picture.image, np.moveaxis(rgb, 0, -1))


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (Affine(0.5, 0, 0, 0, -0.5, 0), (0, -1)),  # north up; rows run downwards
        (Affine(0.5, 0, 0, 0, 0.5, 0), (0, 1)),  # south up
        (Affine(0, 0.5, 0, 0.5, 0, 0), (1, 0)),  # columns run north
    ],
)
def test_the_arrow_points_north(transform: Affine, expected: tuple[int, int]) -> None:
    ax = Figure().subplots()
    draw_north(ax, Grid("EPSG:32617", transform, (100, 100)), 50.0, 50.0)
    (kite,) = ax.patches
    tip, _, notch, *_ = np.asarray(kite.get_path().vertices)
    np.testing.assert_allclose((tip - notch) / np.linalg.norm(tip - notch), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("longest", "expected"), [(100, 100), (99.9, 50), (21, 20), (0.07, 0.05), (1999, 1000)]
)
def test_scale_bars_have_round_lengths(longest: float, expected: float) -> None:
    assert nice_length(longest) == expected


def test_units_of_a_map() -> None:
    utm = Grid("EPSG:32617", Affine(2, 0, 0, 0, -2, 0), (4000, 10))
    assert MapScale.of(utm, Window(0, 0, 100, 10), None) == MapScale(2, 2, "m", 1)
    assert MapScale.of(utm, Window(0, 0, 4000, 10), None) == MapScale(0.002, 0.002, "km", 1000)
    loose = Grid(None, Affine.identity(), (64, 64))
    assert MapScale.of(loose, loose.window, 0.3) == MapScale(1, 1, "pixels", 0.3, nominal=True)


def test_small_cells_have_no_numbers_and_many_clusters_have_colours() -> None:
    box = np.array([[i, 0, i + 1, 1] for i in range(40)], float)
    ax = Figure().subplots()
    draw_clusters(ax, Cells(box, np.arange(40), 40), MapScale(1, 1, "pixels", None), inch=40)
    assert not ax.texts
    assert len({to_hex(c) for c in ax.collections[0].get_facecolor()}) == 40


def test_examples_show_the_patches_nearest_to_each_centre(cube: Cube) -> None:
    figure = plot_cluster_examples(cube, "pca", count=3)
    layer = cube.layer("clusters/pca").load()
    pixels = cube.array("rgb")
    pictures = iter([np.asarray(ax.get_images()[0].get_array()) for ax in figure.axes if ax.get_images()])
    tile = cube.table()["tile"].to_numpy()
    for i in range(3):
        inside = np.flatnonzero(layer["cluster"] == i)
        near = inside[nearest_patches(layer["distance"].to_numpy()[inside], tile[inside], 3)]
        for row in near:
            np.testing.assert_array_equal(next(pictures), np.moveaxis(pixels[int(row)], 0, -1))
    assert next(pictures, None) is None
    words = texts(figure)
    for i, n in enumerate(layer["size"].to_numpy()):
        assert f"{i} n = {n} ({n / 47:.0%})" in words


def test_bars_show_the_mean_of_the_class_fractions() -> None:
    fraction = np.array([[0.2, 0.8], [0.4, 0.6], [np.nan, np.nan], [1, 0]])
    np.testing.assert_allclose(
        class_mix(np.array([0, 0, 0, -1]), fraction, 2), [[0.3, 0.7], [np.nan, np.nan]]
    )


def test_examples_come_from_different_places_first() -> None:
    distance = np.array([0.5, 0.1, 0.2, 0.3, 0.9])
    np.testing.assert_array_equal(nearest_patches(distance, ["b", "a", "a", "a", "c"], 3), [1, 0, 4])
    np.testing.assert_array_equal(nearest_patches(distance, ["b", "a", "a", "a", "c"], 4), [1, 2, 0, 4])
    np.testing.assert_array_equal(nearest_patches(distance[:2], ["a", "a"], 5), [1, 0])


def test_only_the_largest_clusters_are_shown(cube: Cube) -> None:
    words = texts(plot_cluster_examples(cube, "pca", max_clusters=2))
    assert "The 2 largest clusters are shown." in words
    with pytest.raises(ValueError, match="at least one"):
        plot_cluster_examples(cube, "pca", count=0)
