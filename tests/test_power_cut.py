"""Power cuts: what was committed is on the disk, and what is on the disk is whole or goes on."""

import pytest
from cube_scenes import tree
from power_cut import Disk, cut_at_every_rename

from geoae.clusters import cluster
from geoae.cube import Cube
from geoae.encoding import encode
from geoae.errors import IncompleteError, NotACubeError
from geoae.ingestion import ingest
from geoae.location import Location
from geoae.verification import verify


def is_root(path, target):
    """Whether a rename publishes a group, or puts a folder in its place."""
    return target.name == "zarr.json" or path.is_dir()


def results(folder):
    """Digests of all but journals, and what was removed and may come back: nobody looks at it."""
    aside = ("us3d.zarr.work/", "us3d.zarr.models/.")
    return {name: digest for name, digest in tree(folder).items() if not name.startswith(aside)}


@pytest.fixture
def images(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


@pytest.fixture
def watched(images, monkeypatch):
    """Watch a folder; ends with the disk's last images."""
    disks = []

    def watch(folder, chosen=is_root):
        disk, taken = cut_at_every_rename(monkeypatch, folder, chosen, images)
        disks.append(disk)
        return disk, taken

    yield watch
    for disk in disks:
        disk.close()


def last(disk, images):
    """The two images of the end, when the command has said that it is done."""
    return [disk.image(images / f"last-{names}", names=names) for names in (False, True)]


def test_the_disk_keeps_what_is_flushed(tmp_path, images):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/old").write_text("old")
    disk = Disk(tmp_path / "disk")
    place = Location.of(tmp_path / "disk")
    (tmp_path / "disk/new").write_text("new")
    (tmp_path / "disk/old").write_text("changed")
    gone, empty = last(disk, images)
    assert {path.name: path.read_text() for path in gone.iterdir()} == {"old": "old"}
    assert {path.name: path.read_text() for path in empty.iterdir()} == {"old": "old", "new": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", disk.flushed)
        place.put("a/b", b"1", durable=False)
        place.put("c", b"2")
        assert "a" in {path.name for path in disk.image(images / "more-1", names=False).iterdir()}
        assert not list((images / "more-1/a").iterdir())
        (place / "a").flush()
        assert (disk.image(images / "more-2", names=False) / "a/b").read_bytes() == b"1"
    disk.close()


def test_an_ingest_is_on_the_disk_before_it_can_be_seen(us3d_folder, us3d_cube, tmp_path, images, watched):
    here = tmp_path / "here"
    here.mkdir()
    disk, taken = watched(here)
    ingest(us3d_folder, out=here / "us3d.zarr", patch=32, workers=1)
    assert [name for name, _ in taken][-1] == "us3d.zarr/zarr.json"
    for name, image in taken:
        try:
            cube = Cube.open(image / "us3d.zarr")
        except (IncompleteError, NotACubeError):
            assert name != "us3d.zarr/zarr.json" or not (image / "us3d.zarr/zarr.json").exists()
            continue
        assert not verify(cube).findings, name
    for image in last(disk, images):
        assert tree(image / "us3d.zarr") == tree(us3d_cube)


def test_an_ingest_goes_on_after_a_power_cut(us3d_folder, us3d_cube, tmp_path, watched, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    _, taken = watched(here, lambda _, target: target.name == "000001.json")
    ingest(us3d_folder, out=here / "us3d.zarr", patch=32, workers=1)
    monkeypatch.undo()
    assert len(taken) == 2
    for _, image in taken:
        ingest(us3d_folder, out=image / "us3d.zarr", patch=32, workers=1)
        assert tree(image / "us3d.zarr") == tree(us3d_cube)


def test_a_replaced_cube_is_the_old_one_or_the_new_one(us3d_folder, cube_copy, images, watched):
    old = Cube.open(cube_copy).cube_id
    disk, taken = watched(cube_copy.parent)
    report = ingest(us3d_folder, out=cube_copy, patch=64, overwrite=True)
    seen = set()
    for name, image in taken:
        cube = Cube.open(image / "us3d.zarr")
        assert verify(cube).ok, name
        seen.add(cube.cube_id)
    assert seen == {old, report.cube_id}
    for image in last(disk, images):
        assert tree(image / "us3d.zarr") == tree(cube_copy)


@pytest.mark.parametrize("again", [False, True], ids=["new", "overwrite"])
def test_layers_and_models_are_on_the_disk_before_they_can_be_seen(cube_copy, images, watched, again):
    if again:
        encode(cube_copy, plugin="pca", options={"latent_dim": 3})
        cluster(cube_copy, latents="pca", k=2)
    before = tree(cube_copy)
    disk, taken = watched(cube_copy.parent)
    encode(cube_copy, plugin="pca", options={"latent_dim": 4}, overwrite=again)
    cluster(cube_copy, latents="pca", k=3, overwrite=again)
    assert any(name.endswith("latents/pca/zarr.json") or name.endswith("latents/pca") for name, _ in taken)
    for name, image in taken:
        report = verify(image / "us3d.zarr")
        assert report.ok, f"{name}: {report.findings}"
        now = tree(image / "us3d.zarr")
        assert {n: now.get(n) for n in before if n.startswith("rgb/")} == {
            n: d for n, d in before.items() if n.startswith("rgb/")
        }
    for image in last(disk, images):
        assert results(image) == results(cube_copy.parent)
