"""Splits: what is never cut, how large the parts are, and what is left between them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from cube_scenes import catalog_of, scene_pixels, write_scene
from hypothesis import given
from hypothesis import strategies as st

from geoae import open_cube, splits
from geoae.cube import Cube
from geoae.errors import StoreExistsError, UsageError
from geoae.ingestion import ingest
from geoae.splits import ensure_split, rows_of, split

TRAIN, VALIDATION, TEST, UNUSED = 0, 1, 2, -1
THIRDS = (0.7, 0.15, 0.15)


def table_of(views, stride=1):
    """A table of patches from ``(city, group, rows, columns)`` of each view."""
    parts = []
    for number, (city, group, rows, cols) in enumerate(views):
        row, col = np.divmod(np.arange(rows * cols), cols)
        parts.append(
            pd.DataFrame(
                {
                    "city": city,
                    "tile": group,
                    "group": f"{city}/{group}",
                    "scene_id": f"{city}_{group}_{number}",
                    "scene_number": number,
                    "row": row,
                    "col": col,
                    "y_start": row * stride,
                    "x_start": col * stride,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def assign(table, *, patch=1, stride=1, by="group", fractions=THIRDS, test=(), seed=0):
    """What `split` computes from the table of a cube."""
    cube = SimpleNamespace(patch_size=patch, stride=stride)
    method, codes, _ = splits._assign(cube, table, by, fractions, test, seed)
    return method, codes


def parts_of_groups(table, codes):
    """The one part of each group; fails if a group is cut."""
    parts = pd.Series(codes).groupby(table["group"]).unique()
    assert parts.map(len).max() == 1, "a group was cut"
    return parts.map(lambda found: int(found[0]))


def square_views(cities, groups, views=1, side=4):
    return [(c, f"{g:03d}", side, side) for c in cities for g in range(groups) for _ in range(views)]


# --- groups ---------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["JAX", "OMA", ""]), st.integers(0, 12), st.integers(1, 5), st.integers(1, 5)
        ),
        min_size=5,
        max_size=40,
    ),
    st.integers(0, 3),
)
def test_no_group_is_ever_cut(views, seed):
    table = table_of([(city, f"{tile:03d}", rows, cols) for city, tile, rows, cols in views])
    method, codes = assign(table, seed=seed)
    if table["group"].nunique() < 5:
        assert method in ("blocks", "train-only")
        return
    assert method == "groups"
    parts = parts_of_groups(table, codes)
    assert set(parts) <= {TRAIN, VALIDATION, TEST}
    assert TRAIN in set(parts)
    if table.groupby("city")["group"].nunique().max() >= 3:
        assert set(parts) == {TRAIN, VALIDATION, TEST}


@pytest.mark.parametrize(
    ("groups", "expected"),
    [(20, (14, 3, 3)), (10, (6, 2, 2)), (7, (5, 1, 1)), (5, (3, 1, 1)), (3, (1, 1, 1))],
)
def test_quotas_of_equal_groups_in_each_city(groups, expected):
    table = table_of(square_views(["JAX", "OMA"], groups, views=2))
    method, codes = assign(table)
    assert method == "groups"
    parts = parts_of_groups(table, codes)
    for city in ("JAX", "OMA"):
        counts = parts[parts.index.str.startswith(city)].value_counts()
        assert tuple(int(counts[part]) for part in (TRAIN, VALIDATION, TEST)) == expected


@given(st.lists(st.integers(1, 30), min_size=30, max_size=60), st.integers(0, 5))
def test_quotas_of_unequal_groups_are_met_within_one_group(sizes, seed):
    table = table_of([("JAX", f"{i:03d}", 1, size) for i, size in enumerate(sizes)])
    _, codes = assign(table, seed=seed)
    for part, share in ((VALIDATION, 0.15), (TEST, 0.15)):
        assert abs((codes == part).sum() - share * sum(sizes)) <= max(sizes)


def test_a_city_with_too_few_groups_trains():
    table = table_of(square_views(["JAX"], 6) + square_views(["OMA"], 2))
    _, codes = assign(table)
    assert set(codes[table["city"] == "OMA"]) == {TRAIN}
    assert set(codes[table["city"] == "JAX"]) == {TRAIN, VALIDATION, TEST}


def test_many_cities_of_one_group_are_one_stratum():
    table = table_of([(f"C{n}", "001", 2, 2) for n in range(8)])
    _, codes = assign(table)
    assert set(codes) == {TRAIN, VALIDATION, TEST}


@given(st.integers(5, 15), st.integers(1, 15), st.integers(0, 3))
def test_groups_keep_their_order_when_others_are_added(before, added, seed):
    """Ranked by hash: nothing that is added can put a group before another one."""
    small = table_of(square_views(["JAX"], before, side=1))
    large = table_of(square_views(["JAX"], before + added, side=1))
    first = parts_of_groups(small, assign(small, seed=seed)[1])
    second = parts_of_groups(large, assign(large, seed=seed)[1])[first.index]
    # test comes first in the ranking: whatever is ahead of another group stays ahead or level.
    for one in first.index:
        for other in first.index:
            if first[one] > first[other]:
                assert second[one] >= second[other]


def test_growth_at_equal_shares_moves_few_groups():
    """20 groups of 100 that are all there later too: most keep their part."""
    small, large = (table_of(square_views(["JAX"], n, side=1)) for n in (100, 120))
    first = parts_of_groups(small, assign(small)[1])
    second = parts_of_groups(large, assign(large)[1])[first.index]
    assert (first != second).mean() < 0.15


def test_another_seed_is_another_split():
    table = table_of(square_views(["JAX"], 20))
    codes = [assign(table, seed=seed)[1].tolist() for seed in (0, 0, 1)]
    assert codes[0] == codes[1] != codes[2]


def test_the_order_of_patches_does_not_matter():
    views = square_views(["JAX", "OMA"], 6)
    one, other = table_of(views), table_of(views[::-1])
    first = parts_of_groups(one, assign(one)[1])
    second = parts_of_groups(other, assign(other)[1])
    assert first.to_dict() == second.to_dict()


def test_no_validation_and_no_test_if_none_is_asked_for():
    table = table_of(square_views(["JAX"], 10))
    assert set(assign(table, fractions=(1.0, 0.0, 0.0))[1]) == {TRAIN}
    assert set(assign(table, fractions=(0.5, 0.0, 0.5))[1]) == {TRAIN, TEST}


# --- blocks ---------------------------------------------------------------------------------------


def gap(table, one, other, patch):
    """Pixels between two patches: negative if they overlap, 0 if they share an edge or a corner."""
    distance = np.maximum(
        np.abs(table["y_start"].to_numpy()[one] - table["y_start"].to_numpy()[other]),
        np.abs(table["x_start"].to_numpy()[one] - table["x_start"].to_numpy()[other]),
    )
    return distance - patch


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 14)), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 2),
)
def test_a_whole_step_lies_between_patches_of_different_parts(views, patch, stride, seed):
    """Few groups: blocks. Patches of different parts share no pixel and no edge, and are a step apart."""
    table = table_of([("JAX", str(group), rows, cols) for group, rows, cols in views], stride)
    method, codes = assign(table, patch=patch, stride=stride, seed=seed)
    if method == "train-only":
        assert set(codes) == {TRAIN}
        return
    assert method == "blocks"
    assert {TRAIN, VALIDATION, TEST} <= set(codes)
    for group in table["group"].unique():
        inside = np.flatnonzero(table["group"] == group)
        for one, other in ((TRAIN, TEST), (TRAIN, VALIDATION), (VALIDATION, TEST)):
            a, b = np.meshgrid(inside[codes[inside] == one], inside[codes[inside] == other], indexing="ij")
            assert not (gap(table, a, b, patch) < stride).any()


@pytest.mark.parametrize(("patch", "stride"), [(64, 64), (64, 32), (64, 16), (64, 48), (64, 100)])
def test_blocks_of_one_large_scene_keep_most_patches(patch, stride):
    table = table_of([("", "one", 34, 25)], stride)
    method, codes = assign(table, patch=patch, stride=stride)
    assert method == "blocks"
    assert (codes == TRAIN).mean() > 0.3
    for part in (VALIDATION, TEST):
        assert (codes == part).mean() > 0.05


def test_views_of_a_tile_share_their_blocks():
    table = table_of([("JAX", "1", 12, 12), ("JAX", "1", 12, 12)])
    method, codes = assign(table)
    assert method == "blocks"
    assert codes[:144].tolist() == codes[144:].tolist()


def test_the_buffer_reaches_across_views_of_unlike_size():
    """The smaller view does not show the test patches that its last column touches."""
    for seed in range(20):
        table = table_of([("JAX", "1", 12, 12), ("JAX", "1", 12, 6)])
        _, codes = assign(table, seed=seed)
        large, small = codes[:144].reshape(12, 12), codes[144:].reshape(12, 6)
        assert np.array_equal(large[:, :6], small)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3)])
def test_too_few_patches_all_train(shape):
    method, codes = assign(table_of([("", "one", *shape)]))
    assert (method, set(codes)) == ("train-only", {TRAIN})


# --- cities ---------------------------------------------------------------------------------------


def test_by_city_tests_on_the_other_city_and_validates_on_the_same():
    table = table_of(square_views(["JAX"], 8) + square_views(["OMA"], 6))
    method, codes = assign(table, by="city")
    assert method == "city"
    assert set(codes[table["city"] == "OMA"]) == {TEST}
    jax = table[table["city"] == "JAX"]
    parts = parts_of_groups(jax.reset_index(drop=True), codes[: len(jax)])
    assert set(parts) == {TRAIN, VALIDATION}
    # 0.15 of 0.85 of 8 groups are 1.4: one is taken, a second one does not fit by half.
    assert (parts == VALIDATION).sum() == 1


def test_by_city_trains_on_the_other_city_if_told_to():
    table = table_of(square_views(["JAX"], 8) + square_views(["OMA"], 6))
    _, codes = assign(table, by="city", test=("JAX",))
    assert set(codes[table["city"] == "JAX"]) == {TEST}
    assert set(codes[table["city"] == "OMA"]) == {TRAIN, VALIDATION}


@pytest.mark.parametrize(
    ("cities", "test", "message"),
    [
        (["JAX"], (), "needs two cities; the cube has JAX"),
        ([""], (), "needs two cities; the cube has none"),
        (["JAX", "OMA"], ("NYC",), "no city NYC"),
        (["JAX", "OMA"], ("JAX", "OMA"), "one city must be left"),
    ],
)
def test_cities_that_cannot_be_parted(cities, test, message):
    with pytest.raises(UsageError, match=message):
        assign(table_of(square_views(cities, 3)), by="city", test=test)


# --- the layer ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cube of two cities, six tiles each, two views a tile, four patches a view."""
    folder = tmp_path_factory.mktemp("splits")
    for number in range(24):
        city, tile, view = ("JAX", "OMA")[number // 12], number // 2, number % 2
        pixels = scene_pixels((16, 16), number, kinds=("RGB",))
        write_scene(folder / "scenes", f"{city}_{tile:03d}_{view:03d}", pixels)
    catalog = catalog_of(modalities={"msi": None, "agl": None, "label": None})
    ingest(folder / "scenes", catalog=catalog, out=folder / "c.zarr", patch=8)
    return Cube.open(folder / "c.zarr")


def test_the_layer_says_what_it_is(made):
    report = split(made, name="first", seed=3)
    assert report.created
    assert report.method == "groups"
    # six groups of eight patches a city: quotas of 0.9 groups are one each
    assert report.patches == {"train": 64, "validation": 16, "test": 16, "unused": 0}
    assert report.groups == {"train": 8, "validation": 2, "test": 2}
    layer = xr.open_zarr(made.path, group="splits/first")
    assert layer.split.dtype == np.int8
    assert layer.split.flag_values == [-1, 0, 1, 2]
    assert layer.split.flag_meanings == "unused train validation test"
    table = made.table()
    tiles = pd.Series(layer.split.to_numpy()).groupby((table["city"] + table["tile"]).to_numpy()).nunique()
    assert tiles.max() == 1
    record = made.layer_info("splits/first").record
    assert record.options["seed"] == 3
    assert record.inputs == {"cube": made.cube_id}
    assert record.counts == report.patches


def test_open_cube_gives_a_part(made):
    split(made, name="parted")
    whole = open_cube(made.path)
    test = open_cube(made.path, split="parted:test")
    assert test.sizes["patch"] == 16
    assert set(test["parted_split"].to_numpy()) == {TEST}
    rows = rows_of(made, "splits/parted", TEST)
    assert np.array_equal(test["rgb"].to_numpy(), whole["rgb"].to_numpy()[rows])
    with pytest.raises(UsageError, match="unknown part 'tset'"):
        open_cube(made.path, split="parted:tset")
    with pytest.raises(UsageError, match="has no split 'nope'"):
        open_cube(made.path, split="nope:test")


def test_an_equal_split_is_left_alone_and_another_one_refused(made):
    assert split(made, name="again").created
    assert not split(made, name="again").created
    with pytest.raises(StoreExistsError, match="splits/again"):
        split(made, name="again", seed=1)
    before = made.layer_digest("splits/again")
    assert split(made, name="again", seed=1, overwrite=True).created
    assert made.layer_digest("splits/again") != before


def test_the_default_split_is_made_when_it_is_needed_others_are_not(made):
    assert ensure_split(made) == "splits/default"
    assert ensure_split(made) == "splits/default"
    with pytest.raises(UsageError, match="has no split 'mine'"):
        ensure_split(made, "mine")


@pytest.mark.parametrize(
    "fractions",
    [(1, 1, 1), (0.5, 0.5), (0.9, -0.1, 0.2), (0, 0.5, 0.5), (float("nan"), 0.5, 0.5), (0.25,) * 4],
)
def test_shares_that_are_none(made, fractions):
    with pytest.raises(UsageError, match="share"):
        split(made, name="wrong", fractions=fractions)
    assert "splits/wrong" not in [info.path for info in made.layers()]


def test_cities_to_test_on_need_a_split_by_city(made):
    with pytest.raises(UsageError, match="need a split by city"):
        split(made, name="wrong", test=("OMA",))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x"])
def test_names_that_are_no_names(made, name):
    with pytest.raises(UsageError, match="cannot name a layer"):
        split(made, name=name)
