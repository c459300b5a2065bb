"""Mixing: every row comes once, batches are full, chunks are read once, buffers last as long as they must."""

import itertools
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoae import mixing
from geoae.batches import MIX_ROWS
from geoae.chunks import RowReader
from geoae.errors import IntegrityError
from geoae.location import Location
from geoae.mixing import plan_blocks, read_rows, stream
from geoae.store import ArraySpec, create_array, open_array

N, CHUNK, LENGTH = 150, 4, 12


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RowReader]:
    """Two arrays whose values say which row they belong to."""
    made = {}
    for name, dtype, scale in (("msi", "uint16", 1), ("agl", "float32", 0.5)):
        place = Location.of(tmp_path_factory.mktemp("cube") / name)
        create_array(place, ArraySpec((N, 3), ("patch", "x"), dtype, LENGTH, CHUNK))
        array = open_array(place, read_only=False)
        for start in range(0, N, LENGTH):
            rows = np.arange(start, min(start + LENGTH, N))
            array[start : start + LENGTH] = np.repeat(rows[:, np.newaxis] * scale, 3, axis=1).astype(dtype)
        made[name] = RowReader(place, open_array(place))
    return made


ROWS = st.sets(st.integers(0, N - 1)).map(lambda rows: np.array(sorted(rows), np.int64))


@given(rows=ROWS, capacity=st.integers(1, 60), seed=st.none() | st.integers(0, 5))
def test_blocks_hold_every_row_once(rows: np.ndarray, capacity: int, seed: int | None) -> None:
    blocks = plan_blocks(rows, CHUNK, capacity, seed)
    groups = [group for block in blocks for group in block.groups]
    assert sorted(np.concatenate(groups).tolist() if groups else []) == rows.tolist()
    for group in groups:
        assert len(set((group // CHUNK).tolist())) == 1
    assert len({int(group[0]) // CHUNK for group in groups}) == len(groups)  # no chunk is read twice
    for block in blocks:
        assert sorted(block.order.tolist()) == list(range(sum(map(len, block.groups))))
    for block in blocks[:-1]:
        assert capacity <= len(block.order) < capacity + CHUNK


def test_without_a_seed_rows_keep_their_order() -> None:
    blocks = plan_blocks(np.arange(50), CHUNK, 10, None)
    found = [np.concatenate(block.groups)[block.order] for block in blocks]
    assert np.concatenate(found).tolist() == list(range(50))


def test_a_seed_decides_the_order() -> None:
    def order(seed: int) -> list[int]:
        blocks = plan_blocks(np.arange(N), CHUNK, 40, seed)
        return [int(row) for block in blocks for row in np.concatenate(block.groups)[block.order]]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_block_draws_from_the_whole_cube() -> None:
    first = plan_blocks(np.arange(10_000), 16, 1024, 0)[0]
    scenes = Counter((np.concatenate(first.groups) // 64).tolist())
    assert len(scenes) > 40  # of 157 scenes of 64 rows; 16 if whole scenes were read
    batch = np.concatenate(first.groups)[first.order[:128]]
    assert len(set((batch // 64).tolist())) > 30


def train(orders: list[np.ndarray], x: np.ndarray, y: np.ndarray, held_out: np.ndarray) -> float:
    """Fit a linear model by stochastic gradient descent, an epoch an order; return its loss elsewhere."""
    weights = np.zeros(x.shape[1])
    for rate, order in zip((0.05, 0.02, 0.01), orders, strict=True):
        for start in range(0, len(order), 128):
            batch = order[start : start + 128]
            weights -= rate * x[batch].T @ (x[batch] @ weights - y[batch]) / len(batch)
    return float(np.mean((x[held_out] @ weights - y[held_out]) ** 2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_blocks_train_as_well_as_a_full_shuffle(seed: int) -> None:
    """As US3D is cut: 64 patches of a scene, 16 in a chunk, blocks of 1,024, batches of 128."""
    scenes, patches, features = 200, 64, 12
    rng = np.random.default_rng(100 + seed)
    scene = np.repeat(np.arange(scenes), patches)
    # Patches of a scene are alike, and one city, whose scenes come first, differs from the other.
    x = rng.normal(size=(scenes, features))[scene] + 0.5 * rng.normal(size=(len(scene), features))
    city = np.where(scene < scenes / 2, 1.0, -1.0)
    y = x @ rng.normal(size=features) + city + 0.5 * rng.normal(size=len(scene))
    x = np.column_stack([x, np.ones(len(x))])
    rows, held_out = np.flatnonzero(scene % 5), np.flatnonzero(scene % 5 == 0)
    blocks = [plan_blocks(rows, 16, MIX_ROWS, 10 * seed + epoch) for epoch in range(3)]
    mixed = [np.concatenate([np.concatenate(b.groups)[b.order] for b in epoch]) for epoch in blocks]
    for order in mixed:
        full = order[: len(rows) // 128 * 128].reshape(-1, 128)
        assert min(len(np.unique(scene[batch])) for batch in full) >= 8
    loss = train([rng.permutation(rows) for _ in range(3)], x, y, held_out)
    assert train(mixed, x, y, held_out) <= 1.01 * loss
    # The measure tells orders apart: scene after scene is worse.
    assert train([rows] * 3, x, y, held_out) > 1.02 * loss


@given(
    rows=ROWS.filter(len),
    size=st.integers(1, 60),
    more=st.integers(0, 30),
    seed=st.none() | st.integers(0, 5),
    ahead=st.booleans(),
)
def test_batches_are_full_and_right(
    readers: dict[str, RowReader], rows: np.ndarray, size: int, more: int, seed: int | None, ahead: bool
) -> None:
    blocks = plan_blocks(rows, CHUNK, size + more, seed)
    came = []
    for pieces in stream(readers, blocks, size, ahead=ahead):
        numbers = np.concatenate([piece.rows for piece in pieces])
        for name, scale in (("msi", 1), ("agl", 0.5)):
            values = np.concatenate([piece.values[name][piece.positions] for piece in pieces])
            assert values.tolist() == [[row * scale] * 3 for row in numbers.tolist()]
        came.append(numbers)
    assert [len(numbers) for numbers in came[:-1]] == [size] * (len(came) - 1)
    assert sorted(np.concatenate(came).tolist()) == rows.tolist()


def test_a_batch_lasts_until_the_next_is_asked_for(readers: dict[str, RowReader]) -> None:
    for pieces in stream(readers, plan_blocks(np.arange(N), CHUNK, 20, 0), 8):
        time.sleep(0.005)  # in which the threads read as much as they may
        for piece in pieces:
            assert piece.values["msi"][piece.positions, 0].tolist() == piece.rows.tolist()


@pytest.mark.parametrize("ahead", [True, False])
def test_in_turn_nothing_is_decoded_while_a_batch_is_in_use(
    readers: dict[str, RowReader], ahead: bool
) -> None:
    counts = [0]

    class Counting:
        shape, dtype, chunk = readers["msi"].shape, readers["msi"].dtype, CHUNK

        def read(self, start: int, stop: int, out: np.ndarray) -> None:
            counts[-1] += 1
            readers["msi"].read(start, stop, out)

    blocks = plan_blocks(np.arange(N), CHUNK, 40, 0)
    reading: dict[str, RowReader] = {"msi": Counting()}  # type: ignore[dict-item]
    for _ in stream(reading, blocks, 8, ahead=ahead):
        before = sum(counts)
        time.sleep(0.02)
        meanwhile = sum(counts) - before
        assert ahead or not meanwhile
        counts.append(0)
    assert sum(counts) == -(-N // CHUNK)
    # Each batch after the first block's own is preceded by its share.
    assert ahead or max(counts[1:]) <= 4


def test_rows_are_read_in_any_order_and_twice(readers: dict[str, RowReader]) -> None:
    rows = np.array([70, 3, 3, 149, 0])
    piece = read_rows(readers, rows, CHUNK)
    assert piece.values["msi"][piece.positions][:, 0].tolist() == rows.tolist()


def test_memory_is_two_blocks(readers: dict[str, RowReader]) -> None:
    blocks = plan_blocks(np.arange(N), CHUNK, 20, 0)
    buffers = {
        id(piece.values["msi"]): piece.values["msi"]
        for pieces in stream(readers, blocks, 8)
        for piece in pieces
    }
    assert len(buffers) == 2
    assert all(len(buffer) < 20 + CHUNK for buffer in buffers.values())


def test_a_damaged_chunk_ends_the_stream(
    readers: dict[str, RowReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = plan_blocks(np.arange(N), CHUNK, 20, None)
    decode = mixing._decode

    def broken(readers, group, buffers, position):
        if 60 in group:
            raise IntegrityError("chunk 3 has changed")
        decode(readers, group, buffers, position)

    monkeypatch.setattr(mixing, "_decode", broken)
    batches = stream(readers, blocks, 10)
    assert len(list(itertools.islice(batches, 3))) == 3
    with pytest.raises(IntegrityError, match="chunk 3"):
        list(batches)


def test_a_stream_that_is_left_ends_its_threads(readers: dict[str, RowReader]) -> None:
    before = threading.active_count()
    batches = stream(readers, plan_blocks(np.arange(N), CHUNK, 20, 0), 10)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_nothing_to_read(readers: dict[str, RowReader], tmp_path: Path) -> None:
    assert plan_blocks(np.empty(0, np.int64), CHUNK, 10, 0) == []
    assert list(stream(readers, [], 10)) == []
