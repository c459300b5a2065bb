"""Commits: layers that appear, are replaced and vanish at once, though the process dies at any step."""

import itertools
import json
import threading

import numpy as np
import pytest
import xarray as xr
from cube_scenes import tree

from geoae.commits import consolidate_root, finish_swaps, publish, swap, withdraw
from geoae.errors import IntegrityError
from geoae.location import Location, work_folder
from geoae.store import (
    METADATA,
    ArraySpec,
    array_digest,
    consolidated,
    group_document,
    read_group,
    write_array,
)


@pytest.fixture
def place(tmp_path):
    return Location.of(tmp_path / "cube.zarr")


def small_cube(place):
    """A root with one array."""
    write_array(
        place / "msi", ArraySpec((22, 3), ("patch", "msi_band"), "uint16"), np.ones((22, 3), np.uint16)
    )
    digests = {"msi": array_digest(place / "msi")[0]}
    place.put(METADATA, group_document({"geoae_arrays": digests}, consolidated(place, ["msi"])))


def layer_in(place, path, value, cube_relative=None):
    """Write a layer's array somewhere and return the document that publishes it."""
    target = place / (cube_relative or path)
    spec = ArraySpec((22,), ("patch",), "int32")
    write_array(target / "cluster", spec, np.full(22, value, np.int32))
    digests = {"cluster": array_digest(target / "cluster")[0]}
    return group_document({"geoae_arrays": digests, "made": path}, consolidated(target, ["cluster"]))


def groups_of(place):
    """Groups that a plain reader finds from the root's consolidated metadata."""
    with xr.open_datatree(place.root, engine="zarr") as opened:
        return {g for g in opened.groups if opened[g].data_vars}


def test_layers_appear_in_the_root_only_when_they_are_published(place):
    small_cube(place)
    document = layer_in(place, "clusters/a", 1)
    layer_in(place, "clusters/b", 2)
    assert groups_of(place) == {"/"}
    publish(place, place / "clusters/a", document)
    assert groups_of(place) == {"/", "/clusters/a"}
    with pytest.raises((FileNotFoundError, KeyError)):
        xr.open_zarr(place.root, group="clusters/b")
    assert (xr.open_zarr(place.root, group="clusters/a").cluster == 1).all()
    withdraw(place, place / "clusters/a")
    assert groups_of(place) == {"/"}


def test_a_note_that_was_being_written_when_its_run_was_killed_is_swept(place):
    small_cube(place)
    work = work_folder(place)
    work.put(".partial-0123", b"half a note")
    publish(place, place / "clusters/a", layer_in(place, "clusters/a", 1))
    assert ".partial-0123" not in work.names() or not place.is_local


def test_the_root_does_not_depend_on_the_order_of_commits(tmp_path):
    trees = []
    paths = ("clusters/a", "latents/a", "clusters/b")
    for number, order in enumerate(itertools.permutations(paths)):
        place = Location.of(tmp_path / str(number) / "cube.zarr")
        small_cube(place)
        for path in order:
            publish(place, place / path, layer_in(place, path, paths.index(path)))
        trees.append(tree(tmp_path / str(number) / "cube.zarr"))
    assert all(t == trees[0] for t in trees)


def test_a_changed_root_is_not_signed_again(place):
    small_cube(place)
    document = json.loads(place.get(METADATA))
    document["attributes"]["title"] = "changed"
    place.put_json(METADATA, document)
    with pytest.raises(IntegrityError, match=r"attributes of .* were changed"):
        consolidate_root(place)


# --- swaps ----------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a process that ends here."""


def killed_at(monkeypatch, number):
    """Let the process die just before the n-th change of a swap."""
    count = itertools.count()

    def counted(original):
        def call(self, *arguments, **options):
            if next(count) == number:
                raise Killed
            return original(self, *arguments, **options)

        return call

    for name in ("move_to", "put", "remove_file", "remove"):
        monkeypatch.setattr(Location, name, counted(getattr(Location, name)))


def test_a_swap_that_dies_anywhere_is_ended_by_the_next_reader(tmp_path, monkeypatch):
    deaths = 0
    for step in range(20):
        place = Location.of(tmp_path / str(step) / "cube.zarr")
        small_cube(place)
        publish(place, place / "clusters/a", layer_in(place, "clusters/a", 1))
        work = work_folder(place)
        (work / "next").put(METADATA, layer_in(work, "clusters/a", 2, "next"))
        with monkeypatch.context() as patched:
            killed_at(patched, step)
            try:
                swap(place, [(f"{work.name}/next", "cube.zarr/clusters/a")])
            except Killed:
                deaths += 1
                ended = False
            else:
                ended = True
        finish_swaps(place)
        assert groups_of(place) == {"/", "/clusters/a"}
        value = int(xr.open_zarr(place.root, group="clusters/a").cluster[0])
        assert value == 2 or (value == 1 and (work / "next").exists(METADATA))
        assert not work.exists("swap.json")
        root = json.loads(place.get(METADATA))["consolidated_metadata"]["metadata"]
        inside = json.loads((place / "clusters/a").get(METADATA))
        assert root["clusters/a"]["attributes"] == inside["attributes"]
        if ended:
            assert value == 2
            assert not (work / "next").exists()
            break
    assert deaths >= 5


def test_a_publication_that_dies_anywhere_is_ended_or_undone(tmp_path, monkeypatch):
    states = set()
    for step in range(20):
        place = Location.of(tmp_path / str(step) / "cube.zarr")
        small_cube(place)
        document = layer_in(place, "clusters/a", 1)
        with monkeypatch.context() as patched:
            killed_at(patched, step)
            try:
                publish(place, place / "clusters/a", document)
                ended = True
            except Killed:
                ended = False
        finish_swaps(place)
        visible = read_group(place / "clusters/a") is not None
        assert groups_of(place) == ({"/", "/clusters/a"} if visible else {"/"})
        states.add(visible)
        if ended:
            break
    assert ended
    assert states == {True, False}


def test_a_withdrawal_that_dies_anywhere_leaves_no_name_without_data(tmp_path, monkeypatch):
    for step in range(20):
        place = Location.of(tmp_path / str(step) / "cube.zarr")
        small_cube(place)
        publish(place, place / "clusters/a", layer_in(place, "clusters/a", 1))
        with monkeypatch.context() as patched:
            killed_at(patched, step)
            try:
                withdraw(place, place / "clusters/a")
                ended = True
            except Killed:
                ended = False
        finish_swaps(place)
        visible = read_group(place / "clusters/a") is not None
        assert groups_of(place) == ({"/", "/clusters/a"} if visible else {"/"})
        if ended:
            assert not visible
            break
    assert ended


def test_a_reader_waits_for_a_swap_that_is_under_way(place):
    small_cube(place)
    work = work_folder(place)
    work.put_json("swap.json", [])
    passed = threading.Event()
    reader = threading.Thread(target=lambda: (finish_swaps(place), passed.set()))
    with work.lock("commit"):
        reader.start()
        assert not passed.wait(0.2)
        assert work.exists("swap.json")
    reader.join()
    assert not work.exists("swap.json")
