"""Scatter plots: every point in its place and colour, and a caption that says what was done."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from latent_scenes import give_latents, make_cube, plotted_cube, texts
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from geoae.clusters import cluster
from geoae.cube import Cube
from geoae.errors import InputError, UsageError
from geoae.layers import write_layer
from geoae.plots import (
    cluster_colors,
    plot_latents,
    plot_map,
)
from geoae.plots.scatter import Coloring, Points, draw_points
from geoae.projections import pca
from geoae.provenance import Record

COLORS = {2: "#e8d8a0", 5: "#0f7a4a", 6: "#d55e00"}  # of the class table of the small scenes


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Cube:
    return plotted_cube(tmp_path_factory.mktemp("plots"))


def scatter_of(axes: plt.Axes) -> PathCollection:
    (found,) = (c for c in axes.collections if isinstance(c, PathCollection))
    return found


def points(xy: np.ndarray, city: list[str] | None = None) -> Points:
    names = np.array(city or [""] * len(xy), dtype=object)
    return Points(xy, names, ("x", "y"), True, "A caption.", {"JAX": "Jacksonville", "OMA": "Omaha"})


def test_each_point_has_the_colour_of_its_class() -> None:
    xy = np.random.default_rng(0).normal(size=(60, 2))
    values = np.arange(60) % 4 - 1
    ax = Figure().subplots()
    draw_points(
        ax, points(xy), Coloring("groups", "t", values, ("a", "b", "c"), ("#ff0000", "#00ff00", "#0000ff"))
    )
    drawn = scatter_of(ax)
    place = {tuple(row): i for i, row in enumerate(xy)}
    rows = np.array([place[tuple(o)] for o in np.asarray(drawn.get_offsets())])
    assert sorted(rows) == list(range(60))
    faces = drawn.get_facecolor()
    for row, face in zip(rows, faces, strict=True):
        if values[row] < 0:
            assert face[3] == 0  # hollow
        else:
            np.testing.assert_array_equal(face[:3], np.eye(3)[values[row]])
    # Points without a class lie below all others; these come in random order.
    assert (values[rows[:15]] == -1).all()
    assert (values[rows[15:]] >= 0).all()
    assert list(rows[15:]) != sorted(rows[15:])


def test_the_order_of_drawing_is_seeded() -> None:
    xy = np.random.default_rng(0).normal(size=(50, 2))
    drawn = []
    for seed in (0, 0, 1):
        ax = Figure().subplots()
        draw_points(
            ax, points(xy), Coloring("groups", "t", np.zeros(50, int), ("a",), ("#ff0000",)), seed=seed
        )
        drawn.append(np.asarray(scatter_of(ax).get_offsets()))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_jacksonville_is_square_and_omaha_round_also_alone() -> None:
    xy = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    for city in (["JAX", "OMA", "OMA"], ["OMA"] * 3, ["JAX"] * 3):
        ax = Figure().subplots()
        draw_points(ax, points(xy, city), Coloring("groups", "t", np.zeros(3, int), ("a",), ("#ff0000",)))
        drawn = scatter_of(ax)
        corners = [len(path.vertices) for path in drawn.get_paths()]
        place = {tuple(row): i for i, row in enumerate(xy)}
        for offset, n in zip(np.asarray(drawn.get_offsets()), corners, strict=True):
            assert (n == 5) == (city[place[tuple(offset)]] == "JAX")  # a circle has more points


def test_heights_are_coloured_between_their_percentiles() -> None:
    heights = np.append(np.linspace(0, 10, 101), np.nan)
    xy = np.stack([np.arange(102.0), np.zeros(102)], axis=1)
    ax = Figure().subplots()
    mappable = draw_points(ax, points(xy), Coloring("amount", "Height", heights))
    assert mappable is not None
    assert mappable.get_clim() == pytest.approx((0.2, 9.8))
    drawn = scatter_of(ax)
    offsets, faces = np.asarray(drawn.get_offsets()), drawn.get_facecolor()
    for (x, _), face in zip(offsets, faces, strict=True):
        if np.isnan(heights[int(x)]):
            assert face[3] == 0
        else:
            np.testing.assert_allclose(face[:3], mappable.to_rgba(heights[int(x)])[:3])


def test_both_axes_have_one_scale() -> None:
    xy = np.array([[0.0, 0.0], [100.0, 3.0], [50.0, -2.0]])
    figure = Figure(figsize=(6, 3))
    ax = figure.subplots()
    draw_points(ax, points(xy), Coloring("groups", "t", np.zeros(3, int), ("a",), ("#ff0000",)))
    figure.draw_without_rendering()
    box = ax.get_window_extent()
    per_x, per_y = box.width / np.ptp(ax.get_xlim()), box.height / np.ptp(ax.get_ylim())
    assert per_x == pytest.approx(per_y, rel=1e-6)
    assert ax.get_xlim()[0] < 0
    assert ax.get_xlim()[1] > 100


def test_two_panels_by_class_and_height(cube: Cube) -> None:
    figure = plot_latents(cube, "pca")
    by_class, by_height, bar = figure.axes
    assert by_class.get_title(loc="left") == "(a) Dominant class"
    assert by_height.get_title(loc="left") == "(b) Mean height above ground"
    assert bar.get_xlabel() == "m"
    # Each point stands where PCA puts it and has the colour of its label, known from how scenes are made.
    z = cube.layer("latents/pca")["z"].to_numpy()
    usable = np.flatnonzero(np.isfinite(z).all(axis=1))
    xy = pca(z[usable]).xy
    table = cube.table()
    code = np.array([2, 5, 6])[(table["row"] + table["col"]).to_numpy() % 3]
    drawn = scatter_of(by_class)
    for offset, face in zip(np.asarray(drawn.get_offsets()), drawn.get_facecolor(), strict=True):
        row = usable[np.abs(xy - offset).sum(axis=1).argmin()]
        assert to_hex(face) == COLORS[int(code[row])]
    mean = (10 * table["row"] + table["col"]).to_numpy()
    low, high = np.percentile(mean[usable], [2, 98])
    assert bar.get_xlim() == pytest.approx((low, high))


def test_the_caption_says_what_a_reader_must_know(cube: Cube) -> None:
    words = texts(plot_latents(cube, "pca", seed=4))
    ratio = pca(cube.layer("latents/pca")["z"].dropna("patch").to_numpy()).explained_variance_ratio
    assert ratio is not None
    assert "Principal axes of latents/pca (4 components)" in words
    assert "47 patches (1 more have no latents), drawn in random order (seed 4)" in words
    assert f"shows {ratio.sum():.1%} of the variance" in words
    assert f"PC 1 ({ratio[0]:.1%} of variance)" in words
    assert "table three" in words
    assert "mean of agl" in words
    counts = np.bincount(np.add.outer(np.arange(4), np.arange(4)).ravel() % 3) * 3
    counts[(1 + 1) % 3] -= 1  # patch 5 of the first scene, row 1 and column 1, has no latents
    for name, count in zip(("ground", "trees", "building"), counts, strict=True):
        assert f"{name} ({count})" in words
    assert "JAX (31)" in words
    assert "OMA (16)" in words


def test_a_projection_that_is_not_linear_says_so(cube: Cube) -> None:
    xy = np.random.default_rng(1).normal(size=(cube.n_patches, 2)).astype(np.float32)
    dataset = xr.Dataset(
        {"xy": (("patch", "axis"), xy)}, attrs={"latents": "latents/pca", "method": "tsne", "linear": False}
    )
    record = Record(made_by="project", options={"method": "tsne", "perplexity": 15, "seed": 7})
    write_layer(cube, "projections/map", dataset, record, overwrite=True)
    figure = plot_latents(cube, "pca", projection="map")
    words = texts(figure)
    assert "t-SNE of latents/pca (perplexity 15, seed 7)" in words
    assert "Distances between groups, their sizes and their density are not to scale." in words
    assert "variance" not in words
    assert len(figure.axes[0].get_xticks()) == 0


def test_a_stored_projection_gives_the_same_places(cube: Cube) -> None:
    first = scatter_of(plot_latents(cube, "pca").axes[0])
    second = scatter_of(plot_latents(cube, "pca", projection="pca_pca").axes[0])
    np.testing.assert_allclose(first.get_offsets(), second.get_offsets(), rtol=1e-4, atol=1e-5)
    give_latents(cube, np.zeros((cube.n_patches, 2)), "other")
    with pytest.raises(UsageError, match="is not of latents/other but of latents/pca"):
        plot_latents(cube, "other", projection="pca_pca")


def test_panels_by_choice(cube: Cube) -> None:
    figure = plot_latents(cube, "pca", color=["cluster", "class", "height"])
    titles = [ax.get_title(loc="left") for ax in figure.axes[:3]]
    assert titles == ["(a) Cluster", "(b) Dominant class", "(c) Mean height above ground"]
    drawn = scatter_of(figure.axes[0])
    size = cube.layer("clusters/pca")["size"].to_numpy()
    colors = [to_hex(face) for face in drawn.get_facecolor()]
    assert [colors.count(color) for color in cluster_colors(3)] == size.tolist()


def test_own_axes(cube: Cube) -> None:
    own, axes = plt.subplots(1, 2)
    assert plot_latents(cube, "pca", ax=axes) is own
    assert all(scatter_of(ax) for ax in axes)
    assert plot_latents(cube, "pca", color="class", ax=axes[0]) is own
    with pytest.raises(ValueError, match="needs 2 axes"):
        plot_latents(cube, "pca", ax=axes[0])
    plt.close(own)


def test_a_sample_of_the_points_is_said(cube: Cube) -> None:
    figure = plot_latents(cube, "pca", max_points=10)
    assert len(scatter_of(figure.axes[0]).get_offsets()) == 10
    assert "10 of 47 patches, drawn at random (1 more have no latents)" in texts(figure)


def test_no_figure_stays_behind(cube: Cube) -> None:
    before = plt.get_fignums()
    plot_latents(cube, "pca")
    plot_map(cube, "pca")
    assert plt.get_fignums() == before
    assert plot_latents(cube, "pca")._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_without_a_summary_clusters_or_plain_points(tmp_path: Path) -> None:
    plain = make_cube(tmp_path, scenes=1)
    give_latents(plain, np.random.default_rng(0).normal(size=(plain.n_patches, 3)))
    figure = plot_latents(plain, "pca")
    assert len(figure.axes) == 1
    assert "geoae summarize" in texts(figure)
    with pytest.raises(UsageError, match="no class of its patches"):
        plot_latents(plain, "pca", color="class")
    cluster(plain, latents="pca", k=2)
    assert plot_latents(plain, "pca").axes[0].get_title(loc="left") == "Cluster"
    give_latents(plain, np.full((plain.n_patches, 3), np.nan), "void")
    with pytest.raises(InputError, match="no patch with latents"):
        plot_latents(plain, "void")
    give_latents(plain, np.arange(plain.n_patches)[:, None], "line")
    assert "PC 2 (0.0% of variance)" in texts(plot_latents(plain, "line"))
