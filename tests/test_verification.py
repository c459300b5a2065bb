"""Verification: no flipped bit, missing, exchanged or foreign file escapes it; it says what mends them."""

import random
import re
import shutil

import numpy as np
import pytest
import zarr
from cube_scenes import catalog_of, tree
from small_cubes import small_cube

from geoae.clusters import cluster
from geoae.cube import Cube
from geoae.encoding import encode
from geoae.errors import GeoaeError, IncompleteError, IntegrityError, NotACubeError
from geoae.layers import LayerWriter, remove_layer
from geoae.models import models_folder
from geoae.projections import project
from geoae.provenance import Record
from geoae.splits import split
from geoae.store import ArraySpec
from geoae.summaries import summarize
from geoae.verification import verify


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cube with every kind of layer and a model; never change it."""
    cube = small_cube(
        tmp_path_factory.mktemp("verify"), side=24, catalog=catalog_of(modalities={"msi": None})
    )
    split(cube)
    encode(cube, plugin="pca", options={"latent_dim": 3})
    summarize(cube)
    cluster(cube, latents="pca", k=3)
    project(cube, latents="pca")
    return cube


@pytest.fixture
def cube(whole, tmp_path):
    for path in whole.location.path.parent.glob("c.zarr*"):
        shutil.copytree(path, tmp_path / path.name)
    return tmp_path / "c.zarr"


def faults(path):
    """What verify finds, an error counting as a finding; each names a command or what to do."""
    try:
        report = verify(path)
    except IntegrityError as error:
        return [error.message] if error.hint else pytest.fail(f"no hint: {error}")
    assert all(f.hint for f in report.findings)
    assert report.ok == (not any(f.failure for f in report.findings))
    return [f"{f.kind}: {f.what}" for f in report.findings if f.failure]


def test_a_whole_cube_is_as_written(whole):
    stages = []
    report = verify(whole, progress=lambda *stage: stages.append(stage))
    assert report.ok
    assert report.findings == ()
    files = tree(whole.location.path)
    assert report.files == len(files)
    assert report.n_bytes == sum(p.stat().st_size for p in whole.location.path.rglob("*") if p.is_file())
    assert report.models == 1
    assert stages[-1] == ("verify", report.arrays, report.arrays)


def test_the_number_of_threads_does_not_matter(whole):
    assert verify(whole, workers=1) == verify(whole, workers=4)


def test_verification_changes_nothing(cube):
    (cube / "clusters/zarr.json").unlink()
    before = tree(cube.parent)
    verify(cube)
    assert tree(cube.parent) == before


def flip(file, rng):
    content = bytearray(file.read_bytes())
    position, bit = rng.randrange(len(content)), rng.randrange(8)
    content[position] ^= 1 << bit
    file.write_bytes(content)
    return f"bit {bit} of byte {position} of {file.name}"


def cut(file, rng):
    content = file.read_bytes()
    length = rng.randrange(len(content))
    file.write_bytes(content[:length])
    return f"{file.name} was cut from {len(content)} to {length} bytes"


def delete(file, rng):
    file.unlink()
    return f"{file.name} was deleted"


def files_of(cube):
    """Every file of the store and of its models."""
    folders = (cube, cube.with_name("c.zarr.models"))
    files = sorted(p for folder in folders for p in folder.rglob("*") if p.is_file())
    assert {p.name for p in files} >= {"zarr.json", "0", "model.json", "manifest.json"}
    return files


def test_no_flipped_bit_escapes(cube):
    """One in each file, the least as likely as the largest."""
    rng = random.Random(11)
    for file in files_of(cube):
        content = file.read_bytes()
        where = flip(file, rng)
        assert faults(cube), f"{where} in {file.parent}"
        file.write_bytes(content)
    assert not faults(cube)


@pytest.mark.parametrize("harm", [cut, delete])
def test_no_file_that_was_cut_or_deleted_escapes(cube, harm):
    """Half of the files each; a cube without its root is one whose ingest was not finished."""
    rng = random.Random(harm.__name__)
    files = files_of(cube)
    named = [cube / "zarr.json", cube.with_name("c.zarr.models") / "pca/model.json"]
    for file in dict.fromkeys([*files[harm is cut :: 2], *named]):
        content = file.read_bytes()
        where = harm(file, rng)
        assert faults(cube), f"{where} in {file.parent}"
        file.write_bytes(content)
    assert not faults(cube)


@pytest.mark.parametrize("harm", [flip, cut])
def test_a_changed_journal_is_a_remark_and_repair_does_without_it(cube, harm):
    """The cube is whole; what would be believed in a repair is not what the ingest noted."""
    rng = random.Random(3)
    work = cube.with_name("c.zarr.work") / "ingest"
    files = [p for p in work.rglob("*") if p.is_file()]
    assert {p.name for p in files} >= {"plan.json", "000000.json"}
    for file in files:
        content = file.read_bytes()
        for _ in range(4):
            where = harm(file, rng)
            report = verify(cube)
            (finding,) = report.findings
            assert (finding.kind, finding.failure, report.ok) == ("journal", False, True), where
            assert file.name in finding.what
            assert str(work) in finding.hint
            file.write_bytes(content)
    (work / "journal/000099.json").write_text("{}")
    assert [finding.kind for finding in verify(cube).findings] == ["journal"]
    shutil.rmtree(work)
    assert not verify(cube).findings


def test_every_finding_says_what_to_run(cube):
    """A command of geoae, or what to do by hand where no command would do it."""
    (cube / "rgb/c/0/0/0/0").unlink()
    (cube / "latents/pca/z/c/0/0").write_bytes(b"rot")
    (cube / "clusters/zarr.json").write_text("{")
    (cube / "hello.txt").write_text("hello")
    (cube.with_name("c.zarr.models") / "pca/manifest.json").write_text("{}")
    split(cube, name="default", seed=3, overwrite=True)
    hints = {}
    for finding in verify(cube).findings:
        hints.setdefault(finding.kind, set()).add(finding.hint)
    assert set(hints) >= {"damaged", "foreign"}
    assert hints["foreign"] == {"move it out of the store"}
    for hint in hints["damaged"]:
        assert re.search(r"geoae (repair|ingest|rm)|fit it again with --overwrite", hint), hint


@pytest.mark.parametrize(
    "name", ["zarr.json", "latents/zarr.json", "clusters/pca/zarr.json", "rgb/zarr.json"]
)
def test_no_flipped_bit_of_metadata_escapes(cube, name):
    """The signed documents, whose meaning any one bit may change."""
    rng = random.Random(name)
    content = (cube / name).read_bytes()
    for _ in range(25):
        where = flip(cube / name, rng)
        assert faults(cube), where
        (cube / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rgb/c/0/0/0/0", "damaged"),
        ("rgb_valid/c/0/0/0", "damaged"),
        ("city/c/0", "damaged"),
        ("latents/pca/z/c/0/0", "damaged"),
        ("rgb/zarr.json", "damaged"),
        ("latents/pca/z/zarr.json", "damaged"),
        ("latents/pca/zarr.json", "damaged"),
        ("clusters/zarr.json", "damaged"),
    ],
)
@pytest.mark.parametrize("how", ["deleted", "truncated", "emptied", "lengthened"])
def test_a_file_that_is_not_whole(cube, name, kind, how):
    content = (cube / name).read_bytes()
    match how:
        case "deleted":
            (cube / name).unlink()
        case "truncated":
            (cube / name).write_bytes(content[: len(content) // 2])
        case "emptied":
            (cube / name).write_bytes(b"")
        case "lengthened":
            (cube / name).write_bytes(content + b"\n")
    found = faults(cube)
    assert found
    assert any(name.split("/")[0] in line for line in found)


def test_a_root_that_is_gone_or_broken(cube):
    content = (cube / "zarr.json").read_bytes()
    (cube / "zarr.json").unlink()
    with pytest.raises(IncompleteError):
        verify(cube)
    for broken in (b"", b"{", b"[]", content[:-3], b'{"zarr_format": 3, "node_type": "array"}'):
        (cube / "zarr.json").write_bytes(broken)
        with pytest.raises(IntegrityError):
            verify(cube)


def test_a_root_that_no_longer_looks_like_a_cube_is_damaged_not_foreign(cube, tmp_path):
    content = (cube / "zarr.json").read_bytes()
    for old, new in ((b'"geoae_format"', b'"geoae_formau"'), (b'"geoae_format": 1', b'"geoae_format": 5')):
        (cube / "zarr.json").write_bytes(content.replace(old, new))
        with pytest.raises(IntegrityError, match=r"zarr.json was changed"):
            verify(cube)
    zarr.create_group(tmp_path / "foreign.zarr")
    with pytest.raises(NotACubeError):
        verify(tmp_path / "foreign.zarr")
    with pytest.raises(NotACubeError):
        verify(tmp_path / "nothing.zarr")


def test_shards_that_were_exchanged(cube):
    """Each decodes, each has the right length and shape; only the digest tells."""
    one, other = (cube / "summaries/three" / name / "c/0" for name in ("purity", "labelled_fraction"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert len(faults(cube)) == 2


def test_shards_of_one_array_that_were_exchanged(tmp_path):
    cube = small_cube(tmp_path, side=72, scenes=2, catalog=catalog_of(modalities={"msi": None}))
    shards = sorted(p for p in (cube.location.path / "rgb/c").rglob("0") if p.is_file())
    assert len(shards) >= 2
    content = shards[0].read_bytes()
    shards[0].write_bytes(shards[1].read_bytes())
    shards[1].write_bytes(content)
    assert faults(cube.path) == ["damaged: rgb is not what was written"]


@pytest.mark.parametrize(
    "name",
    [
        "readme.txt",
        "rgb/c/9/0/0/0",
        "latents/pca/z/notes",
        "latents/old/zarr.json",
        "elsewhere/zarr.json",
        ".hidden",
    ],
)
def test_a_foreign_file(cube, name):
    (cube / name).parent.mkdir(parents=True, exist_ok=True)
    (cube / name).write_text("{}")
    assert faults(cube), name


def test_attributes_that_were_edited(cube):
    """Zarr writes them well-formed; they are not what was signed."""
    for path, name in (("", "title"), ("latents/pca", "metrics")):
        document = (cube / path / "zarr.json").read_bytes()
        zarr.open_group(cube / path, mode="r+").attrs[name] = "something else"
        assert any("attributes of" in line for line in faults(cube))
        (cube / path / "zarr.json").write_bytes(document)


def test_a_layer_that_was_moved_by_hand(cube):
    (cube / "latents/pca").rename(cube / "latents/vae")
    assert any("consolidated metadata" in line for line in faults(cube))


def test_a_damaged_layer_can_be_removed_and_the_rest_is_whole(cube):
    (cube / "clusters/pca/zarr.json").write_text("{")
    with pytest.raises(IntegrityError):
        Cube.open(cube).layers()
    remove_layer(Cube.open(cube), "clusters/pca")
    assert not faults(cube)
    assert "clusters/pca" not in [info.path for info in Cube.open(cube).layers()]


def test_a_damaged_layer_can_be_made_again(cube):
    (cube / "latents/pca/z/c/0/0").write_bytes(b"rot")
    assert faults(cube)
    encode(cube, plugin="pca", options={"latent_dim": 3}, overwrite=True)
    assert not faults(cube)


def test_stale_layers_are_remarks(cube):
    split(cube, seed=1, overwrite=True)
    report = verify(cube)
    assert report.ok
    stale = {f.what: f.hint for f in report.findings if f.kind == "stale"}
    assert "latents/pca was made from another splits/default" in stale
    assert "clusters/pca was made from another latents/pca" in stale
    assert "`geoae cluster`" in stale["clusters/pca was made from another latents/pca"]


def test_what_was_begun_is_a_remark(cube):
    specs = {"z": ArraySpec((54, 2), ("patch", "component"), "float32", 64, 16)}
    with LayerWriter(Cube.open(cube), "latents/new", Record(made_by="encode"), specs) as writer:
        writer.write(0, {"z": np.zeros((54, 2), np.float32)})
    (models_folder(Cube.open(cube)) / ".vae.checkpoints").mkdir()
    report = verify(cube)
    assert report.ok
    assert [f.what for f in report.findings] == [
        "latents/new was begun and not finished",
        "model vae was begun and not finished",
    ]


@pytest.mark.parametrize("name", ["model.json", "manifest.json", "weights/components.safetensors"])
def test_a_model_that_was_changed_is_damage(cube, name):
    file = cube.with_name("c.zarr.models") / "pca" / name
    for content in (b"", b"[]", b"x" + file.read_bytes(), file.read_bytes()[:-2]):
        file.write_bytes(content)
        assert any("model pca" in line for line in faults(cube)), content
    file.unlink()
    assert any("pca" in line for line in faults(cube))


def test_errors_are_of_one_family(cube):
    shutil.rmtree(cube / "rgb")
    with pytest.raises(GeoaeError):
        encode(cube, plugin="pca", name="other")
    assert any("rgb" in line for line in faults(cube))
