"""A cube as a dataset of torch: what comes, in which order, from which processes."""

import multiprocessing

import numpy as np
import pytest
from small_cubes import small_cube, train_rows

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from torch.utils.data import DataLoader  # noqa: E402

from geoae.batches import CubePatches, fit_normalisation, parse_input  # noqa: E402
from geoae.cube import Cube  # noqa: E402
from geoae.errors import InputError, UsageError  # noqa: E402
from geoae.splits import split  # noqa: E402
from geoae_torch import CubeDataset  # noqa: E402


@pytest.fixture(scope="module")
def cube(tmp_path_factory) -> Cube:
    cube = small_cube(tmp_path_factory.mktemp("dataset"))
    split(cube)
    return cube


def rows_of(loader):
    return torch.cat([batch["index"] for batch in loader]).tolist()


def test_batches_are_what_encoders_see(cube):
    dataset = CubeDataset(cube, batch_size=7, shuffle=False)
    rgb = parse_input(cube, "rgb")
    scale = fit_normalisation(cube, rgb, dataset.rows, "unit")
    expected = CubePatches(cube, rgb, scale, rows=dataset.rows).batches(7)
    for found, batch in zip(DataLoader(dataset, batch_size=None), expected, strict=True):
        assert torch.equal(found["image"], torch.from_numpy(batch.image))
        assert torch.equal(found["valid"], torch.from_numpy(batch.valid.copy()))
        assert found["index"].tolist() == batch.index.tolist()
        assert found.keys() == {"index", "image", "valid"}


def test_a_path_will_do_and_the_default_split_is_made(tmp_path):
    cube = small_cube(tmp_path)
    dataset = CubeDataset(cube.path)
    assert "splits/default" in {info.path for info in cube.layers()}
    assert set(dataset.rows) <= set(train_rows(cube))


def test_parts_are_apart_and_together_all(cube):
    parts = [rows_of(CubeDataset(cube, part=part)) for part in ("train", "validation", "test")]
    everything = rows_of(CubeDataset(cube, part=None))
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(everything)
    assert len(set(everything)) == len(everything)


def test_an_epoch_has_its_order(cube):
    dataset = CubeDataset(cube, part=None, batch_size=8)
    first, again = rows_of(dataset), rows_of(dataset)
    dataset.set_epoch(1)
    other = rows_of(dataset)
    assert first == again != other
    assert sorted(first) == sorted(other)
    assert first != sorted(first)
    assert rows_of(CubeDataset(cube, part=None, batch_size=8, seed=1)) != first


def test_workers_that_are_spawned_share_the_patches(cube):
    dataset = CubeDataset(cube, part=None, batch_size=8)
    context = multiprocessing.get_context("spawn")
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=context)
    assert sorted(rows_of(loader)) == sorted(rows_of(dataset))


def test_input_and_target_may_differ(cube):
    dataset = CubeDataset(
        cube, part=None, input="rgb.red", target="msi.nir,agl", normalisation=None, batch_size=5
    )
    batch = next(iter(dataset))
    assert batch["image"].shape[1] == 1
    assert batch["target"].shape == batch["target_valid"].shape == (5, 2, 8, 8)
    nir = cube.array("msi")[:][batch["index"].numpy(), cube.bands("msi").index("nir")]
    known = batch["target_valid"][:, 0].numpy()
    assert np.array_equal(batch["target"][:, 0].numpy(), nir * known)


def test_scales_are_those_of_the_training_part(cube):
    dataset = CubeDataset(cube, part=None, normalisation="standard", input="msi")
    train = set(train_rows(cube).tolist())
    values = [[] for _ in dataset.channels]
    for batch in dataset:
        chosen = torch.tensor([i in train for i in batch["index"].tolist()])
        for band in range(len(values)):
            mask = batch["valid"][chosen, band]
            values[band].append(batch["image"][chosen, band][mask])
    for band in values:
        numbers = torch.cat(band).double()
        assert abs(numbers.mean()) < 1e-4
        assert numbers.std().item() == pytest.approx(1, abs=1e-3)


def test_a_loop_of_ones_own_learns(cube):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 8), torch.nn.Linear(8, 192))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    dataset = CubeDataset(cube, batch_size=16)
    losses = []
    for epoch in range(6):
        dataset.set_epoch(epoch)
        total = 0.0
        for batch in DataLoader(dataset, batch_size=None):
            image = batch["image"]
            loss = (network(image).view_as(image) - image).square()[batch["valid"]].mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        losses.append(total)
    assert losses[-1] < 0.7 * losses[0]


def test_what_cannot_be_is_one_line(cube):
    with pytest.raises(UsageError, match="no part 'testing'"):
        CubeDataset(cube, part="testing")
    with pytest.raises(UsageError, match="no 'swir'"):
        CubeDataset(cube, input="swir")
    with pytest.raises(UsageError, match="labels"):
        CubeDataset(cube, target="label")
    with pytest.raises(UsageError, match="no split"):
        CubeDataset(cube, split="other")
    with pytest.raises(ValueError, match="at least one patch"):
        CubeDataset(cube, batch_size=0)
    with pytest.raises(InputError, match="enough valid pixels"):
        CubeDataset(cube, min_valid=1.1)
