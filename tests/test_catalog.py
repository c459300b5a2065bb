"""Catalogs: what file names say, what is refused and how, and the facts in the shipped ones."""

import copy
import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geoae.catalog import (
    VOID,
    Catalog,
    ClassTable,
    Modality,
    catalog_schema,
    load_catalog,
    loading,
    shipped_catalogs,
)
from geoae.errors import CatalogError, UsageError
from geoae.grid import crs_equal

FIXTURES = sorted((Path(__file__).parent / "catalogs").glob("*.yaml"))

SMALL: dict[str, Any] = {
    "format": 1,
    "name": "small",
    "title": "Small",
    "names": [{"file": "{city}_{tile}_{kind}.tif", "scene": "{city}_{tile}"}],
    "modalities": {
        "msi": {"role": "image", "kinds": ["MSI"], "bands": [{"name": "red"}, {"name": "nir"}]},
        "dsm": {"role": "height", "kinds": ["DSM"], "quantity": "surface"},
        "label": {"role": "label", "kinds": ["CLS"]},
    },
    "default_class_table": "two",
    "class_tables": {"two": {"classes": [{"code": 2, "name": "ground", "color": "#AABBCC"}]}},
}


def written(folder: Path, data: Any) -> Path:
    path = folder / "own.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False))
    return path


def changed(path: str, value: Any) -> dict[str, Any]:
    """SMALL with one key set, by its path."""
    data = copy.deepcopy(SMALL)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = data
    for part in parents:
        place = place[part]
    place[last] = value
    return data


# --- the shipped catalogs -------------------------------------------------------------------------


def test_three_catalogs_are_shipped_and_the_files_of_a_checkout_are_read(repository: Path) -> None:
    assert list(shipped_catalogs()) == ["us3d", "lidar", "generic"]
    assert {path.stem for path in (repository / "catalogs").glob("*.yaml")} == set(shipped_catalogs())


@pytest.mark.parametrize("name", ["us3d", "lidar"])
def test_a_shipped_catalog_is_found_by_name_and_by_path(name: str, repository: Path) -> None:
    by_path = load_catalog(repository / "catalogs" / f"{name}.yaml")
    assert by_path == load_catalog(name)
    assert by_path.digest() == load_catalog(name).digest()
    assert by_path.name == name


def test_a_checkout_never_reads_an_older_copy_inside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "geoae"
    for folder in ("geoae/catalog", "geoae/_catalogs", "catalogs"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(loading, "__file__", str(package / "catalog" / "loading.py"))
    assert loading._shipped_folder() == package / "_catalogs"  # installed: no pyproject.toml beside it
    (tmp_path / "pyproject.toml").touch()
    assert loading._shipped_folder() == tmp_path / "catalogs"


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_the_catalogs_of_the_real_rasters_load(path: Path) -> None:
    assert load_catalog(path).name == path.stem


@pytest.mark.parametrize(
    "catalog", [*shipped_catalogs().values(), *map(load_catalog, FIXTURES)], ids=lambda catalog: catalog.name
)
def test_a_catalog_comes_back_from_json_and_pickle(catalog: Catalog) -> None:
    again = Catalog.model_validate(catalog.model_dump(mode="json"))
    assert again == catalog
    assert again.digest() == catalog.digest()
    assert list(again.modalities) == list(catalog.modalities)
    assert pickle.loads(pickle.dumps(catalog)) == catalog


def test_the_digest_sees_a_changed_word_and_another_order_of_modalities() -> None:
    small = Catalog.model_validate(SMALL)
    modalities = dict(reversed(SMALL["modalities"].items()))
    others = [changed("modalities.dsm.unit", "foot"), SMALL | {"modalities": modalities}]
    digests = {small.digest(), *(Catalog.model_validate(other).digest() for other in others)}
    assert len(digests) == 3


US3D_NAMES = {
    "JAX_004_006_RGB.tif": ("JAX_004_006", "rgb", "JAX", "004", "006"),
    "OMA_132_003_MSI.TIF": ("OMA_132_003", "msi", "OMA", "132", "003"),
    "JAX_004_006_agl.tiff": ("JAX_004_006", "agl", "JAX", "004", "006"),
    "JAX_004_006_CLS.tif": ("JAX_004_006", "label", "JAX", "004", "006"),
    # Track 2: two sides of a rectified pair are two views.
    "JAX_068_001_003_LEFT_RGB.tif": ("JAX_068_001_003_LEFT", "rgb", "JAX", "068", "001_003_LEFT"),
    "JAX_068_001_003_RIGHT_MSI.tif": ("JAX_068_001_003_RIGHT", "msi", "JAX", "068", "001_003_RIGHT"),
    # Track 3: truth of a tile.
    "JAX_004_DSM.tif": ("JAX_004", "dsm", "JAX", "004", None),
    "JAX_004_CLS_v2.tif": ("JAX_004", "label", "JAX", "004", None),
}


@pytest.mark.parametrize(("file_name", "expected"), US3D_NAMES.items())
def test_us3d_names(file_name: str, expected: tuple[str, ...]) -> None:
    name = load_catalog("us3d").parse(file_name)
    assert name is not None
    fields = tuple(name.fields.get(field) for field in ("city", "tile", "view"))
    assert (name.key, name.modality, *fields) == expected
    assert name.version == (2 if "_v2" in file_name else 0)


@pytest.mark.parametrize(
    "file_name",
    [
        "JAX_Tile_004_RGB.tif",  # another product
        "JAX_004_DSM.txt",
        "JAX_068_001_003_LEFT_DSP.tif",  # disparities are no modality
        "jax_004_006_RGB.tif",
        "JAX_004_006_RGB.tif.aux.xml",
        "XJAX_004_006_RGB.tif",
        "JAX_004_006_RGBtif",
    ],
)
def test_names_that_us3d_does_not_explain(file_name: str) -> None:
    assert load_catalog("us3d").parse(file_name) is None
    assert load_catalog("us3d").excludes(file_name) == file_name.startswith("JAX_Tile")


@pytest.mark.parametrize("file_name", [*US3D_NAMES, "JAX_Tile_004_DSM.tif"])
def test_the_lidar_catalog_leaves_us3d_alone(file_name: str) -> None:
    assert load_catalog("lidar").parse(file_name) is None
    assert load_catalog("lidar").excludes(file_name)


def test_the_bands_of_us3d_are_those_of_worldview_3() -> None:
    # Band edges in nm as DigitalGlobe publishes them.
    edges = {
        "coastal": (400, 450),
        "blue": (450, 510),
        "green": (510, 580),
        "yellow": (585, 625),
        "red": (630, 690),
        "red_edge": (705, 745),
        "nir1": (770, 895),
        "nir2": (860, 1040),
    }
    bands = load_catalog("us3d").modalities["msi"].bands
    assert bands is not None
    found = {
        band.name: (band.wavelength - band.bandwidth / 2, band.wavelength + band.bandwidth / 2)
        for band in bands
        if band.wavelength and band.bandwidth
    }
    assert found == edges
    assert list(found) == list(edges)
    extract = load_catalog("us3d").modalities["rgb"].extract
    assert extract is not None
    assert [list(edges).index(name) + 1 for name in extract.bands] == [5, 3, 2]


def test_the_zones_of_the_cities() -> None:
    us3d = load_catalog("us3d")
    zones = {city: entry.crs for city, entry in us3d.cities.items()}
    assert zones == {"JAX": "EPSG:32617", "OMA": "EPSG:32615"}
    assert not crs_equal(*zones.values())
    assert us3d.group == "tile"
    assert "IEEE DataPort" in us3d.licence + us3d.citation


@pytest.mark.parametrize(
    ("catalog", "table", "expected"),
    [
        ("us3d", "dfc2019", {2: 0, 5: 1, 6: 2, 9: 3, 17: 4}),
        ("us3d", "thesis", {2: 0, 5: 1, 6: 2, 9: 3, 65: 4}),
        ("lidar", "asprs", {2: 0, 3: 1, 4: 1, 5: 1, 6: 2, 9: 3, 17: 4}),
    ],
)
def test_class_tables_map_every_code(catalog: str, table: str, expected: dict[int, int]) -> None:
    lookup = load_catalog(catalog).class_tables[table].lookup()
    assert lookup.dtype == np.uint8
    assert lookup.shape == (256,)
    assert {code: int(lookup[code]) for code in range(256) if lookup[code] != VOID} == expected


def test_the_contest_s_classes_are_the_default() -> None:
    assert load_catalog("us3d").default_class_table == "dfc2019"


# Machado, Oliveira, Fernandes 2009, severity 1.0, for linear RGB.
DEFICIENCY = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}

SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(color: str, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """CIE L*a*b* (D65) of '#rrggbb' as somebody with a deficiency sees it."""
    srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = to_xyz @ np.clip(matrix @ linear, 0, 1) / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", DEFICIENCY)
@pytest.mark.parametrize(("catalog", "table"), [("us3d", "dfc2019"), ("us3d", "thesis"), ("lidar", "asprs")])
def test_class_colours_differ_for_everybody(catalog: str, table: str, deficiency: str) -> None:
    entries = load_catalog(catalog).class_tables[table].classes
    colors = {entry.name: lab(entry.color, DEFICIENCY[deficiency]) for entry in entries}
    for (first, a), (second, b) in itertools.combinations(colors.items(), 2):
        # A difference of 2 is just visible side by side; 20 is plain in small spots apart.
        assert np.linalg.norm(a - b) > 20, (first, second)


# --- patterns -------------------------------------------------------------------------------------


def test_generic_asks_for_a_pattern() -> None:
    with pytest.raises(CatalogError, match=r"generic does not say how files are named .*--pattern") as info:
        load_catalog("generic")
    assert info.value.exit_code == 3


def test_generic_with_a_pattern() -> None:
    catalog = load_catalog("generic", pattern="{city}_{tile}_{kind}_{version}.tif")
    name = catalog.parse("Lyon_12_dem_v3.tif")
    assert name is not None
    assert (name.key, name.modality, name.version) == ("Lyon_12", "dsm", 3)
    assert catalog.digest() != load_catalog("generic", pattern="{tile}_{kind}.tif").digest()


def test_names_may_hold_spaces_newlines_and_any_letters() -> None:
    catalog = load_catalog("generic", pattern="{scene}_{kind}.tif")
    name = catalog.parse("Zürich – Süd\n(copy 2)_RGB.tif")
    assert name is not None
    assert name.key == "Zürich – Süd\n(copy 2)"


def test_a_pattern_for_a_catalog_with_names_is_a_mistake_of_usage() -> None:
    with pytest.raises(UsageError, match="us3d says itself how files are named"):
        load_catalog("us3d", pattern="{scene}_{kind}.tif")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{scene}.tif", "without {kind}"),
        ("{kind}.tif", "all files are one scene"),
        ("{scene_{kind}.tif", "unbalanced braces"),
        ("../{scene}_{kind}.tif", "is a path"),
        ("{Scene}_{kind}.tif", "{Scene} is no field"),
        ("{tile}_{tile}_{kind}.tif", "{tile} stands there twice"),
        ("{scene}" * 1 + "x" * 300 + "{kind}", "at most 255 characters"),
    ],
)
def test_bad_patterns(pattern: str, message: str) -> None:
    with pytest.raises(CatalogError) as info:
        load_catalog("generic", pattern=pattern)
    assert message in str(info.value)


word = st.text(st.characters(codec="utf-8", exclude_characters="_/\0"), min_size=1, max_size=20)


@given(
    city=word,
    tile=word,
    kind=st.sampled_from(["MSI", "msi", "Dsm", "CLS"]),
    end=st.sampled_from([".tif", ".TIF", ".tiff"]),
)
def test_a_name_made_of_fields_gives_the_fields_back(city: str, tile: str, kind: str, end: str) -> None:
    name = Catalog.model_validate(SMALL).parse(f"{city}_{tile}_{kind}{end}")
    assert name is not None
    assert name.fields == {"city": city, "tile": tile}
    assert name.key == f"{city}_{tile}"
    assert name.modality == {"msi": "msi", "dsm": "dsm", "cls": "label"}[kind.lower()]


@given(st.lists(st.sets(st.integers(0, 255), min_size=1, max_size=9), min_size=1, max_size=9))
def test_lookup_agrees_with_the_lists_of_codes(groups: list[set[int]]) -> None:
    seen: set[int] = set()
    classes = []
    for number, group in enumerate(groups):
        if codes := sorted(group - seen):
            classes.append({"code": number, "codes": codes, "name": str(number), "color": "#000000"})
        seen |= group
    lookup = ClassTable(classes=classes).lookup()  # type: ignore[arg-type]  # pydantic converts
    for code in range(256):
        owner = [position for position, entry in enumerate(classes) if code in entry["codes"]]  # type: ignore[operator]
        assert lookup[code] == (owner[0] if owner else VOID)


# --- what is refused ------------------------------------------------------------------------------

# Key, value, and the beginning of the message, where ~ stands for the key.
BAD = [
    ("modalities.msi.bnads", [], "~: unknown key; did you mean 'bands'?"),
    ("modalities.msi.bands.0.wavelenght", 5, "~: unknown key; did you mean 'wav"),
    ("modalitis", {}, "~: unknown key; did you mean 'modalities'?"),
    ("names.0.fil", "x", "~: unknown key; did you mean 'file'?"),
    ("zzz", 1, "~: unknown key ("),
    ("format", 2, "~: 2 is newer than 1"),
    ("format", 0, "~: input should be 1"),
    ("modalities", {}, "~: "),
    ("modalities.msi.role", "picture", "~: input should be 'image', 'height' or 'label'"),
    ("modalities.msi.kinds", [], "~: "),
    ("modalities.msi.unit", "metre", "~: only for role height"),
    ("modalities.dsm.dtype", "uint8", "~: only for role image"),
    ("modalities.label.void", [0], "~: only for role height"),
    ("modalities.dsm.black_is_void", False, "~: only for role image"),
    ("modalities.dsm.unit", "yard", "~: input should be 'metre'"),
    ("modalities.dsm.quantity", None, "~: say whether"),
    ("modalities.dsm.valid_range", [5, 1], "~: two numbers, the lower one first"),
    ("modalities.dsm.void", [float("nan")], "~.0: "),
    ("modalities.msi.dtype", "complex64", "~: no data type 'complex64'"),
    ("modalities.msi.bands", [{"name": "a"}, {"name": "a"}], "~: 'a' is there twice"),
    ("modalities.msi.band_indices", [1], "~: 1 of them for 2 bands"),
    ("modalities.msi.band_indices", [0, 1], "~: bands are counted from 1"),
    ("modalities.label.resampling", "bilinear", "~: bilinear would mix label codes"),
    ("modalities.dsm.kinds", ["msi"], "~: 'msi' is a kind of msi, too"),
    ("modalities.tile", {"role": "label", "kinds": ["T"]}, "~: a cube has another variable"),
    ("modalities.msi_band", {"role": "label", "kinds": ["T"]}, "~: a cube has another variable"),
    ("modalities.MSI", {"role": "label", "kinds": ["T"]}, "~: use lower-case letters"),
    ("modalities.msi.extract", {"modality": "nir", "bands": ["red"]}, "~.modality: 'nir' is"),
    ("names.0.file", "../{city}_{tile}_{kind}.tif", "~: '../{city}_{tile}_{kind}.tif' is a path"),
    ("names.0.scene", "{view}", "~: {view} is not in"),
    ("names.0.scene", "{kind}", "~: {kind} differs between the files of one scene"),
    ("names.0.file", "{city}_{tile}.tif", "names.0.kind: a template needs either"),
    ("names.0.kind", "MSI", "~: a template needs either"),
    ("fields", {"city": "("}, "~.city: no regular expression"),
    ("fields", {"city": "(a)"}, "~.city: use (?:...) for groups"),
    ("fields", {"city": "a" * 301}, "~.city: a regular expression has at most 300 characters"),
    ("fields", {"view": "a"}, "~.view: no name has a {view}"),
    ("fields", {"kind": "a"}, "~.kind: the kinds of the modalities say"),
    ("exclude", ["["], "~.0: no regular expression"),
    ("default_class_table", "three", "~: no class table 'three'"),
    ("default_class_table", None, "~: choose one of two"),
    ("class_tables.two.classes.0.color", "red", "~: a colour is written '#rrggbb'"),
    ("class_tables.two.classes.0.codes", [256], "~: one or more codes between"),
    ("class_tables.two.classes", [], "~: "),
    ("codes", {300: "x"}, "~.300: a label code lies between 0 and 255"),
    ("reference", ["rgb"], "~: no modality 'rgb'"),
    ("reference", ["msi", "msi"], "~: 'msi' is there twice"),
    ("gsd", -1, "~: "),
    ("name", 5, "~: "),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=lambda value: str(value)[:50])
def test_what_is_wrong_is_said_with_its_path(path: str, value: Any, message: str, tmp_path: Path) -> None:
    file = written(tmp_path, changed(path, value))
    with pytest.raises(CatalogError) as info:
        load_catalog(file)
    assert info.value.message.startswith(message.replace("~", path))
    assert "own.yaml" in info.value.message
    assert "\n" not in str(info.value)
    assert info.value.exit_code == 3


def test_the_small_catalog_is_right_to_begin_with(tmp_path: Path) -> None:
    catalog = load_catalog(written(tmp_path, SMALL))
    assert catalog.modalities["dsm"].unit == "metre"
    assert catalog.modalities["dsm"].resampling == "bilinear"
    assert catalog.modalities["label"].resampling == "nearest"
    assert catalog.class_tables["two"].classes[0].codes == (2,)
    assert catalog.class_tables["two"].classes[0].color == "#aabbcc"
    assert catalog.role("image") == ("msi",)


def test_two_classes_cannot_share_a_code() -> None:
    twice = [
        {"code": 1, "codes": [1, 2], "name": "a", "color": "#000000"},
        {"code": 2, "name": "b", "color": "#ffffff"},
    ]
    with pytest.raises(ValueError, match="classes: 2 is there twice"):
        ClassTable(classes=twice)  # type: ignore[arg-type]  # pydantic converts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format: 1\nname: a\nname: b\n", "key 'name' is there twice in line 3"),
        ("a: &x [1]\nb: *x\n", "aliases (*name) are not used in line 2"),
        ("a: [1\n", "not YAML"),
        ("- 1\n- 2\n", "a catalog is a mapping"),
        ("", "a catalog is a mapping"),
        ("? [1, 2]\n: 3\n", "a key is one word"),
        ("a: !!python/object/apply:os.system ['true']\n", "not YAML: could not determine a constructor"),
        ("[" * 3000, "nested too deeply"),
        ("a: " + "x" * (1 << 20), "larger than"),
    ],
    ids=["repeated key", "alias", "open", "list", "empty", "complex key", "python tag", "deep", "large"],
)
def test_what_is_no_catalog_at_all(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as info:
        load_catalog(written(tmp_path, text))
    assert message in str(info.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CatalogError, match="not UTF-8"):
        load_catalog(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("us3", "no catalog 'us3'; shipped are us3d, lidar, generic; did you mean 'us3d'?"),
        ("missing.yaml", "missing.yaml: No such file"),
        (Path("us3d"), "us3d: No such file"),
    ],
)
def test_catalogs_that_are_not_there(
    name: str | Path, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CatalogError) as info:
        load_catalog(name)
    assert str(info.value).startswith(message)


def test_a_folder_of_the_same_name_does_not_hide_a_shipped_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "us3d").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_catalog("us3d").name == "us3d"


def test_band_names_come_from_the_catalog_or_are_counted() -> None:
    assert Modality(role="image", kinds=("P",)).band_names(2) == ("band_1", "band_2")
    assert Modality(role="image", kinds=("P",), band_indices=(3,)).band_names(8) == ("band_3",)
    assert load_catalog("us3d").modalities["rgb"].band_names(3) == ("red", "green", "blue")


def test_a_template_of_its_own_kind_needs_no_placeholder() -> None:
    data = changed("names", [{"file": "L7_{tile}.tif", "scene": "{tile}", "kind": "msi"}])
    name = Catalog.model_validate(data).parse("L7_11.tif")
    assert name is not None
    assert (name.key, name.modality) == ("11", "msi")


# --- the JSON schema ------------------------------------------------------------------------------


def test_the_schema_in_the_documentation_is_current(repository: Path) -> None:
    written = (repository / "docs" / "catalog.schema.json").read_text(encoding="utf-8")
    assert json.loads(written) == catalog_schema(), "geoae catalogs schema > docs/catalog.schema.json"


@pytest.mark.parametrize("path", [*FIXTURES, "us3d.yaml", "lidar.yaml", "generic.yaml"], ids=str)
def test_catalogs_are_valid_by_the_schema(path: Path | str, repository: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    text = (repository / "catalogs" / path).read_text(encoding="utf-8")
    document = json.loads(json.dumps(yaml.safe_load(text)))  # keys of JSON are texts
    validator = jsonschema.Draft202012Validator(catalog_schema())
    assert list(validator.iter_errors(document)) == []
    assert list(validator.iter_errors(document | {"licnce": ""})) != []


def test_the_schema_explains_every_key() -> None:
    schema = catalog_schema()
    for part in (schema, *schema["$defs"].values()):
        silent = [name for name, value in part["properties"].items() if not value.get("description")]
        assert (part["title"], silent) == (part["title"], [])
