"""Adding to a GeoPackage: what others keep in it stays, whoever has it open and whatever fails."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import export_scenes as scenes
import pyarrow as pa
import pyogrio
import pytest
import shapely
from test_exports_qgis import ask_qgis
from test_exports_target import HOLDER

from geoae.errors import InputError, LockedError, StoreExistsError, UsageError
from geoae.exports import additions, geopackage, target
from geoae.exports.table import ExportTable

ROADS = [(0.0, 0.0, "Main Street"), (1.0, 1.0, "Oak Lane")]
STYLE = (
    "<!DOCTYPE qgis><qgis version='3.22.0'><renderer-v2 type='singleSymbol'><symbols/></renderer-v2>"
    "<aliases><alias field='name' index='1' name='Name of the road'/></aliases></qgis>"
)
OURS = {"overview", "overview_pixels", "clusters_epsg_32617", "clusters_pixels"}

# The table as QGIS makes it.
STYLES = """
CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256),
    f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30),
    styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')));
INSERT INTO gpkg_contents (table_name, data_type, identifier, last_change)
    VALUES ('layer_styles', 'attributes', 'layer_styles', '2026-01-02T03:04:05.000Z');
"""


def sql(path: Path, *statements: str) -> list[list[Any]]:
    """Ask another process, as another program would; it has let go of the file when this returns."""
    script = (
        "import json, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1])\n"
        "for s in json.loads(sys.argv[2]): rows = c.execute(s).fetchall()\n"
        "c.commit(); c.close()\n"
        "print(json.dumps(rows, default=lambda b: b.hex()))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, path, json.dumps(statements)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows: list[list[Any]] = json.loads(run.stdout)
    return rows


def others(path: Path) -> dict[str, list[list[Any]]]:
    """All that belongs to the roads and to what else others keep in the file."""
    there = {name for (name,) in sql(path, "SELECT name FROM sqlite_master")}
    asked = {
        "roads": "SELECT * FROM roads ORDER BY fid",
        "notes": "SELECT * FROM notes ORDER BY fid",
        "qgis_projects": "SELECT * FROM qgis_projects",
        "rtree_roads_geom": "SELECT id FROM rtree_roads_geom ORDER BY id",
        "streets": "SELECT * FROM streets",
        "gpkg_contents": "SELECT * FROM gpkg_contents WHERE table_name IN ('roads', 'notes') ORDER BY 1",
        "gpkg_geometry_columns": "SELECT * FROM gpkg_geometry_columns WHERE table_name = 'roads'",
        "gpkg_data_columns": "SELECT * FROM gpkg_data_columns WHERE table_name = 'roads'",
        "gpkg_extensions": "SELECT * FROM gpkg_extensions WHERE table_name = 'roads'",
        "layer_styles": "SELECT id, f_table_name, styleName, styleQML, useAsDefault, update_time "
        "FROM layer_styles WHERE f_table_name = 'roads'",
    }
    return {name: sql(path, statement) for name, statement in asked.items() if name in there}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GeoPackage of somebody else: styled roads with titles, a table of notes, a view, a QGIS project."""
    path = tmp_path_factory.mktemp("original") / "town.gpkg"
    titled = pa.field("name", pa.string(), metadata={"GDAL:OGR:alternative_name": "Name of the road"})
    named = pa.array([name for *_, name in ROADS])
    places = pa.array([shapely.to_wkb(shapely.Point(x, y)) for x, y, _ in ROADS])
    pyogrio.write_arrow(
        pa.table([named, places], schema=pa.schema([titled, pa.field("geom", pa.binary())])),
        path, layer="roads", driver="GPKG", geometry_name="geom", geometry_type="Point", crs="EPSG:32617",
        dataset_options={"VERSION": "1.2"},
    )  # fmt: skip
    text = pa.array(["dug up"] * len(ROADS))
    pyogrio.write_arrow(pa.table({"name": named, "text": text}), path, layer="notes", driver="GPKG")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(STYLES)
        connection.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
            "styleName, styleQML, styleSLD, useAsDefault, description, owner, update_time) "
            "VALUES ('', '', 'roads', 'geom', 'mine', ?, '', 1, 'by hand', 'me', '2026-01-02T03:04:05.000Z')",
            (STYLE,),
        )
        connection.executescript(
            "CREATE TABLE qgis_projects (name TEXT PRIMARY KEY, metadata BLOB, content BLOB);"
            "INSERT INTO qgis_projects VALUES ('plan', x'01', x'0203');"
            "CREATE VIEW streets AS SELECT name FROM roads WHERE name LIKE '%Street';"
        )
    return path


@pytest.fixture
def town(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path / "town.gpkg"))


def table(clusters: int = 3) -> ExportTable:
    made = scenes.table_of([scenes.NORTH_UP, scenes.LOOSE], clusters=clusters)
    return replace(made, metadata={**made.metadata, "layers": '{"clusters/pca": {}, "latents/pca": {}}'})


def add(
    path: Path, what: ExportTable | None = None, *, prefix: str = "", overwrite: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Add a table; return the names of the layers, warnings, what stays."""
    with target.replacing(
        path, suffix=".gpkg", kind="GeoPackage", is_kind=target.is_geopackage, overwrite=overwrite, add=True
    ) as new:
        written, warnings, kept = additions.add_layers(
            what or table(), new, prefix=prefix, overwrite=overwrite, shown=path
        )
    return tuple(layer.name for layer in written), warnings, kept


def names(path: Path) -> set[str]:
    return {name for name, _ in pyogrio.list_layers(path)} - {"layer_styles"}


def styles(path: Path) -> dict[tuple[str, str], bool]:
    return {
        (name, style): bool(default)
        for name, style, default in sql(
            path, "SELECT f_table_name, styleName, useAsDefault FROM layer_styles"
        )
    }


# --- what stays ---------------------------------------------------------------------------------------


def test_what_others_keep_in_the_file_stays(town: Path) -> None:
    before = others(town)
    assert len(before) == 10, "the tables of the question are there"
    written, warnings, kept = add(town)
    assert others(town) == before
    assert set(written) == OURS
    assert warnings == ()
    assert set(kept) == {"roads", "notes"}
    assert names(town) == {"roads", "notes"} | OURS
    for name in OURS:
        assert len(scenes.read(town, name)) == 12
    assert sql(town, "PRAGMA integrity_check") == [["ok"]]
    assert [file.name for file in town.parent.iterdir()] == ["town.gpkg"]


def test_styles_of_old_and_new_layers_lie_side_by_side(town: Path) -> None:
    add(town)
    ours = {(name, style): style == "Clusters" for name in OURS for style in ("Clusters", "Classes")}
    assert styles(town) == {("roads", "mine"): True, **ours}


def test_without_styles_in_the_file_they_are_made(town: Path) -> None:
    sql(town, "DROP TABLE layer_styles", "DELETE FROM gpkg_contents WHERE table_name = 'layer_styles'")
    add(town)
    assert {name for name, _ in styles(town)} == OURS


def test_a_table_of_styles_that_is_not_one_of_qgis_is_left_alone(town: Path) -> None:
    sql(town, "DROP TABLE layer_styles", "CREATE TABLE layer_styles (hair TEXT)",
        "INSERT INTO layer_styles VALUES ('curly')")  # fmt: skip
    _, (warning,), _ = add(town)
    assert "not one of QGIS; the new layers have no style" in warning
    assert sql(town, "SELECT * FROM layer_styles") == [["curly"]]


def test_equal_additions_to_equal_files_have_equal_bytes(town: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Path(shutil.copy(town, tmp_path / "other" / "town.gpkg"))
    add(town)
    add(other)
    assert town.read_bytes() == other.read_bytes()


# --- twice --------------------------------------------------------------------------------------------


def test_the_second_time_only_ours_are_replaced(town: Path) -> None:
    before = others(town)
    add(town)
    kept_styles, metadata = styles(town), sql(town, "SELECT count(*) FROM gpkg_metadata")
    titles = sql(town, "SELECT table_name, identifier FROM gpkg_contents ORDER BY 1")
    _, _, kept = add(town, table(clusters=2))
    assert set(kept) == {"roads", "notes"}
    assert others(town) == before
    assert styles(town) == kept_styles
    assert sql(town, "SELECT table_name, identifier FROM gpkg_contents ORDER BY 1") == titles
    assert sql(town, "SELECT count(*) FROM gpkg_metadata") == metadata
    assert set(scenes.read(town, "overview")["cluster"].dropna()) == {0, 1}


def test_a_style_that_somebody_gave_to_our_layer_stays_the_default(town: Path) -> None:
    add(town)
    sql(town, "UPDATE layer_styles SET useAsDefault = 0 WHERE f_table_name = 'overview'",
        "INSERT INTO layer_styles (f_table_name, styleName, styleQML, useAsDefault) "
        "VALUES ('overview', 'for print', '<qgis/>', 1)")  # fmt: skip
    add(town)
    found = {style: default for (name, style), default in styles(town).items() if name == "overview"}
    assert found == {"for print": True, "Clusters": False, "Classes": False}


def test_exports_with_prefixes_share_a_file(town: Path) -> None:
    add(town)
    written, _, kept = add(town, table(clusters=2), prefix="k2_")
    assert set(written) == {f"k2_{name}" for name in OURS}
    assert set(kept) == {"roads", "notes"} | OURS
    assert set(scenes.read(town, "overview")["cluster"].dropna()) == {0, 1, 2}
    assert set(scenes.read(town, "k2_overview")["cluster"].dropna()) == {0, 1}
    titles = [title for (title,) in sql(town, "SELECT identifier FROM gpkg_contents")]
    assert len(titles) == len(set(titles))  # GeoPackage wants it


@pytest.mark.parametrize("prefix", ["gpkg_", "RTREE_x", "sqlite_", "1st", "a b", 'a"; drop', "ü", "x" * 41])
def test_a_prefix_that_cannot_begin_a_name(prefix: str) -> None:
    with pytest.raises(UsageError, match="cannot begin the name of a layer"):
        additions.check_prefix(prefix)


# --- names that are taken -----------------------------------------------------------------------------


def rename_roads(path: Path, name: str) -> None:
    """Call the roads of the file `overview`, as their owner might have."""
    roads = scenes.read(path, "roads")
    path.unlink()
    pyogrio.write_dataframe(roads, path, layer=name, driver="GPKG")


def test_a_layer_of_somebody_else_is_replaced_only_when_asked(town: Path) -> None:
    rename_roads(town, "overview")
    before = town.read_bytes()
    with pytest.raises(StoreExistsError, match="has a layer overview that was not exported") as caught:
        add(town)
    assert "--prefix" in str(caught.value)
    assert caught.value.exit_code == 2
    assert town.read_bytes() == before
    add(town, prefix="ours_")
    assert list(scenes.read(town, "overview")["name"]) == [name for *_, name in ROADS]
    add(town, overwrite=True)
    assert len(scenes.read(town, "overview")) == 12


def test_a_replaced_layer_takes_its_styles_with_it(town: Path) -> None:
    rename_roads(town, "overview")
    with closing(sqlite3.connect(town)) as connection:
        connection.executescript(
            STYLES + "INSERT INTO layer_styles (f_table_name, styleName, styleQML, useAsDefault) "
            "VALUES ('overview', 'mine', '<qgis/>', 1);"
        )
    add(town, overwrite=True)
    assert {style for name, style in styles(town) if name == "overview"} == {"Clusters", "Classes"}


@pytest.mark.parametrize(
    "other",
    [{"cube_id": "sha256:5678"}, {"layers": '{"clusters/vae": {}}'}, {"layers": "no JSON"}],
    ids=["cube", "clusters", "broken"],
)
def test_ours_is_what_was_exported_from_these_clusters_of_this_cube(
    town: Path, other: dict[str, str]
) -> None:
    made = table()
    add(town, replace(made, metadata={**made.metadata, **other}))
    with pytest.raises(StoreExistsError, match="not exported from these clusters of this cube"):
        add(town)


@pytest.mark.parametrize(
    "statement",
    ["CREATE VIEW overview AS SELECT * FROM roads", "CREATE TABLE Overview (x)",
     "CREATE TABLE rtree_overview (x); CREATE TABLE OVERVIEW_PIXELS (x)"],
    ids=["view", "case", "table"],
)  # fmt: skip
def test_what_is_no_layer_is_never_replaced(town: Path, statement: str) -> None:
    for part in statement.split(";"):
        sql(town, part)
    before = town.read_bytes()
    with pytest.raises(StoreExistsError, match="which is never replaced"):
        add(town, overwrite=True)
    assert town.read_bytes() == before


def test_a_layer_that_differs_by_case_only_is_never_replaced(town: Path) -> None:
    rename_roads(town, "Overview")
    with pytest.raises(StoreExistsError, match="has a table Overview, which is never replaced"):
        add(town, overwrite=True)


# --- other programs -----------------------------------------------------------------------------------

PENDING = "insert into notes (name, text) values ('Elm Road', 'new')"


@pytest.mark.parametrize(
    ("statements", "refused"),
    [
        ("select 1", False),  # open, no lock
        ("begin; select * from gpkg_contents", False),  # a shared lock: the reader keeps the old file
        ("begin immediate", True),  # reserved: it will write
        (f"begin immediate; {PENDING}; commit; select 1", False),  # it has written, and let go
        (f"begin immediate; {PENDING}", True),  # it is writing
        (f"begin exclusive; {PENDING}", True),
        ("pragma journal_mode=wal; select * from gpkg_contents", True),  # as QGIS opens it
        (f"pragma journal_mode=wal; {PENDING}; select 1", True),  # written, but not in the file itself yet
    ],
    ids=["open", "shared", "reserved", "written", "writing", "exclusive", "wal", "wal-pending"],
)
def test_another_program_has_it_open(town: Path, statements: str, refused: bool) -> None:
    before = others(town)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, town, statements],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        if refused:
            with pytest.raises(LockedError, match="another program") as caught:
                add(town)
            assert caught.value.exit_code == 1
            assert "\n" not in str(caught.value)
        else:
            add(town)
        holder.stdin.close()
        assert holder.wait() == 0
    # What the other program committed is there; what it did not commit is not.
    committed = PENDING in statements and "begin e" not in statements and not statements.endswith(PENDING)
    assert others(town)["notes"][:2] == before["notes"]
    assert len(others(town)["notes"]) == 2 + committed
    assert {name: rows for name, rows in others(town).items() if name not in ("notes", "gpkg_contents")} == {
        name: rows for name, rows in before.items() if name not in ("notes", "gpkg_contents")
    }
    assert (names(town) >= OURS) != refused
    if refused:
        add(town)  # now that it has let go
        assert len(others(town)["notes"]) == 2 + committed


def test_a_program_that_died_while_writing_is_mended_first(town: Path) -> None:
    script = HOLDER.replace("sys.stdin.read()", "import os; os.kill(os.getpid(), 9)")
    statements = f"pragma journal_mode=wal; {PENDING}; select 1"
    subprocess.run([sys.executable, "-c", script, town, statements], check=False, capture_output=True)
    assert town.with_name("town.gpkg-wal").stat().st_size
    with pytest.raises(LockedError, match="open in another program") as caught:
        add(town)
    assert "open and close it once" in str(caught.value)
    assert len(sql(town, "SELECT * FROM notes")) == 3  # SQLite recovers it
    add(town)
    assert len(sql(town, "SELECT * FROM notes")) == 3


def test_a_file_that_keeps_a_write_ahead_log(town: Path) -> None:
    sql(town, "pragma journal_mode=wal")
    before = others(town)
    add(town)
    assert others(town) == before
    assert names(town) >= OURS
    assert [file.name for file in town.parent.iterdir()] == ["town.gpkg"]


def test_what_another_program_writes_in_the_meantime_is_not_lost(
    town: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = additions.write_layers

    def write(*arguments: Any) -> None:
        real(*arguments)
        sql(town, PENDING)

    monkeypatch.setattr(additions, "write_layers", write)
    with pytest.raises(LockedError, match="changed by another program in the meantime"):
        add(town)
    assert len(others(town)["notes"]) == 3
    assert names(town).isdisjoint(OURS)


# --- failures -----------------------------------------------------------------------------------------


def test_a_damaged_file_is_refused(town: Path) -> None:
    content = bytearray(town.read_bytes())
    content[4096:12288] = bytes(8192)  # pages 2 and 3
    town.write_bytes(content)
    with pytest.raises(InputError, match="SQLite cannot read or write it") as caught:
        add(town)
    assert caught.value.exit_code == 3
    assert town.read_bytes() == content


def test_a_failure_on_the_way_leaves_the_file_as_it_was(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = town.read_bytes()
    monkeypatch.setattr(additions, "_merge_styles", interrupt)
    with pytest.raises(KeyboardInterrupt):
        add(town)
    assert town.read_bytes() == before
    assert [file.name for file in town.parent.iterdir()] == ["town.gpkg"]


def test_rows_that_get_lost_are_noticed(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = geopackage.write_layers

    def write(made: ExportTable, layers: Any, path: Path) -> None:
        real(made, layers, path)
        sql(path, "DELETE FROM notes WHERE fid = 1")

    before = town.read_bytes()
    monkeypatch.setattr(additions, "write_layers", write)
    with pytest.raises(additions.IntegrityError, match="layer notes would have lost rows"):
        add(town)
    assert town.read_bytes() == before


# --- programs of others -------------------------------------------------------------------------------


def test_ogrinfo_reads_old_and_new_layers(town: Path, ogrinfo: str) -> None:
    add(town)
    run = subprocess.run([ogrinfo, "-ro", "-so", "-al", town], capture_output=True, text=True, check=True)
    assert "ERROR" not in run.stderr
    for name, count in (("roads", 2), ("notes", 2), *((name, 12) for name in OURS)):
        part = run.stdout.split(f"Layer name: {name}\n")[1].split("Layer name:")[0]
        assert f"Feature Count: {count}\n" in part


def test_qgis_shows_styles_and_titles_of_old_and_new_layers(town: Path, qgis_python: str) -> None:
    add(town)
    found = ask_qgis(qgis_python, town, "overview")
    assert set(found) >= {"roads", *OURS}
    assert all(layer["valid"] for layer in found.values())
    assert found["roads"]["type"] == "singleSymbol"
    assert found["roads"]["styles"][0] == 1
    assert found["roads"]["aliases"]["name"] == "Name of the road"
    for name in OURS:
        assert (found[name]["type"], found[name]["column"]) == ("categorizedSymbol", "cluster")
        assert found[name]["aliases"]["patch_id"] == "Patch number"
