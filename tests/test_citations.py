"""Whom to cite: the catalog's words, geoae's own file, the encoders with their versions."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pyarrow.parquet as pq
import pytest
import yaml

from geoae.catalog import load_catalog
from geoae.citations import Citation, DataSource, Software, cite
from geoae.clusters import cluster
from geoae.cube import Cube
from geoae.encoding import encode
from geoae.exports import export_geopackage, export_geoparquet
from geoae.layers import write_layer
from geoae.provenance import Record


def test_geoae_is_cited_as_its_file_says(repository: Path) -> None:
    said = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    own = cite().document()["software"]
    assert own == {
        "name": "geoae",
        "version": said["version"],
        "title": said["title"],
        "author": said["authors"][0]["name"],
        "licence": said["license"],
    }
    assert cite().data is None


def test_the_data_set_is_cited_as_the_catalog_in_the_cube_says(us3d_cube: Path) -> None:
    catalog = load_catalog("us3d")
    found = cite(us3d_cube)
    assert found.data == DataSource("us3d", catalog.title, catalog.citation, catalog.licence)
    assert found.cube_id == Cube.open(us3d_cube).cube_id
    assert found.encoders == ()
    assert "10.1109/WACV.2019.00167" in found.text()


def test_encoders_are_named_with_the_versions_that_made_the_layers(cube_copy: Path) -> None:
    for name, plugin in (("a", "pca"), ("b", "random-projection"), ("c", "pca")):
        encode(cube_copy, plugin=plugin, name=name, options={"latent_dim": 2})
    cube = Cube.open(cube_copy)
    record = Record(made_by="encode", options={"plugin": "foo"}, inputs={"cube": cube.cube_id},
                    software={"geoae-foo": "1.2"})  # fmt: skip
    write_layer(cube, "latents/d", cube.layer("latents/a")[["z"]].load(), record)
    record = Record(made_by="attach", options={"origin": "Clay 1.5"}, inputs={"cube": cube.cube_id})
    write_layer(cube, "latents/e", cube.layer("latents/a")[["z"]].load(), record)
    found = cite(cube)
    own = found.geoae.version
    assert found.encoders == (
        Software("Clay 1.5", "", "attached", ("latents/e",)),
        Software("geoae-foo", "1.2", "foo", ("latents/d",)),
        Software("geoae", own, "pca", ("latents/a", "latents/c")),
        Software("geoae", own, "random-projection", ("latents/b",)),
    )
    assert "title = {Clay 1.5}" in found.bibtex()
    assert f"encoder   pca (geoae {own}), for latents/a, latents/c" in found.text().splitlines()


def test_bibtex_is_whole_and_escaped() -> None:
    data = DataSource("my data", "R&D of 5 % {x}_1", "A. Author: Work_1. 2020, doi:10.1/a_b.", "CC BY 4.0")
    made = Citation(Software("geoae", "9"), data, "sha256:1", (Software("geoae-foo", "1.2", "foo", ("l",)),))
    text = made.bibtex()
    assert re.findall(r"^@(\w+)\{([^,]+),$", text, re.MULTILINE) == [
        ("misc", "my-data"), ("software", "geoae"), ("software", "geoae-foo-foo"),
    ]  # fmt: skip
    assert r"title = {R\&D of 5 \% \{x\}\_1}" in text
    assert r"note = {A. Author: Work\_1. 2020, doi:10.1/a\_b. Licence: CC BY 4.0}" in text
    assert r"doi = {10.1/a\_b}" in text
    plain = re.sub(r"\\.", "", text)
    assert plain.count("{") == plain.count("}")


@pytest.mark.parametrize("several", [True, False])
def test_a_doi_is_given_only_if_there_is_one(several: bool) -> None:
    citation = "One. doi:10.1/a." + (" Two. doi:10.1/b." if several else "")
    text = Citation(Software("geoae", "9"), DataSource("x", "X", citation, "")).bibtex()
    assert ("doi = {10.1/a}" in text) != several


def test_a_catalog_that_says_nothing() -> None:
    text = Citation(Software("geoae", "9"), DataSource("x", "", "", ""), "sha256:1").text()
    assert "data      x\n" in text
    assert "its catalog does not say which" in text


# --- in the exports -----------------------------------------------------------------------------------


def wanted(cube: Path) -> dict[str, str]:
    catalog = Cube.open(cube).catalog
    own = cite().geoae.version
    one_line = " ".join(catalog.citation.split()).rstrip(".")
    return {
        "citation": catalog.citation,
        "licence": catalog.licence,
        "attribution": f"Data: {catalog.title}. {one_line}. Licence: {catalog.licence.rstrip('.')}. "
        f"Made with geoae {own}, encoder pca (geoae {own})",
    }


@pytest.fixture
def encoded(cube_copy: Path) -> Path:
    encode(cube_copy, plugin="pca", options={"latent_dim": 2})
    cluster(cube_copy, latents="pca", k=2)
    return cube_copy


def test_a_geopackage_carries_them_in_its_table_of_metadata(encoded: Path, tmp_path: Path) -> None:
    export_geopackage(encoded, tmp_path / "x.gpkg")
    script = (
        "import json, sqlite3, sys\n"
        "rows = sqlite3.connect(sys.argv[1]).execute('SELECT table_name, metadata FROM gpkg_metadata '\n"
        "    'JOIN gpkg_metadata_reference ON md_file_id = gpkg_metadata.id').fetchall()\n"
        "print(json.dumps(rows))\n"
    )
    command = [sys.executable, "-c", script, tmp_path / "x.gpkg"]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert {name for name, _ in rows} == {"overview_pixels", "clusters_pixels"}
    for _, text in rows:
        found = {item.get("key"): item.text for item in ET.fromstring(text).iter("MDI")}
        for key, value in wanted(encoded).items():
            assert " ".join((found[key] or "").split()) == " ".join(value.split())


def test_ogrinfo_says_them(encoded: Path, tmp_path: Path, ogrinfo: str) -> None:
    export_geopackage(encoded, tmp_path / "x.gpkg")
    command = [ogrinfo, "-ro", "-so", tmp_path / "x.gpkg", "clusters_pixels"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    for key, value in wanted(encoded).items():
        assert f"  {key}={value}" in run.stdout


def test_a_geoparquet_carries_them_in_its_schema(encoded: Path, tmp_path: Path) -> None:
    export_geoparquet(encoded, tmp_path / "x.parquet")
    found = pq.read_schema(tmp_path / "x.parquet").metadata
    for key, value in wanted(encoded).items():
        assert found[key.encode()].decode() == value
