"""Tasks of shards: every patch is the source's pixels, whatever patch, stride, edge, shards and runs."""

import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cube_scenes import SMALL, UTM, scene_pixels, tree, write_scene, write_tif
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from geoae import assembly
from geoae.assembly import assemble
from geoae.chunks import RowReader
from geoae.errors import SceneError
from geoae.journal import noted
from geoae.location import Location
from geoae.patches import PatchPlan
from geoae.planning import plan_ingest
from geoae.shards import ShardTask, run_task
from geoae.store import create_array, open_array
from geoae.testing.quirks import garbage_block_tif

KINDS = {"msi": "MSI", "rgb": "RGB", "agl": "AGL", "label": "CLS"}
SHAPES = {"JAX_001_001": (37, 50), "JAX_001_002": (9, 70), "OMA_001_001": (41, 23)}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three scenes of odd shapes, one of them without heights and labels, and their pixels."""
    folder = tmp_path_factory.mktemp("source")
    pixels = {}
    for number, (key, shape) in enumerate(SHAPES.items()):
        kinds = ("MSI", "RGB") if key == "JAX_001_002" else ("MSI", "RGB", "AGL", "CLS")
        pixels[key] = write_scene(folder, key, scene_pixels(shape, number, kinds=kinds))
    return folder, pixels


def task_of(plan, root, shards=None, length=None, **options):
    """Create the arrays of a plan and return the task that fills them."""
    length = length or plan.shard_length
    cube, journal = Location.of(root / "cube.zarr"), Location.of(root / "journal")
    for name, spec in plan.pixel_arrays.items():
        if not (cube / name).exists("zarr.json"):
            create_array(cube / name, replace(spec, shard=length, chunk=1))
    return ShardTask(
        cube=str(cube),
        journal=str(journal),
        shards=shards or range(-(-plan.patches.n_patches // length)),
        shard_length=length,
        patches=plan.patches,
        scenes=dict(enumerate(plan.scenes)),
        catalog=plan.catalog,
        modalities=plan.modalities,
        **options,
    )


def arrays_of(root, plan):
    return {name: open_array(Location.of(root / "cube.zarr") / name)[...] for name in plan.pixel_arrays}


def expected_of(plan, pixels):
    """Cut patches out of the scenes by plain numpy: what is outside of a scene or missing is void."""
    side, n = plan.patches.patch, plan.patches.n_patches
    expected = {
        "msi": np.zeros((n, 2, side, side), np.uint16),
        "rgb": np.zeros((n, 3, side, side), np.uint8),
        "agl": np.full((n, side, side), np.nan, np.float32),
        "label": np.zeros((n, side, side), np.uint8),
    }
    expected |= {f"{m}_valid": np.zeros((n, side, side), bool) for m in ("msi", "rgb", "label")}
    y, x = plan.patches.y_x_start
    for i, scene in enumerate(plan.patches.scene_number):
        for modality, kind in KINDS.items():
            values = pixels[plan.scenes[scene].scene.key].get(kind)
            if values is None:
                continue
            part = values[..., y[i] : y[i] + side, x[i] : x[i] + side]
            height, width = part.shape[-2:]
            expected[modality][i, ..., :height, :width] = part
            if modality != "agl":
                valid = (part != 0).any(0) if part.ndim == 3 else np.ones(part.shape, bool)
                expected[f"{modality}_valid"][i, :height, :width] = valid
    return expected


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 45), st.integers(1, 60), st.sampled_from(["drop", "pad"]), st.integers(1, 16))
@example(8, 8, "drop", 5)
@example(16, 5, "pad", 7)
@example(4, 9, "pad", 3)
@example(45, 45, "pad", 2)
def test_every_patch_is_the_sources_pixels_bit_for_bit(source, patch, stride, edge, length):
    folder, pixels = source
    edge = "pad" if patch > 41 else edge
    plan = plan_ingest(folder, SMALL, patch=patch, stride=max(stride, patch // 3, 3), edge=edge)
    length = max(length, plan.patches.n_patches // 5)  # a handful of shards
    with tempfile.TemporaryDirectory() as root:
        done = run_task(task_of(plan, Path(root), length=length))
        assert done == list(range(-(-plan.patches.n_patches // length)))
        found, expected = arrays_of(Path(root), plan), expected_of(plan, pixels)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            # Bytes, so that NaN and signed zeros count.
            assert found[name].tobytes() == values.tobytes()


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    patch=st.integers(2, 24),
    stride=st.integers(3, 30),
    edge=st.sampled_from(["drop", "pad"]),
    shards=st.integers(1, 9),
    run_bytes=st.sampled_from([1, 20_000, 10**9]),
    workers=st.sampled_from([1, 2, 5]),
)
def test_no_choice_of_patches_shards_runs_and_workers_changes_a_value(
    source, patch, stride, edge, shards, run_bytes, workers
):
    """All the way to a committed cube; what is read back is cut from the sources by numpy.

    Other schedulers run the same tasks: `test_assembly` compares the bytes of a cluster's.
    """
    folder, pixels = source
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patched:
        plan = plan_ingest(folder, SMALL, patch=patch, stride=max(stride, patch // 2), edge=edge)
        length = max(-(-plan.patches.n_patches // shards), 1)
        patched.setattr(PatchPlan, "shard_length", lambda *_: length)
        patched.setattr(assembly, "RUN_BYTES", run_bytes)
        place = Location.of(Path(root) / "cube.zarr")
        work = Location.of(Path(root) / "work")
        assemble(plan, place, work, workers, None, skip_bad=False, progress=None)
        assert plan.shard_length == length
        found, expected = arrays_of(Path(root), plan), expected_of(plan, pixels)
        for name, values in expected.items():
            assert found[name].tobytes() == values.tobytes(), name
            read = np.empty_like(values)
            RowReader(place / name, open_array(place / name)).read(0, len(values), read)
            assert read.tobytes() == values.tobytes(), name


def test_the_journal_counts_valid_pixels_and_names_the_files(source, tmp_path):
    folder, pixels = source
    plan = plan_ingest(folder, SMALL, patch=8)
    run_task(task_of(plan, tmp_path, length=8))
    expected = expected_of(plan, pixels)
    files = tree(tmp_path / "cube.zarr")
    counted, named = {m: [] for m in KINDS}, {}
    for shard in range(-(-plan.patches.n_patches // 8)):
        entry = noted(Location.of(tmp_path / "journal"), shard)
        assert entry["shard"] == shard
        assert entry["failures"] == {}
        assert entry["patches"] == min(8, plan.patches.n_patches - shard * 8)
        for modality, counts in entry["valid"].items():
            counted[modality] += counts
        named |= {name: digest for name, (digest, _) in entry["files"].items()}
    for modality, counts in counted.items():
        valid = np.isfinite(expected["agl"]) if modality == "agl" else expected[f"{modality}_valid"]
        assert counts == valid.sum(axis=(1, 2)).tolist()
    assert named == {name: digest for name, digest in files.items() if not name.endswith("zarr.json")}


def test_a_task_writes_its_own_shards_only_and_the_same_twice(source, tmp_path):
    folder, _ = source
    plan = plan_ingest(folder, SMALL, patch=8)
    assert run_task(task_of(plan, tmp_path / "a", range(1, 3), 8)) == [1, 2]
    shards = {
        name.split("/c/")[1].split("/")[0] for name in tree(tmp_path / "a" / "cube.zarr") if "/c/" in name
    }
    assert shards == {"1", "2"}
    first = tree(tmp_path / "a")
    run_task(task_of(plan, tmp_path / "a", range(1, 3), 8))
    assert tree(tmp_path / "a") == first
    for shard in (2, 1):
        run_task(task_of(plan, tmp_path / "b", range(shard, shard + 1), 8))
    assert tree(tmp_path / "b" / "cube.zarr") == tree(tmp_path / "a" / "cube.zarr")


def test_a_task_stops_between_shards(source, tmp_path):
    folder, _ = source
    plan = plan_ingest(folder, SMALL, patch=8)
    stop = threading.Event()
    patches = []
    done = run_task(task_of(plan, tmp_path, length=8), stop, lambda n: (patches.append(n), stop.set()))
    assert done == [0]
    assert patches == [8]
    assert run_task(task_of(plan, tmp_path, length=8), stop) == []


# --- damage ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A good scene of 128 x 128, one whose last block of 64 x 64 is garbage, and a good one."""
    folder = tmp_path_factory.mktemp("damaged")
    pixels = {}
    for number, key in enumerate(("JAX_001_001", "JAX_001_002", "JAX_001_003")):
        pixels[key] = write_scene(folder, key, scene_pixels((128, 128), number, kinds=("MSI", "CLS")))
    path = folder / "JAX_001_002_MSI.tif"
    blocks = {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64}
    write_tif(path, pixels["JAX_001_002"]["MSI"], **blocks)
    good = path.read_bytes()
    path.unlink()
    write_tif(folder / "x.tif", pixels["JAX_001_002"]["MSI"], crs=UTM)
    garbage_block_tif(path, folder / "x.tif")
    (folder / "x.tif").unlink()
    # The quirk writes no CRS; without one, equal sizes are the same grid.
    assert path.read_bytes() != good
    return folder, pixels


def damaged_plan(folder, patch=32):
    return plan_ingest(folder, SMALL, patch=patch)


def test_damage_is_one_line_with_file_band_and_window(damaged, tmp_path):
    plan = damaged_plan(damaged[0])
    with pytest.raises(
        SceneError, match=r"JAX_001_002_MSI\.tif, bands 1-2, rows \d+-\d+, columns \d+-\d+"
    ) as caught:
        run_task(task_of(plan, tmp_path, length=5))
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert str(damaged[0]) not in str(caught.value)


@pytest.mark.parametrize("length", [3, 5, 7, 16, 48])
def test_a_shard_has_no_pixel_of_a_scene_that_failed_in_it(damaged, tmp_path, length):
    # A shard that begins inside a row of patches reads its part of a scene in up to three pieces.
    folder, pixels = damaged
    plan = damaged_plan(folder)
    task = task_of(plan, tmp_path, length=length, skip_bad=True)
    run_task(task)
    expected = expected_of(plan, pixels)
    found = arrays_of(tmp_path, plan)
    number = plan.patches.scene_number
    for shard in task.shards:
        rows = np.arange(shard * length, min((shard + 1) * length, plan.patches.n_patches))
        failures = noted(Location.of(tmp_path / "journal"), shard)["failures"]
        assert set(failures) <= {"1"}
        for row in rows:
            if str(number[row]) in failures:
                assert not found["msi_valid"][row].any()
                assert not found["msi"][row].any()
                assert not found["label_valid"][row].any()
            else:
                assert np.array_equal(found["msi"][row], expected["msi"][row])
                assert np.array_equal(found["label"][row], expected["label"][row])
    assert any(noted(Location.of(tmp_path / "journal"), s)["failures"] for s in task.shards)


def test_a_scene_that_is_known_to_fail_is_void_and_its_reason_written(damaged, tmp_path):
    folder, pixels = damaged
    plan = damaged_plan(folder)
    task = task_of(plan, tmp_path, length=16, skip_bad=True, void={1: "because"})
    # Nobody looks at the file again.
    moved = folder / "JAX_001_002_MSI.tif"
    shutil.move(moved, tmp_path / "away.tif")
    try:
        run_task(task)
    finally:
        shutil.move(tmp_path / "away.tif", moved)
    entries = [noted(Location.of(tmp_path / "journal"), s) for s in range(3)]
    assert [e["failures"] for e in entries] == [{}, {"1": "because"}, {}]
    found = arrays_of(tmp_path, plan)
    assert not found["msi"][16:32].any()
    assert np.array_equal(found["msi"][32:], expected_of(plan, pixels)["msi"][32:])


def test_a_scene_of_bad_headers_is_void(source, tmp_path):
    folder, pixels = source
    plan = plan_ingest(folder, SMALL, patch=8)
    scenes = tuple(replace(h, status="no") if n == 0 else h for n, h in enumerate(plan.scenes))
    task = replace(task_of(plan, tmp_path, length=8), scenes=dict(enumerate(scenes)))
    run_task(task)
    found, expected = arrays_of(tmp_path, plan), expected_of(plan, pixels)
    bad = plan.patches.scene_number == 0
    assert not found["rgb_valid"][bad].any()
    assert np.isnan(found["agl"][bad]).all()
    assert np.array_equal(found["rgb"][~bad], expected["rgb"][~bad])
