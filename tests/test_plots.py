"""Plots: pictures of pixels, files of figures, colours that all eyes can tell apart."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from latent_scenes import plotted_cube
from matplotlib.colors import to_hex, to_rgba

from geoae.cube import Cube
from geoae.errors import InputError, UsageError
from geoae.plots import (
    cluster_colors,
    plot_cluster_examples,
    plot_latents,
    plot_map,
    save_figure,
)
from geoae.plots.figure import Page
from geoae.plots.pictures import (
    NO_DATA,
    Display,
    choose_bands,
    choose_display,
    hillshade,
    mosaic,
    render,
)
from geoae.plots.style import UNKNOWN, style

COLORS = {2: "#e8d8a0", 5: "#0f7a4a", 6: "#d55e00"}  # of the class table of the small scenes


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Cube:
    return plotted_cube(tmp_path_factory.mktemp("plots"))


@pytest.mark.parametrize(
    ("names", "bands"),
    [
        (["coastal", "blue", "green", "yellow", "red", "red_edge", "nir1", "nir2"], (4, 2, 1)),
        (["Red", "Green", "Blue"], (0, 1, 2)),
        (["nir", "red", "green"], (0, 1, 2)),
        (["a", "b", "c", "d"], (0, 1, 2)),
        (["intensity"], (0,)),
        (["red", "nir"], (0,)),
    ],
)
def test_bands_of_a_picture(names: list[str], bands: tuple[int, ...]) -> None:
    assert choose_bands(names)[0] == bands


def test_raw_bands_are_stretched_between_their_percentiles() -> None:
    band = np.arange(101, dtype=np.uint16).reshape(1, 1, 101) * 10
    picture = render(Display("m", "stretch", (0,)), band, np.ones((1, 101), bool))
    assert picture.shape == (1, 101, 3)
    assert picture[0, [0, 2, 50, 98, 100], 0].tolist() == [0, 0, 128, 255, 255]
    flat = render(Display("m", "stretch", (0,)), np.full((1, 2, 2), 7, np.uint16), np.ones((2, 2), bool))
    assert (flat == 0).all()


def test_pixels_that_were_not_measured_are_pale_and_do_not_count() -> None:
    band = np.array([[[0.0, 1.0, np.nan, 1e30]]], np.float32)
    valid = np.array([[True, True, False, False]])
    picture = render(Display("m", "stretch", (0,)), band, valid)
    assert picture[0, :2, 0].tolist() == [0, 255]
    assert picture[0, 2:].tolist() == [list(NO_DATA)] * 2


def test_light_comes_from_the_upper_left() -> None:
    y, x = np.mgrid[:9, :9].astype(float)
    level, facing, turned = (hillshade(h)[4, 4] for h in (0 * x, x + y, -x - y))
    assert facing > level > turned
    assert hillshade(np.full((1, 5), 3.0)).shape == (1, 5)


def test_labels_alone_show_their_classes(cube: Cube) -> None:
    table = cube.catalog.class_tables["three"]
    labels = np.array([[2, 5], [6, 65]], np.uint8)
    picture = render(Display("label", "label"), labels, np.ones((2, 2), bool), table=table)
    assert [to_hex(p / 255) for p in picture.reshape(-1, 3)[:3]] == list(COLORS.values())


def test_what_is_shown_is_there(cube: Cube) -> None:
    assert choose_display(cube, np.arange(4)).modality == "rgb"


def test_later_patches_lie_above() -> None:
    patches = np.stack([np.full((2, 2), i) for i in (1, 2)])
    joined = mosaic(patches, np.array([0, 1]), np.array([0, 1]), (3, 4), 0)
    np.testing.assert_array_equal(joined, [[1, 1, 0, 0], [1, 2, 2, 0], [0, 2, 2, 0]])


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_equal_figures_are_equal_files(cube: Cube, tmp_path: Path, suffix: str) -> None:
    for name in ("one", "two"):
        save_figure(plot_map(cube, "pca"), tmp_path / f"{name}{suffix}", dpi=60)
    first = (tmp_path / f"one{suffix}").read_bytes()
    assert first == (tmp_path / f"two{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2  # nothing partial


def test_letters_stay_letters_in_svg(cube: Cube, tmp_path: Path) -> None:
    plot_latents(cube, "pca").savefig(tmp_path / "a.svg")
    assert "Dominant class" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_files_that_cannot_be_written(cube: Cube, tmp_path: Path) -> None:
    figure = plot_latents(cube, "pca")
    with pytest.raises(UsageError, match=r"\.png, \.pdf, \.svg|\.pdf, \.svg, \.png"):
        save_figure(figure, tmp_path / "a.bmp")
    with pytest.raises(InputError, match="cannot write"):
        save_figure(figure, tmp_path / "no" / "a.png")


def test_nothing_is_cut_off_at_the_edge(cube: Cube) -> None:
    for figure in (plot_latents(cube, "pca"), plot_map(cube, "pca"), plot_cluster_examples(cube, "pca")):
        assert isinstance(figure, Page)
        with style():
            figure.draw_without_rendering()
            box, whole = figure.get_tightbbox(), figure.bbox_inches
        assert box.x0 >= whole.x0
        assert box.y0 >= whole.y0
        assert box.x1 <= whole.x1
        assert box.y1 <= whole.y1


# Machado, Oliveira and Fernandes 2009, severity 1, linear RGB.
BLIND = {
    "none": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


def oklab(linear: np.ndarray) -> np.ndarray:
    """Björn Ottosson's OKLab, in which equal distances look equally different."""
    lms = linear @ np.transpose(
        [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
         [0.0883024619, 0.2817188376, 0.6299787005]]
    )  # fmt: skip
    return np.cbrt(lms) @ np.transpose(
        [[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099],
         [0.0259040371, 0.7827717662, -0.808675766]]
    )  # fmt: skip


@pytest.mark.parametrize("sight", BLIND)
@pytest.mark.parametrize(("k", "least"), [(8, 0.12), (12, 0.09), (20, 0.06)])
def test_clusters_can_be_told_apart_with_colour_blind_eyes(sight: str, k: int, least: float) -> None:
    srgb = np.array([to_rgba(c)[:3] for c in (*cluster_colors(k),)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = oklab(np.clip(linear @ np.transpose(BLIND[sight]), 0, 1))
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) > least


def test_colours_do_not_change_with_k() -> None:
    assert cluster_colors(25)[:8] == cluster_colors(8)
    assert len(set(cluster_colors(60))) == 60
    assert UNKNOWN not in cluster_colors(60)
