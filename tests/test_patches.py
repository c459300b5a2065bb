"""Plans of patches, compared with counting by hand and by brute force."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geoae.grid import Window
from geoae.patches import INNER_CHUNK, SHARD_PATCHES, inner_chunk, plan_patches, plan_runs

shapes = st.tuples(st.integers(1, 60), st.integers(1, 60))
sizes = st.integers(1, 25)


def by_brute_force(shape, patch, stride, edge):
    """Starts along both sides: all that fit, or, padded, all that show a pixel that no patch shows yet."""
    starts = []
    for length in shape:
        along, start = [], 0
        while start < length and (edge == "pad" or start + patch <= length):
            along.append(start)
            if edge == "pad" and start + patch >= length:
                break
            start += stride
        starts.append(along)
    return [(y, x) for y in starts[0] for x in starts[1]]


@given(st.lists(shapes, min_size=1, max_size=4), sizes, sizes, st.sampled_from(["drop", "pad"]))
@example([(10, 10)], 4, 11, "pad")
@example([(10, 4)], 4, 11, "pad")
@example([(3, 60)], 4, 1, "drop")
def test_patches_are_those_that_brute_force_finds(scenes, patch, stride, edge):
    plan = plan_patches(scenes, patch=patch, stride=stride, edge=edge)
    expected = [
        (n, y, x) for n, shape in enumerate(scenes) for y, x in by_brute_force(shape, patch, stride, edge)
    ]
    y, x = plan.y_x_start
    assert list(zip(plan.scene_number.tolist(), y.tolist(), x.tolist(), strict=True)) == expected
    assert plan.n_patches == len(expected)
    row, col = plan.row_col
    assert np.array_equal(y, row * stride)
    assert np.array_equal(x, col * stride)
    assert list(plan.windows(0, plan.n_patches)) == [(n, Window(y, x, patch, patch)) for n, y, x in expected]
    for number, shape in enumerate(scenes):
        seen = np.zeros(shape, bool)
        for n, top, left in expected:
            if n == number:
                assert top < shape[0]
                assert left < shape[1]  # no patch without a pixel of the scene
                seen[top : top + patch, left : left + patch] = True
        assert plan.dropped_pixels[number] == (~seen).sum()
        assert plan.counts[number] == plan.shapes[number].prod()


def test_us3d():
    plan = plan_patches([(1024, 1024)] * 3, patch=128)
    assert plan.counts.tolist() == [64, 64, 64]
    assert plan.dropped_pixels.tolist() == [0, 0, 0]
    row, col = plan.row_col
    assert (row[9], col[9]) == (1, 1)
    assert (row[63], col[63]) == (7, 7)
    assert plan.scene_number[[63, 64]].tolist() == [0, 1]


def test_the_stadium():
    # 4385 x 3248 pixels hold 34 x 25 patches of 128; 33 rows and 48 columns of pixels are left over.
    plan = plan_patches([(4385, 3248)], patch=128)
    assert plan.shapes.tolist() == [[34, 25]]
    assert plan.n_patches == 850
    assert plan.dropped_pixels.tolist() == [4385 * 3248 - 850 * 128**2]
    assert plan_patches([(4385, 3248)], patch=128, edge="pad").n_patches == 35 * 26


def test_a_scene_smaller_than_a_patch():
    assert plan_patches([(100, 300)], patch=128).counts.tolist() == [0]
    assert plan_patches([(100, 300)], patch=128).dropped_pixels.tolist() == [30_000]
    padded = plan_patches([(100, 300)], patch=128, edge="pad")
    assert padded.shapes.tolist() == [[1, 3]]
    assert padded.dropped_pixels.tolist() == [0]


def test_a_scene_without_a_grid_has_no_patches_and_keeps_its_number():
    plan = plan_patches([(8, 8), None, (8, 8)], patch=8)
    assert plan.counts.tolist() == [1, 0, 1]
    assert plan.scene_number.tolist() == [0, 2]
    assert plan.dropped_pixels.tolist() == [0, 0, 0]
    assert plan_patches([None], patch=8).n_patches == 0


@pytest.mark.parametrize(
    "options", [{"patch": 0}, {"patch": -8}, {"patch": 8, "stride": 0}, {"patch": 8, "edge": "cut"}]
)
def test_nonsense_is_refused(options):
    with pytest.raises(ValueError, match=r"patch and stride|edge must be"):
        plan_patches([(8, 8)], **options)


# --- shards ---------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 130), min_size=1, max_size=5), st.integers(1, 40_000_000))
def test_shards_stay_within_their_budgets(counts, n_bytes):
    plan = plan_patches([(1, n) for n in counts], patch=1)
    length = plan.shard_length(n_bytes)
    assert 1 <= length <= SHARD_PATCHES
    assert length == 1 or length * n_bytes <= 256 * 2**20
    assert length % inner_chunk(length) == 0
    assert inner_chunk(length) <= INNER_CHUNK


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([64, 64, 64], 64),  # a shard is a scene
        ([16, 16], 64),  # four scenes
        ([9], 63),
        ([60, 60], 60),
        ([61, 61], 64),  # a prime count has no inner chunk
        ([17], 64),  # 51 = 3 x 17 has none either
        ([1, 1, 1], 64),
        ([64, 9], 64),
        ([850], 64),
        ([64, 0, 64], 64),  # scenes without patches have no say
    ],
)
def test_a_shard_holds_whole_scenes_where_they_agree(counts, expected):
    shapes = [(1, n) if n else None for n in counts]
    assert plan_patches(shapes, patch=1).shard_length(1000) == expected


@given(st.integers(0, 200), st.integers(0, 50), st.integers(0, 300))
def test_runs_are_all_shards_in_order(n_shards, shard_bytes, run_bytes):
    runs = plan_runs(n_shards, shard_bytes, run_bytes)
    assert [s for run in runs for s in run] == list(range(n_shards))
    assert all(
        len(run) == 1 or len(run) * shard_bytes <= max(run_bytes, 0) or not shard_bytes for run in runs
    )


def test_the_last_runs_are_small():
    runs = [len(run) for run in plan_runs(200, 10, 70)]
    assert runs[0] == 7
    assert runs == sorted(runs, reverse=True)
    for number, run in enumerate(runs):
        assert run == 1 or run <= sum(runs[number:]) / 5


@given(
    st.lists(st.one_of(st.none(), st.tuples(st.integers(1, 9), st.integers(1, 9))), max_size=6),
    st.integers(1, 4),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_places_of_some_patches_are_those_of_all(shapes, patch, start, count):
    plan = plan_patches(shapes, patch=patch)
    part = slice(start, start + count)
    whole = (plan.scene_number, *plan.row_col)
    for some, every in zip(plan.places(start, start + count), whole, strict=True):
        assert some.tolist() == every[part].tolist()


@given(st.integers(1, 300))
def test_inner_chunks_divide_shards(length):
    assert length % inner_chunk(length) == 0
    assert all(length % n for n in range(inner_chunk(length) + 1, min(INNER_CHUNK, length) + 1))
