"""GeoPackages as QGIS opens them: valid, coloured, with titles, and the right way up."""

import json
import subprocess
from pathlib import Path
from typing import Any

import export_scenes as scenes
import matplotlib.image
import numpy as np
import pytest

from geoae.exports.geopackage import write_geopackage
from geoae.plots.style import UNKNOWN, cluster_colors

GRIDS = [scenes.NORTH_UP, scenes.OTHER_ZONE, scenes.SOUTH_UP, scenes.FEET, scenes.LOOSE]


def ask_qgis(python: str, path: Path, drawn: str, *rasters: Path) -> dict[str, Any]:
    """Open every layer in QGIS; draw one into ``<layer>.png`` beside the file."""
    probe = Path(__file__).with_name("qgis_probe.py")
    picture = path.with_name(f"{drawn}.png")
    run = subprocess.run(
        [python, probe, path, picture, drawn, *rasters], capture_output=True, text=True, check=True
    )
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("RESULT")]
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT"))
    return found


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, qgis_python: str) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("qgis") / "x.gpkg"
    write_geopackage(scenes.table_of(GRIDS), path)
    before = path.read_bytes()
    found = ask_qgis(qgis_python, path, "overview")
    assert path.read_bytes() == before
    return found


def test_every_layer_is_valid_in_its_crs(opened: dict[str, Any]) -> None:
    assert {name: (layer["features"], layer["crs"]) for name, layer in opened.items()} == {
        "overview_pixels": (12, "Undefined Cartesian SRS"),
        "overview": (48, "EPSG:4326"),
        "clusters_epsg_32617": (24, "EPSG:32617"),
        "clusters_epsg_32615": (12, "EPSG:32615"),
        "clusters_epsg_2994": (12, "EPSG:2994"),
        "clusters_pixels": (12, "Undefined Cartesian SRS"),
    }
    assert all(layer["valid"] and layer["crs_valid"] for layer in opened.values())


def test_every_layer_opens_with_the_colours_of_the_plots(opened: dict[str, Any]) -> None:
    expected = [[str(i), f"Cluster {i}", color] for i, color in enumerate(cluster_colors(3))]
    for layer in opened.values():
        assert (layer["type"], layer["column"]) == ("categorizedSymbol", "cluster")
        assert layer["legend"] == [*expected, ["", "no cluster", UNKNOWN]]
        assert layer["styles"][0] == 2  # the other one colours by class


def test_columns_have_titles_in_qgis(opened: dict[str, Any]) -> None:
    titles = {column.name: column.title for column in scenes.table_of(GRIDS).columns}
    for name, layer in opened.items():
        extra = {"x_offset": "Shift of the scene in x (px)", "y_offset": "Shift of the scene in y (px)"}
        assert layer["aliases"] == {"fid": "", **titles, **(extra if name == "overview_pixels" else {})}


def test_qgis_shows_where_a_layer_comes_from(opened: dict[str, Any]) -> None:
    for layer in opened.values():
        assert layer["title"].startswith("Clusters pca (")
        assert layer["abstract"].endswith("Made by geoae from cube 1234")


def test_without_clusters_qgis_colours_classes(tmp_path: Path, qgis_python: str) -> None:
    write_geopackage(scenes.table_of([scenes.NORTH_UP], clusters=0), tmp_path / "x.gpkg")
    found = ask_qgis(qgis_python, tmp_path / "x.gpkg", "overview")
    for layer in found.values():
        assert layer["column"] == "dominant_class"
        assert layer["legend"] == [
            *([str(c.value), c.label, c.color] for c in scenes.CLASSES),
            ["", "no class", UNKNOWN],
        ]


@pytest.mark.parametrize(
    ("grid", "layer", "flipped"),
    [(scenes.NORTH_UP, "clusters_epsg_32617", False), (scenes.SOUTH_UP, "clusters_epsg_32617", True),
     (scenes.FEET, "clusters_epsg_2994", False), (scenes.LOOSE, "clusters_pixels", False),
     (scenes.LOOSE, "overview_pixels", False), (scenes.NORTH_UP, "overview", False)],
    ids=["north-up", "south-up", "feet", "pixels", "sheet", "overview"],
)  # fmt: skip
def test_the_map_is_the_right_way_up(
    tmp_path: Path, qgis_python: str, grid: Any, layer: str, flipped: bool
) -> None:
    write_geopackage(scenes.table_of([grid]), tmp_path / "x.gpkg")
    ask_qgis(qgis_python, tmp_path / "x.gpkg", layer)
    picture = matplotlib.image.imread(tmp_path / f"{layer}.png")[..., :3]
    opacity = 0.6
    known = [
        np.array(list(bytes.fromhex(c[1:]))) / 255 * opacity + 1 - opacity
        for c in (*cluster_colors(3), UNKNOWN)
    ]
    height, width = picture.shape[:2]
    drawn = [
        [
            int(np.argmin([np.abs(picture[y, x] - color).sum() for color in known]))
            for x in (np.arange(scenes.COLUMNS) * width + width // 2) // scenes.COLUMNS
        ]
        for y in (np.arange(scenes.ROWS) * height + height // 2) // scenes.ROWS
    ]
    expected = [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 3]]  # (row + column) modulo 3; the last has no cluster
    # the first row of a south-up raster is in the south
    assert drawn == (expected[::-1] if flipped else expected)
