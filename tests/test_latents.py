"""Shards of latents: computed by threads where an encoder allows it, with the same numbers."""

import threading

import fake_encoders
import numpy as np
import pytest
from fake_encoders import lay

from geoae import latents
from geoae.cube import Cube
from geoae.encoding import encode
from geoae.errors import PluginError
from geoae.fitting import fit
from geoae.latents import shard_rows

CHUNK = 16


@pytest.fixture
def fakes(tmp_path_factory, monkeypatch):
    """Install the encoders of `fake_encoders`; a thread takes one chunk at a time."""
    monkeypatch.syspath_prepend(lay(tmp_path_factory.mktemp("site")))
    monkeypatch.setattr(latents, "_BATCH_BYTES", 1)
    for kind in (fake_encoders.Threaded, fake_encoders.OneAtATime, fake_encoders.RaisesInAThread):
        monkeypatch.setattr(kind, "most", 0)
        monkeypatch.setattr(kind, "seen", [])


@pytest.fixture
def cube(cube_copy):
    return Cube.open(cube_copy)


def layer_bytes(cube, name):
    layer = cube.layer(f"latents/{name}")
    return {variable: layer[variable].to_numpy().tobytes() for variable in layer.data_vars}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_numbers_do_not_depend_on_the_number_of_threads(cube, fakes, monkeypatch, count):
    fit(cube, plugin="threaded")
    fit(cube, plugin="oneatatime")
    encode(cube, model="oneatatime")
    monkeypatch.setattr(latents, "threads", lambda: count)
    encode(cube, model="threaded")
    assert fake_encoders.Threaded.most == count
    assert layer_bytes(cube, "threaded") == layer_bytes(cube, "oneatatime")


def test_an_encoder_that_does_not_allow_it_is_called_once_at_a_time(cube, fakes, monkeypatch):
    monkeypatch.setattr(latents, "threads", lambda: 4)
    encode(cube, plugin="oneatatime")
    assert fake_encoders.OneAtATime.most == 1


def test_threads_take_whole_chunks(cube, fakes):
    encode(cube, plugin="threaded", input="agl", min_valid=0.97)
    first, *parts = fake_encoders.Threaded.seen  # what an encoder returns is seen on two patches first
    assert len(first) == 2
    assert all(len(set(part // CHUNK)) == 1 for part in parts)
    usable = np.flatnonzero(np.isfinite(cube.array("agl")[...]).mean(axis=(1, 2)) >= 0.97)
    assert 0 < len(usable) < cube.n_patches
    assert np.array_equal(np.sort(np.concatenate(parts)), usable)


def test_an_error_in_a_thread_is_one_line_and_ends_all_threads(cube, fakes):
    before = threading.active_count()
    with pytest.raises(PluginError, match="failed in transform: RuntimeError: patch beyond 100") as error:
        encode(cube, plugin="raisesinathread")
    assert "\n" not in error.value.message
    assert threading.active_count() == before


def test_an_interruption_ends_all_threads_before_the_last_patches(cube, fakes, monkeypatch):
    monkeypatch.setattr(latents, "threads", lambda: 2)
    fit(cube, plugin="threaded")
    before = threading.active_count()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(latents.LayerWriter, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        encode(cube, model="threaded", overwrite=True)
    assert threading.active_count() == before
    assert "latents/threaded" not in {info.path for info in cube.layers()}


def test_few_parts_are_ahead_of_their_use():
    parts = [np.array([number]) for number in range(50)]
    begun = []

    def work(rows):
        begun.append(rows)
        return {"z": rows}

    results = latents._by_threads(work, parts)
    index, values = next(results)
    assert np.array_equal(index, parts[0])
    assert np.array_equal(values["z"], parts[0])
    assert len(begun) <= 2 * latents.threads() + 1
    assert [int(index[0]) for index, _ in results] == list(range(1, 50))


def test_a_shard_is_whole_shards_of_the_cube(cube):
    length = cube.shard_length
    assert shard_rows(cube, 10**9) == length
    assert shard_rows(cube, 1) == 4096 // length * length
    assert shard_rows(cube, 1024) == 1024 // length * length
