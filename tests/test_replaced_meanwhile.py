"""A cube that is replaced while others write layers and models: nothing strange gets into the new one."""

import numpy as np
import pytest
from cube_scenes import tree

from geoae import encoding, fitting
from geoae.clusters import cluster
from geoae.cube import Cube
from geoae.encoding import encode
from geoae.errors import GeoaeError, LockedError
from geoae.ingestion import ingest
from geoae.layers import LayerWriter
from geoae.models import list_models
from geoae.provenance import Record
from geoae.store import ArraySpec
from geoae.verification import verify

SPECS = {"z": ArraySpec((144, 2), ("patch", "component"), "float32", 64, 16)}
OPTIONS = {"latent_dim": 2}


def replace(folder, cube):
    return ingest(folder, out=cube, patch=64, overwrite=True)


@pytest.mark.parametrize("late", [False, True], ids=["before", "during"])
def test_a_cube_is_not_replaced_while_a_layer_is_written(us3d_folder, cube_copy, monkeypatch, late):
    cube = Cube.open(cube_copy)
    before = tree(cube_copy)

    def write(writer, shard):
        writer.write(shard, {"z": np.zeros((16 if shard == 2 else 64, 2), np.float32)})

    with LayerWriter(cube, "latents/z", Record(made_by="test"), SPECS) as writer:
        write(writer, 0)
        if late:
            # A writer that comes after the ingest has begun: the first look at the lock finds nobody.
            real, looks = type(cube.location).lock, []

            def lock(place, name, **how):
                looks.append(name)
                return real(place, "nobody" if looks.count("layers") == 1 else name, **how)

            monkeypatch.setattr(type(cube.location), "lock", lock)
        with pytest.raises(LockedError, match="another run is writing 'layers'") as caught:
            replace(us3d_folder, cube_copy)
        monkeypatch.undo()
        assert caught.value.exit_code == 1
        assert before.items() <= tree(cube_copy).items()
        assert (cube_copy.parent / "us3d.zarr.work/next.zarr").exists() == late
        write(writer, 1)
        write(writer, 2)
        writer.commit({}, {})
    assert verify(cube_copy).ok
    report = replace(us3d_folder, cube_copy)
    assert report.resumed == (report.plan.n_shards if late else 0)
    assert not verify(cube_copy).findings
    assert not Cube.open(cube_copy).layers()


def test_two_writers_of_layers_do_not_disturb_each_other(cube_copy):
    cube = Cube.open(cube_copy)
    with (
        LayerWriter(cube, "latents/a", Record(made_by="test"), SPECS),
        LayerWriter(cube, "latents/b", Record(made_by="test"), SPECS),
    ):
        pass


def test_who_has_read_the_old_cube_writes_nothing_into_the_new_one(us3d_folder, cube_copy):
    cube = Cube.open(cube_copy)
    report = replace(us3d_folder, cube_copy)
    new = tree(cube_copy)
    with (
        pytest.raises(GeoaeError, match=r"us3d\.zarr was replaced while it was read .*again") as caught,
        LayerWriter(cube, "latents/z", Record(made_by="test"), SPECS),
    ):
        pass
    assert caught.value.exit_code == 1
    assert tree(cube_copy) == new
    assert Cube.open(cube_copy).cube_id == report.cube_id
    assert not verify(cube_copy).findings


def test_an_encode_during_which_the_cube_is_replaced_goes_on_undisturbed(us3d_folder, cube_copy, monkeypatch):
    real, refused = encoding.compute_shards, []

    def fill(*arguments):
        with pytest.raises(LockedError):
            replace(us3d_folder, cube_copy)
        refused.append(True)
        real(*arguments)

    monkeypatch.setattr(encoding, "compute_shards", fill)
    encode(cube_copy, plugin="pca", options=OPTIONS)
    assert refused
    assert verify(cube_copy).ok
    assert {info.path for info in Cube.open(cube_copy).layers()} == {"splits/default", "latents/pca"}


def test_a_model_of_two_cubes_is_not_kept(us3d_folder, cube_copy, monkeypatch):
    real = fitting._fit

    def fit(*arguments):
        fitted = real(*arguments)
        replace(us3d_folder, cube_copy)
        return fitted

    monkeypatch.setattr(fitting, "_fit", fit)
    with pytest.raises(GeoaeError, match="was replaced while it was read"):
        encode(cube_copy, plugin="pca", options=OPTIONS)
    monkeypatch.undo()
    assert not list_models(Cube.open(cube_copy))
    assert verify(cube_copy).ok
    encode(cube_copy, plugin="pca", options=OPTIONS)
    cluster(cube_copy, latents="pca", k=2)
    report = verify(cube_copy)
    assert report.ok
    assert {finding.kind for finding in report.findings} <= {"unfinished"}  # what the first fit had begun
