"""Sections of a cube against its batches: the same patches, in one thread, in memory that is used again."""

import threading

import numpy as np
import pytest
from cube_scenes import SMALL, scene_pixels, write_scene

from geoae.batches import CubePatches, parse_input
from geoae.cube import Cube
from geoae.encoder import SectionedSource
from geoae.ingestion import ingest
from geoae.normalisation import Normalisation


@pytest.fixture(scope="module")
def cube(tmp_path_factory):
    """Five scenes of 36 patches, some of them void, in chunks of 16."""
    root = tmp_path_factory.mktemp("sections")
    for number in range(5):
        pixels = dict(scene_pixels((48, 48), number, kinds=("MSI", "RGB", "AGL")))
        pixels["RGB"][:, 8:12, :8] = 0  # half a patch
        pixels["MSI"][:, :8, :24] = 0  # three patches
        pixels["AGL"][40:48, 40:44] = np.nan
        write_scene(root / "s", f"JAX_{number:03d}_001", pixels)
    ingest(root / "s", catalog=SMALL, out=root / "c.zarr", patch=8)
    return Cube.open(root / "c.zarr")


def source(cube, text, target=None, **options):
    channels = parse_input(cube, text)
    scale = Normalisation(
        kind="standard",
        offset=tuple(10.0 + i for i in range(len(channels))),
        scale=tuple(3.0 + i for i in range(len(channels))),
    )
    other = None if target is None else parse_input(cube, target)
    return CubePatches(cube, channels, scale, target_channels=other, **options)


def content(batches):
    """Everything of some batches, row by row, copied before the next batch is asked for."""
    rows = {}
    for batch in batches:
        arrays = [batch.image, batch.valid, batch.target, batch.target_valid]
        for place, row in enumerate(batch.index.tolist()):
            assert row not in rows
            rows[row] = [None if array is None else array[place].tobytes() for array in arrays]
    return rows


@pytest.mark.parametrize(
    ("text", "target"),
    [("rgb", None), ("agl", None), ("msi.nir,agl,rgb.red,msi.red", None), ("msi", "agl,rgb")],
)
@pytest.mark.parametrize(("length", "size"), [(1, 7), (40, 16), (64, 1000), (1000, 1)])
def test_sections_have_the_patches_of_the_batches_in_their_order(cube, text, target, length, size):
    patches = source(cube, text, target)
    sections = patches.sections(length)
    assert isinstance(patches, SectionedSource)
    found = {}
    for section in sections:
        assert (section.channels, section.target_channels) == (patches.channels, patches.target_channels)
        assert section.patch_shape == patches.patch_shape
        sizes = [len(batch) for batch in section.batches(size)]
        assert sum(sizes) == len(section)
        assert set(sizes[:-1]) <= {size}
        found |= content(section.batches(size))
    assert found == content(patches.batches(32))
    assert list(found) == patches.rows.tolist()
    assert all(len(section) >= length for section in sections[:-1])


def test_chosen_rows_are_read_too(cube):
    rows = np.array([3, 5, 20, 21, 22, 100, 170])
    patches = source(cube, "rgb", rows=rows)
    found = {}
    for section in patches.sections(3):
        found |= content(section.batches(2))
    assert found == content(patches.batches(7))
    assert source(cube, "rgb", rows=rows[:0]).sections(3) == ()


def test_a_section_reads_in_the_thread_that_asks_into_the_same_memory(cube, monkeypatch):
    def refuse(*_):
        raise AssertionError("a thread was begun")

    section = source(cube, "msi,agl").sections(64)[0]
    monkeypatch.setattr(threading.Thread, "start", refuse)
    memory = {batch.image.__array_interface__["data"][0] for batch in section.batches(16)}
    assert len(memory) == 1


def test_what_makes_no_sense_is_refused(cube):
    patches = source(cube, "rgb")
    with pytest.raises(ValueError, match="a section has at least one patch, not 0"):
        patches.sections(0)
    section = patches.sections(10)[0]
    with pytest.raises(ValueError, match="a batch has at least one patch, not 0"):
        next(section.batches(0))
    with pytest.raises(ValueError, match="in the order of the cube"):
        next(section.batches(4, 7))
