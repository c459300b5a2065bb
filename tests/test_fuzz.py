"""Files and catalogs that are wrong at random end in our own errors: no crash, no hang, no memory, no escape.

The long form is ``make fuzz``; see `fuzzing` for what is changed and how.
"""

import os
import random
import struct
from pathlib import Path

import fuzzing
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoae.catalog import Catalog, parse_catalog
from geoae.drafts import draft_catalog
from geoae.errors import CatalogError, GeoaeError, SceneError
from geoae.raster import read_header
from geoae.scene import find_scenes
from geoae.testing import quirks


@pytest.mark.parametrize(("part", "rounds"), [("rasters", 1200), ("catalogs", 400)])
def test_nothing_but_our_own_errors(part: str, rounds: int) -> None:
    assert fuzzing.run(part, rounds, seed=0) == []


def test_a_fault_is_found_wherever_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fuzzer itself: a process that dies, hangs or raises is a fault, and the cases after it are run."""
    script = tmp_path / "fuzzing.py"
    source = Path(fuzzing.__file__).read_text(encoding="utf-8")
    trap = (
        "def read_raster(path):\n"
        "    size = path.stat().st_size\n"
        "    if size % 7 == 1: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if size % 7 == 2: raise KeyError('x')\n"
        "    if size % 7 == 3: bytearray(8 << 30)\n"
    )
    script.write_text(source.replace("_ANY = Catalog", trap + "\n\n_ANY = Catalog"), encoding="utf-8")
    monkeypatch.setattr(fuzzing, "__file__", str(script))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent)]))
    whats = " ".join(fault.what for fault in fuzzing.run("rasters", 40, seed=0))
    assert "SIGSEGV" in whats
    assert "KeyError" in whats
    assert "MemoryError" in whats


def test_mutations_change_files_and_hit_their_tables(tmp_path: Path) -> None:
    fuzzing.write_good_files(tmp_path)
    data = (tmp_path / "tiles.tif").read_bytes()
    tables = list(fuzzing._tables(bytearray(data)))
    assert len(tables) == 1
    assert len(tables[0][2]) > 10
    rng = random.Random(0)
    assert sum(fuzzing.mutated(data, rng) != data for _ in range(100)) > 90
    outcomes = set()
    for _ in range(150):
        path = tmp_path / "case.tif"
        path.write_bytes(fuzzing.mutated(data, rng))
        try:
            read_header(path)
            outcomes.add("read")
        except SceneError as error:
            outcomes.add(str(error).split(" is ")[-1][:12])
    assert "read" in outcomes
    assert len(outcomes) > 4  # it is not one check that refuses everything


# --- faults that fuzzing has found ----------------------------------------------------------------


def tiff(path: Path, **profile: object) -> bytearray:
    shape = {"count": 1, "height": 8, "width": 8, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32617",
                       transform=rasterio.Affine(1, 0, 4e5, 0, -1, 3e6), **shape, **profile):  # fmt: skip
        pass
    return bytearray(path.read_bytes())


def test_a_pixel_too_small_for_its_coordinates(tmp_path: Path) -> None:
    data = tiff(tmp_path / "a.tif")
    scale = struct.pack("<ddd", 1, 1, 0)
    assert scale in data
    (tmp_path / "a.tif").write_bytes(data.replace(scale, struct.pack("<ddd", 1, 1.4e-309, 0)))
    with pytest.raises(SceneError, match="transform that places no pixel"):
        read_header(tmp_path / "a.tif")


def test_a_strip_of_negative_length(tmp_path: Path) -> None:
    data = tiff(tmp_path / "a.tif")
    order, _, places, _ = next(fuzzing._tables(data))
    for place in places:
        tag, _, count, _ = struct.unpack(order + "HHII", data[place : place + 12])
        if tag == 279:  # StripByteCounts
            data[place : place + 12] = struct.pack(order + "HHIi", tag, 9, count, -4)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(SceneError, match="begins or ends before the file does"):
        read_header(tmp_path / "a.tif")


def test_a_compression_of_no_name(tmp_path: Path) -> None:
    fuzzing.write_good_files(tmp_path)
    data = bytearray((tmp_path / "tiles.tif").read_bytes())
    order, _, places, _ = next(fuzzing._tables(data))
    for place in places:
        if struct.unpack(order + "H", data[place : place + 2])[0] == 259:  # Compression
            data[place + 8 : place + 10] = struct.pack(order + "H", 6)  # JPEG of before 1995
    (tmp_path / "a.tif").write_bytes(data)
    assert read_header(tmp_path / "a.tif").compression == "ojpeg"


def test_a_box_of_no_length_in_a_jpeg_2000(tmp_path: Path) -> None:
    """GDAL 3.10 reads its structure for ever when it is asked for the compression."""
    fuzzing.write_good_files(tmp_path)
    data = bytearray((tmp_path / "other.jp2").read_bytes())
    place = data.index(b"ihdr")
    data[place - 4 : place] = bytes(4)
    (tmp_path / "other.jp2").write_bytes(data)
    assert read_header(tmp_path / "other.jp2").compression == "jpeg2000"


# --- catalogs -------------------------------------------------------------------------------------

SMALL = """
format: 1
name: a
title: a
names: [{file: "{scene}_{kind}.tif", scene: "{scene}"}]
modalities: {rgb: {role: image, kinds: [RGB]}}
"""


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        "[" * 20_000,
        "{a: " * 20_000,
        "- " * 20_000,
        "title: " + "9" * 5000,
        "title: 2001-99-99",
        "title: !!bool 7",
        "title: !!timestamp 0000-00-00",
        "title: !!python/object/apply:os.system ['true']",
        "<<: 3",
        "? [a]\n: b",
        SMALL.replace("title: a", "title: \ud7ff\x07"),
        SMALL.replace("kinds: [RGB]", "kinds: [RGB], bands: [{name: a}], band_indices: [1, 1]"),
        SMALL.replace('scene: "{scene}"', 'scene: "../{scene}"'),
        SMALL.replace('scene: "{scene}"', 'scene: "{scene.__class__}"'),
        SMALL + "exclude: ['(?:a+)+b']",
        SMALL + "fields: {scene: '(?i)x'}",
        SMALL + "exclude: ['a{99999999999}']",
        "x" * (1 << 17),
    ],
)
def test_catalogs_made_to_hurt_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(CatalogError) as info:
        parse_catalog(text, "own.yaml")
    assert "\n" not in str(info.value)


# --- names ----------------------------------------------------------------------------------------

NAMES = st.text(
    st.characters(exclude_characters="/\0", codec="utf-8") | st.sampled_from("_.-{}\\\n RGB*%$~"),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(NAMES, min_size=1, max_size=5), suffix=st.sampled_from(["_RGB.tif", ".tif", "_DSM.TIFF"])
)
def test_any_file_names_are_found_below_the_folder(names: list[str], suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name in names:
        file = (name + suffix).encode()[-250:]
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + file))).write_bytes(b"x")
    try:
        found = find_scenes(folder, parse_catalog(SMALL, "small"))
    except GeoaeError:
        return
    for scene in found.scenes:
        assert "/" not in scene.key
        assert scene.key not in (".", "..")
        for source in scene.sources.values():
            assert source.path.parent == folder
            assert source.path.is_file()


def test_a_draft_of_hostile_files_ends_in_one_line_or_a_catalog(tmp_path: Path) -> None:
    quirks.sparse_huge_tif(tmp_path / "a_RGB.tif")
    quirks.giant_strip_tif(tmp_path / "b_RGB.tif")
    quirks.garbage_block_tif(tmp_path / "c_RGB.tif")
    quirks.truncated_tif(tmp_path / "d_RGB.tif")
    quirks.lfs_pointer(tmp_path / "e_RGB.tif")
    (tmp_path / "f_RGB.tif").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "g_RGB.tif")
    draft = draft_catalog(tmp_path)
    assert isinstance(draft.catalog, Catalog)
    assert any("leaves the folder" in problem for problem in draft.problems)
    assert any("git-LFS" in problem for problem in draft.problems)


def test_links_out_of_the_folder_are_not_followed_into_scenes(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_RGB.tif").write_bytes(b"secret")
    folder = tmp_path / "scenes"
    folder.mkdir()
    (folder / "deep").symlink_to(tmp_path / "out", target_is_directory=True)
    (folder / "b_RGB.tif").symlink_to(tmp_path / "out" / "a_RGB.tif")
    found = find_scenes(folder, parse_catalog(SMALL, "small"))
    assert [dict(scene.sources) for scene in found.scenes] == [{}]
    assert "leaves the folder" in found.scenes[0].problems[0]
    assert "leaves the folder" in found.problems[0]
