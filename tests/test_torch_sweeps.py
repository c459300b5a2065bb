"""Sweeps over the networks of torch: the protocols, and a quick run of some."""

import pytest
from command_line import runner

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae.registry import load_encoder, parse_options  # noqa: E402
from geoae.sweeps.protocols import find_protocol  # noqa: E402
from geoae_torch import preset_names, sweep_protocols  # noqa: E402


@pytest.fixture
def run(capsys):
    return runner(capsys)


@pytest.mark.parametrize("name", sweep_protocols())
def test_every_network_of_a_protocol_has_options_that_its_encoder_takes(name):
    protocol = find_protocol("vae", name)
    for trial in protocol.trials:
        assert trial.network in preset_names()
        kind = load_encoder(trial.plugin)
        for options in ({}, protocol.quick):
            config = parse_options(kind, {**trial.options, **options})
            assert config.architecture.name == trial.network


@pytest.mark.parametrize("name", ["calibrated", "others"])
def test_the_default_network_stands_among_those_that_it_should_beat(name):
    networks = [trial.network for trial in find_protocol("vae", name).trials]
    assert load_encoder("vae").Config().preset in networks
    assert len(networks) == len(set(networks))


def test_the_thesis_protocol_is_the_thesis():
    protocol = find_protocol("vae", "thesis")
    assert [trial.network for trial in protocol.trials] == [f"thesis-a{n}" for n in range(1, 19)]
    assert (protocol.patches, protocol.validation) == (3000, 200)
    for trial in protocol.trials:
        config = parse_options(load_encoder(trial.plugin), trial.options)
        assert (config.epochs, config.batch_size, config.latent_dim) == (50, 128, 1024)
        assert (config.loss, config.kl, config.optimiser, config.augment) == (
            "mae",
            "thesis",
            "rmsprop",
            False,
        )


def test_quick_networks_from_the_command_line(run, cube_copy):
    words = [
        "sweep",
        "networks",
        "--cube",
        cube_copy,
        "--quick",
        "--networks",
        "thesis-a1,thesis-a8,thesis-a14",
    ]
    answer = run(*words, "--json")
    assert answer.code == 0, answer.err
    rows = {row["network"]: row for row in answer.json["rows"]}
    assert list(rows) == ["thesis-a8", "thesis-a14", "pca 47", "mean colour"]
    assert rows["thesis-a8"]["parameters"] == rows["thesis-a14"]["parameters"] == 1_587_459
    for name in ("thesis-a8", "thesis-a14"):
        row = rows[name]
        assert row["loss"] == pytest.approx(row["mae"] + row["kl"] / (32 * 32 * 3), rel=1e-3)
        assert row["mae_low"] <= row["mae_difference"] <= row["mae_high"]
        assert row["patches_per_second"] > 0
    notes = answer.json["notes"]
    assert any("network thesis-a1 does not fit patches of 32 x 32" in text for text in notes)
    assert answer.json["made"] == 3
    text = run(*words, "--quiet")
    assert (text.code, text.err) == (0, "")
    assert text.out.splitlines()[0].startswith("| network | parameters |")
    assert text.out.rstrip().endswith("0 trainings made")
