"""First catalogs: what names, headers and pixels are taken for, and that the result ingests."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from cube_scenes import write_scene
from hypothesis import given
from hypothesis import strategies as st

from geoae.catalog import load_catalog, parse_catalog
from geoae.cli import main
from geoae.cube import Cube
from geoae.drafts import draft_catalog, write_draft
from geoae.drafts.patterns import find_patterns
from geoae.errors import CatalogError, InputError, StoreExistsError
from geoae.ingestion import ingest
from geoae.scene import find_scenes
from geoae.summaries import summarize

UTM = "EPSG:32617"
FEET = "EPSG:2994"


def write(
    path: Path,
    image: np.ndarray,
    *,
    crs: str | None = UTM,
    pixel: float = 0.5,
    unit: str = "",
    **profile: object,
) -> None:
    image = image if image.ndim == 3 else image[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    where = {"crs": crs, "transform": Affine(pixel, 0, 434_000, 0, -pixel, 3_354_000)} if crs else {}
    count, height, width = image.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=image.dtype,
        count=count,
        height=height,
        width=width,
        **where,
        **profile,
    ) as file:
        file.write(image)
        if unit:
            file.units = [unit] * count


def some(shape: tuple[int, ...], dtype: str, low: float, high: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, shape).astype(dtype)


def modalities_of(draft) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {key: (m.role, m.kinds) for key, m in draft.catalog.modalities.items()}


# --- names ----------------------------------------------------------------------------------------


def patterns_of(names: list[str]) -> list[tuple[str, str, list[str]]]:
    found = find_patterns(names, lambda _: None, lambda *_: False)
    return [(p.stem, p.scene, sorted(set(p.kinds.values()))) for p in found]


US3D = [
    f"{c}_{t}_{v}_{k}" for c in ("JAX", "OMA") for t in ("004", "068") for v in "12" for k in ("RGB", "AGL")
]
# Coordinates of map sheets are no views, though they repeat.
SHEETS = [f"IGN_{x}_{y}_{k}" for x in (770550, 771550) for y in (6277600, 6278600) for k in ("RGB", "DSM")]
PREFIXED = [f"{kind}-{number}" for number in range(4) for kind in ("rgb", "mask")]
BANDS7 = ("B1", "B2", "B3", "B4", "B5", "B6_VCID_1", "B6_VCID_2", "B7")
LANDSAT7 = [f"LE7{day}_01_T1_{band}" for day in (211, 212) for band in BANDS7]
SPACED = [f"site {site}.{kind}" for site in "ABC" for kind in ("ortho", "dtm")]


@pytest.mark.parametrize(
    ("names", "stem", "scene", "kinds"),
    [
        (US3D, "{city}_{tile}_{view}_{kind}", "{city}_{tile}_{view}", "AGL RGB"),
        (["A_RGB_1ft", "A_DSM_2ft", "A_INT_2ft"], "{scene}_{kind}", "{scene}", "DSM_2ft INT_2ft RGB_1ft"),
        (PREFIXED, "{kind}-{scene}", "{scene}", "mask rgb"),
        (SHEETS, "{scene}_{kind}", "{scene}", "DSM RGB"),
        (SPACED, "{scene}.{kind}", "{scene}", "dtm ortho"),
        ([f"tile_{n:03d}" for n in range(5)], "{scene}", "{scene}", "image"),
        (["S2_2020_B02_10m", "S2_2020_B8A_10m"], "{scene}_{kind}", "{scene}", "B02_10m B8A_10m"),
        (LANDSAT7, "{scene}_{kind}", "{scene}", " ".join(BANDS7)),
        (["red", "green", "blue"], "{kind}", "scene", "blue green red"),
    ],
)
def test_names_are_split_into_scene_and_kind(names, stem, scene, kinds) -> None:
    assert patterns_of(names) == [(stem, scene, kinds.split())]


def test_the_looks_of_files_decide_where_names_do_not() -> None:
    names = [f"{c}_{k}" for c in ("north", "south", "east") for k in ("one", "two")]
    looks = {"one": (3, "uint8"), "two": (1, "float32")}
    found = find_patterns(names, lambda n: looks[n.split("_")[1]], lambda *_: False)
    assert [p.stem for p in found] == ["{scene}_{kind}"]
    swapped = ["_".join(reversed(name.split("_"))) for name in names]
    found = find_patterns(swapped, lambda n: looks[n.split("_")[0]], lambda *_: False)
    assert [p.stem for p in found] == ["{kind}_{scene}"]


def test_files_that_lie_apart_are_no_kinds_of_one_scene() -> None:
    names = ["site_a", "site_b", "site_c"]
    found = find_patterns(names, lambda _: (1, "uint8"), lambda *_: True)
    assert [(p.stem, len(p.kinds)) for p in found] == [("{scene}", 3)]


@given(st.lists(st.text("aB0_-. é{}*\\[", min_size=1, max_size=12), unique=True, max_size=12))
def test_any_names_give_patterns_that_are_true_of_them(names: list[str]) -> None:
    for pattern in find_patterns(names, lambda _: None, lambda *_: False):
        assert set(pattern.kinds) <= set(names)
        assert all(kind and (pattern.constant or kind in name) for name, kind in pattern.kinds.items())


# --- files ----------------------------------------------------------------------------------------


def survey(folder: Path) -> None:
    for scene in ("north", "south"):
        write(folder / "images" / f"{scene}-ORTHO.tif", some((3, 64, 64), "uint8", 1, 255))
        write(folder / f"{scene}-MULTI.TIFF", some((5, 32, 32), "uint16", 1, 1800), pixel=1)
        write(folder / f"{scene}-DTM.tif", some((64, 64), "float32", 80, 90), nodata=-9999)
        write(folder / f"{scene}-veg.tif", some((64, 64), "float32", -0.5, 20), unit="ft")
        write(folder / f"{scene}-use.tif", some((64, 64), "uint8", 3, 7))


def test_a_survey_becomes_a_catalog_that_ingests(tmp_path: Path) -> None:
    survey(tmp_path / "survey")
    draft = draft_catalog(tmp_path / "survey")
    assert (draft.files, draft.problems) == (10, ())
    assert modalities_of(draft) == {
        "multi": ("image", ("MULTI",)),
        "rgb": ("image", ("ORTHO",)),
        "dtm": ("height", ("DTM",)),
        "veg": ("height", ("veg",)),
        "use": ("label", ("use",)),
    }
    catalog = draft.catalog
    assert [band.name for band in catalog.modalities["rgb"].bands] == ["red", "green", "blue"]
    assert catalog.modalities["veg"].unit == "foot"
    assert (catalog.modalities["veg"].quantity, catalog.modalities["dtm"].quantity) == (
        "above-ground",
        "surface",
    )
    assert [entry.code for entry in catalog.class_tables["draft"].classes] == [3, 4, 5, 6]
    assert catalog.reference[0] == "rgb"  # the finer of the two images
    path = write_draft(draft, tmp_path / "survey.yaml")
    assert load_catalog(path) == catalog
    ingest(tmp_path / "survey", catalog=str(path), out=tmp_path / "c.zarr", patch=16)
    cube = Cube.open(tmp_path / "c.zarr")
    assert set(cube.modalities) == set(catalog.modalities)
    assert summarize(cube) == "summaries/draft"


def test_every_decision_stands_in_the_file_and_in_the_list(tmp_path: Path) -> None:
    survey(tmp_path / "survey")
    draft = draft_catalog(tmp_path / "survey")
    marked = [line for line in draft.text.splitlines() if "DECIDE: " in line]
    assert len(marked) == len(draft.decisions) + 1  # licence and citation are two lines, one decision
    assert any(d.startswith("modalities.dtm.unit: no file states") for d in draft.decisions)
    assert not any(d.startswith("modalities.veg.unit") for d in draft.decisions)  # stated by the file


def test_the_us3d_folder_is_understood(us3d_folder: Path) -> None:
    draft = draft_catalog(us3d_folder)
    assert draft.problems == ()
    assert [(n.file, n.scene) for n in draft.catalog.names] == [
        ("{city}_{tile}_{view}_{kind}.tif", "{city}_{tile}_{view}")
    ]
    roles = {key: m.role for key, m in draft.catalog.modalities.items()}
    assert roles == {"msi": "image", "rgb": "image", "agl": "height", "label": "label"}
    shipped = find_scenes(us3d_folder, load_catalog("us3d"))
    drafted = find_scenes(us3d_folder, draft.catalog)
    assert [(s.key, dict(s.fields)) for s in drafted.scenes] == [
        (s.key, dict(s.fields)) for s in shipped.scenes
    ]
    assert sorted(draft.catalog.cities) == ["JAX", "OMA"]


def test_feet_are_guessed_from_the_crs_and_asked_about(tmp_path: Path) -> None:
    for scene in "ab":
        write(tmp_path / "s" / f"{scene}_dsm.tif", some((32, 32), "float32", 300, 400), crs=FEET)
        write(tmp_path / "s" / f"{scene}_rgb.tif", some((3, 32, 32), "uint8", 1, 255), crs=FEET)
    draft = draft_catalog(tmp_path / "s")
    assert draft.catalog.modalities["dsm"].unit == "foot"
    assert any("guessed from the unit of the CRS" in decision for decision in draft.decisions)


def test_bands_named_by_the_file_are_kept(tmp_path: Path) -> None:
    for scene in "ab":
        path = tmp_path / "s" / f"{scene}_ms.tif"
        write(path, some((2, 16, 16), "uint16", 1, 99))
        with rasterio.open(path, "r+") as file:
            file.descriptions = ("red edge", "nir: 1 # x")
        write(tmp_path / "s" / f"{scene}_cls.tif", some((16, 16), "uint8", 0, 3), nodata=0)
    draft = draft_catalog(tmp_path / "s")
    assert [band.name for band in draft.catalog.modalities["msi"].bands] == ["red edge", "nir: 1 # x"]
    # The nodata value of labels is no class.
    assert [entry.code for entry in draft.catalog.class_tables["draft"].classes] == [1, 2]


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    survey(tmp_path / "s")
    (tmp_path / "s" / "east-ORTHO.tif").write_text("version https://git-lfs.github.com/spec/v1")
    (tmp_path / "s" / "old.img").write_bytes(b"x")
    write(tmp_path / "s" / "readme picture of us.tif", some((3, 16, 16), "uint8", 1, 9))
    problems = " | ".join(draft_catalog(tmp_path / "s").problems)
    assert "git-LFS pointer" in problems
    assert "1 files of other formats: old.img" in problems


def test_equal_names_in_two_folders_are_refused_with_a_way_out(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "s" / "images" / f"{number}.tif", some((3, 16, 16), "uint8", 1, 255))
        write(tmp_path / "s" / "labels" / f"{number}.tif", some((16, 16), "uint8", 1, 4))
    with pytest.raises(
        CatalogError, match=r"same names in different folders: images/0\.tif and labels/0\.tif"
    ) as info:
        draft_catalog(tmp_path / "s")
    assert "<scene>_<folder>.tif" in str(info.value)


@pytest.mark.parametrize("name", ["patch", "x", "row", "split", "07", "été", "a{b}"])
def test_awkward_kinds_get_names_that_a_cube_can_hold(tmp_path: Path, name: str) -> None:
    for scene in ("north", "south"):
        write(tmp_path / "s" / f"{scene}_{name}q.tif", some((2, 16, 16), "uint8", 1, 255))
        write(tmp_path / "s" / f"{scene}_{name}.tif", some((3, 16, 16), "uint16", 1, 255))
    draft = draft_catalog(tmp_path / "s")
    assert parse_catalog(draft.text, "again") == draft.catalog
    assert len(find_scenes(tmp_path / "s", draft.catalog).scenes) >= 1


def test_folders_without_rasters(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        draft_catalog(tmp_path / "none")
    (tmp_path / "a.tif").write_text("hello")
    with pytest.raises(InputError, match=r"no file in .* is a raster that can be read"):
        draft_catalog(tmp_path)


def test_an_existing_file_is_not_replaced(tmp_path: Path) -> None:
    survey(tmp_path / "s")
    draft = draft_catalog(tmp_path / "s")
    write_draft(draft, tmp_path / "own.yaml")
    (tmp_path / "own.yaml").write_text("mine")
    with pytest.raises(StoreExistsError):
        write_draft(draft, tmp_path / "own.yaml")
    assert (tmp_path / "own.yaml").read_text() == "mine"
    write_draft(draft, tmp_path / "own.yaml", overwrite=True)
    assert yaml.safe_load((tmp_path / "own.yaml").read_text())["format"] == 1


def test_equal_folders_give_equal_drafts(tmp_path: Path) -> None:
    for place in ("a", "b"):
        survey(tmp_path / place / "survey")
    assert draft_catalog(tmp_path / "a" / "survey").text == draft_catalog(tmp_path / "b" / "survey").text
    assert str(tmp_path) not in draft_catalog(tmp_path / "a" / "survey").text


def test_rasters_without_a_crs(tmp_path: Path) -> None:
    for scene in ("JAX_004_001", "JAX_004_002", "JAX_068_001"):
        pixels = {"RGB": some((3, 16, 16), "uint8", 1, 255), "AGL": some((16, 16), "float32", 0, 9)}
        write_scene(tmp_path / "s", scene, pixels, crs=None)
    draft = draft_catalog(tmp_path / "s")
    assert draft.catalog.names[0].file == "{city}_{tile}_{view}_{kind}.tif"
    assert draft.catalog.gsd is None


@pytest.mark.parametrize(
    "folder", ["ign_770550", "ign_770550/raw", "las_codes", "olinda", "autzen", "defects"]
)
def test_drafts_of_real_rasters_ingest(realdata: Path, folder: str, tmp_path: Path) -> None:
    draft = draft_catalog(realdata / folder)
    report = ingest(
        realdata / folder, catalog=draft.catalog, out=tmp_path / "c.zarr", patch=32, edge="pad",
        skip_bad=True, mixed_resolution=True, dry_run=True,
    )  # fmt: skip
    assert report.plan.patches.n_patches > 0
    assert {name: m.unit for name, m in draft.catalog.modalities.items() if m.role == "height"} == (
        {"dsm": "foot"} if folder == "autzen" else dict.fromkeys(draft.catalog.role("height"), "metre")
    )


# --- the command line -----------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def test_init_prints_the_path_and_what_to_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    survey(tmp_path / "my survey")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "catalogs", "init", "my survey")
    assert (code, out) == (0, "my-survey.yaml\n")
    assert "decide: modalities.dtm.unit" in err
    assert "next: geoae catalogs check my-survey.yaml my survey" in err
    assert load_catalog(tmp_path / "my-survey.yaml").title == "my survey"
    code, _, err = run(capsys, "catalogs", "init", "my survey")
    assert code == 2
    assert "exists" in err
    code, out, err = run(capsys, "catalogs", "init", "my survey", "--out", "b.yaml", "--json", "--quiet")
    assert (code, err) == (0, "")
    assert json.loads(out)["path"] == "b.yaml"


def test_catalogs_lists_and_shows_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    code, listed, _ = run(capsys, "catalogs")
    assert code == 0
    assert [line.split()[0] for line in listed.splitlines()] == ["us3d", "lidar", "generic"]
    assert run(capsys, "catalogs", "list")[1] == listed
    assert list(json.loads(run(capsys, "catalogs", "--json")[1])) == ["us3d", "lidar", "generic"]
    code, shown, _ = run(capsys, "catalogs", "us3d")
    assert shown == run(capsys, "catalogs", "show", "us3d")[1]
    assert "files {city}_{tile}_{view}_{kind}.tif" in shown
    assert json.loads(run(capsys, "catalogs", "us3d", "--json")[1])["name"] == "us3d"
    code, _, err = run(capsys, "catalogs", "usd")
    assert code == 3
    assert "did you mean 'us3d'" in err


# --- folders like those of strangers --------------------------------------------------------------


def test_files_of_different_places_without_a_pattern_are_scenes_of_their_own(tmp_path: Path) -> None:
    """Such as the examples that come with a library: a logo, an elevation model, a river's soils."""
    write(tmp_path / "s" / "elev.tif", some((32, 32), "float32", 141, 547))
    write(tmp_path / "s" / "logo.tif", some((3, 24, 24), "uint8", 1, 255), crs=FEET)
    write(tmp_path / "s" / "soil.tif", some((16, 16), "uint8", 0, 5), crs="EPSG:28992")
    draft = draft_catalog(tmp_path / "s")
    assert sorted((n.file, n.scene, n.kind) for n in draft.catalog.names) == [
        ("elev.tif", "elev", "elev"),
        ("logo.tif", "logo", "logo"),
        ("soil.tif", "soil", "soil"),
    ]
    report = ingest(
        tmp_path / "s", catalog=draft.catalog, out=tmp_path / "c.zarr", patch=16, mixed_resolution=True
    )
    assert [h.status for h in report.plan.scenes] == ["ok"] * 3


def test_single_bands_of_one_place_are_one_scene(tmp_path: Path) -> None:
    for name in ("blue", "green", "red"):
        write(tmp_path / "s" / f"{name}.tif", some((32, 32), "uint8", 1, 255), nodata=255)
    for name in ("park-dem", "park-rgb"):
        image = some((32, 32) if name.endswith("dem") else (3, 32, 32), "uint16", 1, 4000)
        write(tmp_path / "s" / f"{name}.tif", image if "dem" in name else image.astype(np.uint8))
    draft = draft_catalog(tmp_path / "s")
    assert [(n.file, n.scene) for n in draft.catalog.names] == [
        ("{scene}-{kind}.tif", "{scene}"),
        ("{kind}.tif", "scene"),
    ]
    scenes = {s.key: sorted(s.sources) for s in find_scenes(tmp_path / "s", draft.catalog).scenes}
    assert scenes == {"park": ["dsm", "rgb"], "scene": ["blue", "green", "red"]}


def test_labels_in_floating_point_are_asked_about(tmp_path: Path) -> None:
    for scene in "ab":
        write(
            tmp_path / "s" / f"{scene}_classes.tif",
            some((16, 16), "float32", 1, 5),
            nodata=-3.4028234663852886e38,
        )
        write(tmp_path / "s" / f"{scene}_dem.tif", some((16, 16), "float32", 1, 5))
    draft = draft_catalog(tmp_path / "s")
    assert modalities_of(draft)["classes"][0] == "image"
    assert any("labels are integers (gdal_translate -ot Byte" in decision for decision in draft.decisions)


def test_an_alpha_band_is_no_band_of_the_image(tmp_path: Path) -> None:
    for scene in "ab":
        write(
            tmp_path / "s" / f"{scene}_ortho.tif",
            some((4, 16, 16), "uint8", 1, 255),
            photometric="RGB",
            ALPHA="YES",
        )
        write(tmp_path / "s" / f"{scene}_dsm.tif", some((16, 16), "float32", 1, 5))
    rgb = draft_catalog(tmp_path / "s").catalog.modalities["rgb"]
    assert rgb.band_indices == (1, 2, 3)
    assert [band.name for band in rgb.bands] == ["red", "green", "blue"]
    report = ingest(
        tmp_path / "s", catalog=draft_catalog(tmp_path / "s").catalog, out=tmp_path / "c.zarr", patch=16
    )
    assert Cube.open(report.cube).bands("rgb") == ("red", "green", "blue")


@pytest.mark.parametrize(
    ("bands", "dtype"),
    [
        (("B2", "B3", "B10"), "float64"),  # Landsat, reprojected by somebody
        (("B1", "B2", "B3", "B6_VCID_1"), "uint8"),
        (("B02_10m", "B8A_20m"), "uint16"),
        (("SR_B4", "SR_B5"), "float32"),
    ],
)
def test_bands_in_files_of_their_own_are_images(tmp_path: Path, bands: tuple[str, ...], dtype: str) -> None:
    for scene in ("L1_20130707", "L1_20130808"):
        for band in bands:
            pixels = some((32, 32), dtype, 20, 60 if dtype == "uint8" else 8000)
            write(tmp_path / "s" / f"{scene}_{band}.tif", pixels, pixel=30.0)
    draft = draft_catalog(tmp_path / "s")
    assert {role for role, _ in modalities_of(draft).values()} == {"image"}
    report = ingest(tmp_path / "s", catalog=draft.catalog, out=tmp_path / "c.zarr", patch=16)
    cube = Cube.open(report.cube)
    assert len(cube.by_role("image")) == len(bands)
    assert (cube.valid_fraction() == 1).all()


def test_quality_flags_are_no_heights(tmp_path: Path) -> None:
    for scene in ("L1_20130707", "L1_20130808"):
        write(tmp_path / "s" / f"{scene}_B2.tif", some((32, 32), "uint16", 20, 8000))
        write(tmp_path / "s" / f"{scene}_BQA.tif", some((32, 32), "int16", 600, 2720))
        write(tmp_path / "s" / f"{scene}_Fmask.tif", some((32, 32), "uint8", 0, 4))
    draft = draft_catalog(tmp_path / "s")
    roles = {key: role for key, (role, _) in modalities_of(draft).items()}
    assert roles == {"b2": "image", "bqa": "image", "quality": "label"}
    assert any("beyond the codes 0 to 255" in text for text in draft.decisions)


def test_no_heights_are_made_of_values_beyond_the_highest_mountain(tmp_path: Path) -> None:
    for scene in "ab":
        write(tmp_path / "s" / f"{scene}_thermal.tif", some((32, 32), "float32", 25_000, 31_000))
        write(tmp_path / "s" / f"{scene}_dem.tif", some((32, 32), "float32", 10, 31))
    draft = draft_catalog(tmp_path / "s")
    assert modalities_of(draft) == {"thermal": ("image", ("thermal",)), "dsm": ("height", ("dem",))}
    assert any("modalities.thermal.role: one band of float32; half" in text for text in draft.decisions)
