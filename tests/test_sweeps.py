"""Sweeps: sections, trials, ledgers, tables, and the sweeps themselves with encoders that need no torch."""

import csv
import json
import types

import numpy as np
import pytest
from fake_encoders import Constant

import geoae
from geoae.batches import parse_input
from geoae.cube import Cube
from geoae.encoder import Channel, EncoderConfig, FitContext
from geoae.errors import InputError, IntegrityError, LockedError, PluginError, StoreExistsError, UsageError
from geoae.sweeps import Data, sweep_latent, sweep_networks, sweep_patch_size
from geoae.sweeps.ledger import ledger, sweeps_folder
from geoae.sweeps.protocols import find_protocol
from geoae.sweeps.sections import Sections, cut_sections, places, purity_of, resized
from geoae.sweeps.statistics import knee, paired_interval, participation_ratio
from geoae.sweeps.tables import Column, against, as_csv, as_markdown, over_seeds
from geoae.sweeps.trials import errors_of, mean_colour

SMALL = Data(patches=40, validation=16)


def sections(image, valid=None, purity=None):
    image = np.asarray(image, np.float32)
    n = len(image)
    valid = np.ones(image.shape, bool) if valid is None else np.asarray(valid)
    channels = tuple(Channel("rgb", f"b{i}") for i in range(image.shape[1]))
    purity = np.full(n, np.nan) if purity is None else purity
    return Sections(channels, image * valid, valid, np.arange(n), np.arange(n), purity)


@pytest.fixture(scope="module")
def cube(us3d_cube, tmp_path_factory):
    import shutil

    folder = tmp_path_factory.mktemp("sweeps")
    for path in us3d_cube.parent.iterdir():
        shutil.copytree(path, folder / path.name)
    geoae.split(folder / us3d_cube.name)
    return Cube.open(folder / us3d_cube.name)


# --- sections -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 16])
def test_sections_are_windows_of_patches_of_their_part(cube, size):
    channels = parse_input(cube, "rgb")
    train, held_out, notes = cut_sections(cube, channels, split="default", size=size, counts=(30, 10))
    assert (len(train), len(held_out), notes) == (30, 10, ())
    part = cube.layer("splits/default")["split"].to_numpy()
    assert set(part[train.index]) == {0}
    assert set(part[held_out.index]) == {1}
    pixels, labels = np.asarray(cube.array("rgb")[:]), np.asarray(cube.array("label")[:])
    known = np.asarray(cube.array("label_valid")[:])
    for image, row, purity in zip(train.image, train.index, train.purity, strict=True):
        found = [
            (y, x)
            for y, x in places(32, size)
            if np.allclose(pixels[row, :, y : y + size, x : x + size] / 255, image, atol=1e-6)
        ]
        assert len(found) == 1
        y, x = found[0]
        window = np.s_[row, y : y + size, x : x + size]
        assert purity == pytest.approx(purity_of(cube, labels[window], known[window]), nan_ok=True)


def test_equal_draws_are_equal_and_seeds_differ(cube):
    channels = parse_input(cube, "rgb")
    one, two, other = (
        cut_sections(cube, channels, split="default", counts=(20, 8), seed=seed)[0] for seed in (0, 0, 1)
    )
    assert np.array_equal(one.index, two.index)
    assert not np.array_equal(one.index, other.index)


def test_fewer_sections_than_asked_for_are_said(cube):
    train, held_out, notes = cut_sections(cube, parse_input(cube, "rgb"), split="default")
    assert notes == (
        f"{len(train)} training sections, not 3000: there are no more",
        f"{len(held_out)} validation sections, not 200: there are no more",
    )


def test_sections_larger_than_patches_are_refused(cube):
    with pytest.raises(UsageError, match="sections of 64 pixels cannot be cut from patches of 32"):
        cut_sections(cube, parse_input(cube, "rgb"), split="default", size=64)


def test_a_split_without_validation_is_refused(us3d_cube, cube):
    geoae.split(cube, name="all", fractions=(1, 0, 0))
    with pytest.raises(InputError, match="no validation patch of the split 'all'"):
        cut_sections(cube, parse_input(cube, "rgb"), split="all")


def test_resizing_takes_the_mean_of_the_valid_pixels():
    image = [[[[1, 3], [5, 100]]]]
    valid = [[[[True, True], [True, False]]]]
    small = resized(sections(image, valid), 1)
    assert small.image.tolist() == [[[[3.0]]]]
    assert small.valid.tolist() == [[[[True]]]]
    nothing = resized(sections(image, np.zeros((1, 1, 2, 2), bool)), 1)
    assert (nothing.image.item(), nothing.valid.item()) == (0.0, False)
    with pytest.raises(UsageError, match="sections of 2 pixels cannot be made 3"):
        resized(sections(image), 3)


def test_a_batch_is_its_receivers():
    source = sections(np.ones((3, 1, 2, 2)))
    for batch in source.batches(2):
        batch.image[:] = 7
    assert (source.image == 1).all()
    assert [len(b) for b in source.batches(2)] == [2, 1]
    shuffled = np.concatenate([b.index for b in source.batches(2, shuffle_seed=1)])
    assert sorted(shuffled) == [0, 1, 2]


# --- measures -------------------------------------------------------------------------------------


def test_errors_count_valid_pixels_only():
    image = np.zeros((2, 1, 2, 2))
    image[0] = 0.5  # which `Constant` predicts everywhere
    image[1] = [[0.5, 1.0], [0.0, 0.9]]
    valid = np.ones(image.shape, bool)
    valid[1, 0, 1, 1] = False
    source = sections(image, valid)
    encoder = Constant(EncoderConfig(latent_dim=2))
    encoder.fit(source, FitContext())
    z, absolute, squared = errors_of(encoder, source)
    assert z.shape == (2, 2)
    assert absolute == pytest.approx([0, 1 / 3])
    assert squared == pytest.approx([0, 0.5 / 3])


def test_the_mean_colour_by_hand():
    found = mean_colour(sections([[[[0.0, 1.0]], [[0.5, 0.5]]]]))
    assert found["latent_dim"] == 2
    assert (found["mae"], found["mse"]) == pytest.approx((0.25, 0.125))


@pytest.mark.parametrize("shape", [(50, 4), (4, 50)])
def test_the_participation_ratio_is_that_of_the_covariance(shape):
    z = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values = np.linalg.eigvalsh(np.cov(z.T.astype(float)))
    assert participation_ratio(z) == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert participation_ratio(np.ones(shape, np.float32)) == 0


def test_an_interval_draws_whole_groups():
    """Four groups of a hundred equal values: the spread is that of four numbers, not of four hundred."""
    values = np.repeat([0.0, 1.0, 2.0, 3.0], 100)
    group = np.repeat([7, 8, 9, 10], 100)
    mean, low, high = paired_interval(values, group)
    assert mean == 1.5
    assert (low, high) == pytest.approx((0.5, 2.5), abs=0.3)  # 1.5 ± 1.96 * sqrt(1.25 / 4) = 0.4, 2.6
    single = paired_interval(values, np.arange(400))
    assert single[2] - single[1] < 0.3
    assert np.isnan(paired_interval(values, np.zeros(400, int))[1])


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_known_knee_is_found(at):
    """Straight down to the knee on a logarithmic axis, and nearly level behind it."""
    sizes = 2.0 ** np.arange(6)
    errors = np.interp(np.arange(6), [0, at, 5], [1.0, 0.1, 0.0])
    assert knee(sizes, errors) == at


@pytest.mark.parametrize("errors", [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 0.5], [0.0, 0.0, 0.0]])
def test_lines_have_no_knee(errors):
    assert knee(2.0 ** np.arange(len(errors)), np.array(errors)) is None


def test_differences_are_of_the_same_section():
    row = {"patch_mae": [0.1, 0.4], "patch_mse": [0, 0]}
    found = against(row, {"patch_mae": [0.2, 0.3], "patch_mse": [0, 0]}, np.array([0, 1]))
    assert found["mae_difference"] == pytest.approx(0)
    assert (found["mae_low"], found["mae_high"]) == pytest.approx((-0.1, 0.1))


def test_seeds_come_together_section_by_section():
    lines = [{"n": "a", "mae": m, "kl": None, "patch_mae": [m, 0]} for m in (0.2, 0.4)]
    row = over_seeds(lines, ["n"])
    assert row["patch_mae"] == pytest.approx([0.3, 0])
    assert "kl" not in row
    text = as_markdown([row], [Column("net", "n"), Column("KL", "kl"), Column("MAE", "mae")])
    assert text.splitlines()[-1] == "| a | - | 0.300 ± 0.141 |"
    assert "patch_mae" not in as_csv([row])


# --- the ledger -----------------------------------------------------------------------------------


def test_a_line_that_was_cut_off_is_made_again(cube):
    with ledger(cube, "torn", {"a": 1}) as book:
        book.add(book.request({"x": 1}), {"mae": 1.0})
    path = sweeps_folder(cube) / "torn" / "runs.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"request": "ab')
    with ledger(cube, "torn", {"a": 1}) as book:
        assert len(book) == 1
        assert book.find(book.request({"x": 1}))["mae"] == 1.0
        assert book.find(book.request({"x": 2})) is None
    assert path.read_bytes() == whole


def test_a_damaged_line_is_named(cube):
    with ledger(cube, "damaged", {}) as book:
        book.add("r", {"mae": 1.0})
    path = sweeps_folder(cube) / "damaged" / "runs.jsonl"
    path.write_bytes(b"{]\n" + path.read_bytes())
    with pytest.raises(IntegrityError, match=r"line 1 of .*runs.jsonl"), ledger(cube, "damaged", {}):
        pass


def test_other_settings_are_refused_unless_they_replace(cube):
    with ledger(cube, "other", {"patches": 1, "split": "x"}) as book:
        book.add("r", {"mae": 1.0})
    with (
        pytest.raises(StoreExistsError, match="another patches"),
        ledger(cube, "other", {"patches": 2, "split": "x"}),
    ):
        pass
    with ledger(cube, "other", {"patches": 2, "split": "x"}, overwrite=True) as book:
        assert len(book) == 0


def test_only_one_writes(cube):
    with ledger(cube, "busy", {}), pytest.raises(LockedError), ledger(cube, "busy", {}):
        pass


def test_a_name_must_be_one(cube):
    with pytest.raises(UsageError, match="cannot name"), ledger(cube, "../x", {}):
        pass


# --- the sweeps -----------------------------------------------------------------------------------


def test_pca_beside_itself_differs_in_nothing(cube):
    first = sweep_latent(cube, plugin="pca", latent_dims=(2, 4, 8, 200), seeds=(0,), data=SMALL)
    assert [row["latent_dim"] for row in first.rows] == [2, 4, 8, 39]
    for row in first.rows:
        assert row["mae_difference"] == row["mae_low"] == row["mse_difference"] == 0
    errors = [row["mse"] for row in first.rows]
    assert errors == sorted(errors, reverse=True)
    assert any(text.startswith("pca: latent size reduced from 200 to 39") for text in first.notes)
    files = {p.name: p.read_bytes() for p in first.folder.iterdir()}
    assert set(files) == {"sweep.json", "runs.jsonl", "table.md", "table.csv", "figure.png", "figure.pdf"}
    again = sweep_latent(cube, plugin="pca", latent_dims=(2, 4, 8, 200), seeds=(0,), data=SMALL)
    assert (first.made, again.made) == (8, 0)
    assert {p.name: p.read_bytes() for p in again.folder.iterdir()} == files
    assert [float(r["mse"]) for r in csv.DictReader(files["table.csv"].decode().splitlines())] == errors


def test_an_interrupted_sweep_goes_on(cube):
    options = {"plugin": "pca", "latent_dims": (2, 3), "seeds": (0,), "data": SMALL, "name": "cut"}

    def interrupt(stage, done, total, values):
        if stage.startswith("latent 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep_latent(cube, **options, progress=interrupt)
    assert len((sweeps_folder(cube) / "cut" / "runs.jsonl").read_text().splitlines()) == 1
    assert sweep_latent(cube, **options).made == 3


def test_other_patches_are_another_sweep(cube):
    sweep_latent(cube, plugin="pca", latent_dims=(2,), seeds=(0,), data=SMALL, name="mine")
    with pytest.raises(StoreExistsError, match="another patches"):
        sweep_latent(
            cube,
            plugin="pca",
            latent_dims=(2,),
            seeds=(0,),
            data=Data(patches=41, validation=16),
            name="mine",
        )


def test_purity_falls_with_the_size(cube):
    report = sweep_patch_size(
        cube, plugin="pca", options={"latent_dim": 4}, sizes=(8, 16, 32), resize=16, seeds=(0,), data=SMALL
    )
    assert [row["section"] for row in report.rows] == ["8", "16", "32", "32, made 16"]
    purity = [row["purity"] for row in report.rows]
    assert purity[0] > purity[2] == purity[3]
    assert [row["mae_difference"] for row in report.rows] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cube: sweep_latent(cube, plugin="pca", latent_dims=()), "needs sizes"),
        (lambda cube: sweep_latent(cube, plugin="pca", options={"latent_dim": 3}), "chooses the latent size"),
        (lambda cube: sweep_latent(cube, plugin="random-projection", data=SMALL), "makes no images"),
        (lambda cube: sweep_latent(cube, plugin="pca", options={"x": 3}, data=SMALL), "no option --x"),
        (lambda cube: sweep_patch_size(cube, plugin="pca", sizes=(0,)), "needs sizes"),
        (lambda cube: sweep_patch_size(cube, plugin="pca", sizes=(64,), data=SMALL), "cannot be cut"),
        (lambda cube: sweep_networks(cube, plugin="pca"), "no networks to sweep over"),
        (lambda _cube: Data(patches=1), "at least 2 training"),
    ],
)
def test_what_cannot_be_swept_is_one_line(cube, call, message):
    with pytest.raises(UsageError, match=message):
        call(cube)


# --- protocols ------------------------------------------------------------------------------------


@pytest.fixture
def offered(monkeypatch):
    """A package of an encoder with protocols of its own; returns the mapping that it offers."""
    protocols = {}
    module = types.SimpleNamespace(sweep_protocols=lambda: protocols)
    monkeypatch.setattr("geoae.sweeps.protocols.import_module", lambda _name: module)
    return protocols


def test_a_protocol_is_trained_network_by_network(cube, offered):
    offered["mine"] = {
        "title": "Mine",
        "patches": 40,
        "validation": 16,
        "trials": [{"network": f"p{n}", "plugin": "pca", "options": {"latent_dim": n}} for n in (2, 3)],
        "quick": {"max_passes": 2},
    }
    report = sweep_networks(cube, plugin="pca", protocol="mine", seeds=(0,), size=16)
    assert [row["network"] for row in report.rows] == ["p2", "p3", "pca 2", "pca 3", "mean colour"]
    assert [row["mae_difference"] for row in report.rows[:2]] == [0, 0]
    one = sweep_networks(cube, plugin="pca", protocol="mine", seeds=(0,), size=16, networks=["p3"])
    assert ([row["network"] for row in one.rows], one.made) == (["p3", "pca 3", "mean colour"], 0)
    with pytest.raises(UsageError, match="protocol mine has no network 'p4'"):
        sweep_networks(cube, plugin="pca", protocol="mine", networks=["p4"])
    quick = sweep_networks(cube, plugin="pca", protocol="mine", quick=True, name="quick")
    assert json.loads((quick.folder / "sweep.json").read_text())["patches"] == 40
    with pytest.raises(UsageError, match="there is no protocol 'theirs'"):
        find_protocol("pca", "theirs")


def test_a_protocol_that_is_not_understood_names_its_package(offered):
    offered["bad"] = {"title": "Bad", "patches": 0, "validation": 1, "trials": []}
    with pytest.raises(PluginError, match=r"protocol bad of geoae_pca cannot be read: patches"):
        find_protocol("pca", "bad")
