"""Networks of one's own: YAML in, sizes or one line about what is wrong out. Needs no torch."""

import json

import pytest
from typer.testing import CliRunner

from geoae.cli import app
from geoae.errors import PluginError, UsageError
from geoae_torch.architecture import Architecture, Conv
from geoae_torch.description import load_architecture, parse_architecture, write_architecture
from geoae_torch.presets import preset, preset_names
from geoae_torch.shapes import plan
from geoae_torch.sizes import side_after
from geoae_torch.tables import describe_networks, layer_text

MINE = """
name: mine
latent_dim: 12
encoder:
- {layer: conv, filters: 4, stride: 2, activation: relu}
- {layer: pool, how: max}
- {layer: flatten}
decoder:
- {layer: dense}
- {layer: reshape, channels: 6}
- {layer: upsample, how: bilinear}
- {layer: transposed-conv, filters: bands, stride: 2, activation: sigmoid}
"""


def mine(**changed):
    source = MINE
    for old, new in changed.values():
        assert old in source
        source = source.replace(old, new)
    return parse_architecture(source, "mine.yaml")


def test_a_file_describes_a_network(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    for given in (path, str(path)):
        network = plan(load_architecture(given), patch=(16, 24), bands=2)
        # 16 x 24 -> 8 x 12 -> 4 x 6; the decoder doubles twice, so it begins with 4 x 6.
        assert [s.outputs for s in network.encoder] == [(8, 12, 4), (4, 6, 4), (96,)]
        assert [s.outputs for s in network.decoder] == [(144,), (4, 6, 6), (8, 12, 6), (16, 24, 2)]
        assert [s.parameters for s in network.steps] == [76, 0, 0, 1164, 1872, 0, 0, 110]


@pytest.mark.parametrize("name", preset_names(readings=True))
def test_a_description_survives_yaml_and_json(name):
    described = preset(name)
    assert parse_architecture(write_architecture(described), name) == described
    assert Architecture.model_validate(json.loads(described.model_dump_json())) == described


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stride: 2, activation: relu", "strid: 2", "encoder.0.strid: unknown key; did you mean 'stride'?"),
        ("latent_dim: 12", "latent_dmi: 12", "latent_dmi: unknown key; did you mean 'latent_dim'?"),
        ("how: bilinear", "how: bicubic", "decoder.2.how: input should be 'nearest', 'bilinear'"),
        ("layer: pool, how: max", "how: max", "encoder.1: says no layer"),
        ("layer: pool,", "layer: pol,", "encoder.1: input tag 'pol' found using"),
        ("filters: 4", "filters: 0", "encoder.0.filters"),
        ("filters: 4", "filters: 999999999", "encoder.0.filters"),
        ("kernel", "kernel", ""),
        ("name: mine", "", "name: missing"),
        ("name: mine", "name: mine\nname: other", "key 'name' is there twice in line 3"),
        ("name: mine", "name: mine\nformat: 2", "format 2 is newer than 1"),
        ("name: mine", "name: mine\ncode: {kind: map, activation: selu}", "code.activation: unknown key"),
        (
            "name: mine",
            "name: !!python/object/apply:os.system [ls]",
            "not YAML: could not determine a constructor",
        ),
        ("- {layer: flatten}", "- &a {layer: flatten}\n- *a", "aliases (*name) are not used"),
        ("latent_dim: 12", "latent_dim: .nan", "latent_dim"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(old, new, message):
    source = MINE.replace(old, new)
    if old == new:
        parse_architecture(source, "mine.yaml")
        return
    with pytest.raises(UsageError) as caught:
        parse_architecture(source, "mine.yaml")
    assert str(caught.value.message).startswith("mine.yaml: ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("source", ["", "[]", "a: [", "x" * 10, "[" * 10_000])
def test_what_is_no_network_is_refused(source):
    with pytest.raises(UsageError, match=r"x\.yaml: "):
        parse_architecture(source, "x.yaml")


def test_files_that_are_not_there_or_no_text(tmp_path):
    with pytest.raises(UsageError, match="no network 'thesis-a99'; did you mean 'thesis-a9'"):
        load_architecture("thesis-a99")
    with pytest.raises(UsageError, match="No such file"):
        load_architecture("there-is-none.yaml")
    binary = tmp_path / "x.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_architecture(binary)
    binary.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(UsageError, match="larger than"):
        load_architecture(binary)


# Patch sizes.


@pytest.mark.parametrize(
    ("name", "patch", "near"),
    [
        ("thesis-a8", 100, "patches of 96 x 96 or 104 x 104 pixels"),
        ("thesis-a1", 100, "patches of 64 x 64 or 128 x 128 pixels"),
        ("platos", 128, "patches of 124 x 124 or 132 x 132 pixels"),
        ("report-net1", 66, "patches of 64 x 64 or 72 x 72 pixels"),
        ("report-fcae", 68, "patches of 64 x 64 or 72 x 72 pixels"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_with_sizes_that_do(name, patch, near):
    with pytest.raises(UsageError) as caught:
        plan(preset(name), patch=patch, latent_dim=None if name in ("platos", "report-fcae") else 16)
    assert caught.value.message.startswith(
        f"network {name} does not fit patches of {patch} x {patch} pixels: "
    )
    assert caught.value.hint == near


def test_platos_returns_its_size_for_4_modulo_8_only():
    fitting = []
    for n in range(8, 64):
        try:
            fitting.append((n, plan(preset("platos"), patch=n).decoder[-1].outputs))
        except UsageError:
            continue
    assert fitting == [(n, (n, n, 1)) for n in range(12, 64, 8)]


def test_the_reshape_grows_with_the_patch():
    assert plan(preset("report-net1"), patch=128, latent_dim=8).decoder[1].outputs == (16, 16, 64)
    # Harwood's spreads the code: 1024 numbers on 8 x 8 pixels are 16 channels.
    assert plan(preset("harwood"), patch=64).decoder[0].outputs == (8, 8, 16)
    with pytest.raises(UsageError, match="100 numbers do not fill 8 x 8 pixels") as caught:
        plan(preset("harwood"), patch=64, latent_dim=100)
    assert caught.value.hint == "give a multiple of 64, for example --latent-dim 64"


def test_unpooling_restores_odd_sides():
    network = plan(preset("unpool"), patch=36)  # 36, 18, 9, 4 and back
    assert [s.outputs[0] for s in network.decoder] == [9, 9, 18, 18, 36, 36]
    assert network.needs_indices


def test_sides_that_are_not_equal():
    network = plan(preset("thesis-a8"), patch=(32, 64), latent_dim=16)
    assert network.decoder[1].outputs == (4, 8, 32)
    assert network.decoder[-1].outputs == (32, 64, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dense", {"patch": 4, "latent_dim": 49}, "longer than the patch, which has 48 numbers"),
        (
            "platos",
            {"latent_dim": 64},
            "has a latent vector of 128, not 64: it is the encoder's map of 4 x 4 x 8",
        ),
        ("platos", {"variational": True}, "has no variance; use a dense code"),
        ("unpool", {"variational": True}, "has no variance"),
    ],
)
def test_sizes_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        plan(preset(name), **options)


@pytest.mark.parametrize("options", [{"patch": 0}, {"bands": 0}, {"latent_dim": 0}, {"out_bands": -1}])
def test_numbers_below_one_are_the_callers_mistake(options):
    with pytest.raises(ValueError, match="at least 1"):
        plan(preset("thesis-a8"), **options)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "- {layer: flatten}\n",
            "",
            "a dense code needs a vector, the encoder gives 8 x 8 x 4; end with flatten",
        ),
        (
            "- {layer: flatten}",
            "- {layer: flatten}\n- {layer: conv, filters: 2}",
            "encoder.3 .conv.: it needs an image",
        ),
        ("- {layer: flatten}", "- {layer: dense, units: 3}", "put flatten before it"),
        ("- {layer: dense}", "- {layer: dense, units: 7}", "7 numbers do not fill 8 x 8 pixels"),
        ("- {layer: reshape, channels: 6}", "- {layer: dense, units: 3}", "give units, or let a reshape"),
        ("filters: bands", "filters: 2", "the decoder gives 32 x 32 x 2, not 32 x 32 x 3"),
        ("how: bilinear", "how: unpool", "there is no pool with indices left to undo"),
        ("how: max}", "how: average, indices: true}", "only a maximum has a place to save"),
        ("layer: upsample, how: bilinear", "layer: depth-to-space", "6 channels do not make squares of 2"),
        (
            "how: max}",
            "how: max, size: 16}\n- {layer: pool, how: max}",
            "nothing is left of 1 x 1 x 4 after encoder.2",
        ),
        ("latent_dim: 12\n", "", "it has no latent_dim of its own"),
    ],
)
def test_layers_that_do_not_follow_each_other_are_named(old, new, message):
    with pytest.raises(UsageError, match=message):
        plan(mine(one=(old, new)), patch=32)


def test_other_activations():
    relu = preset("thesis-a8").with_activation("relu")
    assert [getattr(p, "activation", None) for p in relu.encoder] == ["relu"] * 3 + [None]
    found = [getattr(p, "activation", None) for p in relu.decoder]
    assert found == ["linear", None, "relu", "relu", "sigmoid"]
    linear = preset("dense").with_output("linear")
    assert [getattr(p, "activation", None) for p in linear.decoder] == ["relu", "linear", None]
    assert mine(one=("activation: sigmoid", "batch_norm: true")).output_place is None
    with pytest.raises(ValueError, match="ends with no activation"):
        mine(one=("activation: sigmoid", "batch_norm: true")).with_output("linear")


@pytest.mark.parametrize("n", range(1, 40))
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (1, 2), (2, 2), (4, 3)])
def test_sides_of_convolutions_count_the_places_of_the_kernel(n, kernel, stride):
    same = Conv(filters=1, kernel=kernel, stride=stride)
    valid = Conv(filters=1, kernel=kernel, stride=stride, padding="valid")
    assert side_after(same, n) == len(range(0, n, stride))
    if n >= kernel:
        assert side_after(valid, n) == len(range(0, n - kernel + 1, stride))


# The table, and the command that prints it.


def test_the_table_of_one_network():
    document, text = describe_networks("thesis-a8", latent_dim=128)
    assert document["parameters"] == 3_166_211
    assert document["layers"][3] == {
        "name": "encoder.3",
        "layer": "flatten",
        "output": [8192],
        "parameters": 0,
    }
    assert (
        "  encoder.0  conv 3x3 stride 2, selu                  64 x 64 x 8         224" in text.splitlines()
    )
    assert text.splitlines()[-1].startswith("  trainable parameters 3,166,211: encoder 2,")
    assert json.loads(json.dumps(document)) == document


def test_the_table_of_all_networks():
    rows, text = describe_networks()
    assert [row["name"] for row in rows] == list(preset_names())
    assert {row["name"]: row["parameters"] for row in rows}["thesis-a11"] == 100_708_259
    assert "100,708,259" in text
    rows, text = describe_networks(patch=100, latent_dim=64)
    refused = {row["name"] for row in rows if row["problem"]}
    assert {"thesis-a1", "platos", "report-fcae"} < refused
    assert "residual" not in refused
    assert "does not fit patches of 100 x 100 pixels" in text


def test_every_layer_has_words():
    for name in preset_names():
        for layer in preset(name).encoder + preset(name).decoder:
            assert layer_text(layer)
    assert layer_text(preset("platos").decoder[4]) == "conv 3x3, valid, relu"
    assert layer_text(preset("unpool").encoder[1]) == "max pool 2x2, indices saved"


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """Two packages as pip would lay them down: one whose encoder has networks, one without."""
    monkeypatch.syspath_prepend(str(tmp_path))
    info = tmp_path / "netted-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: netted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[geoae.encoders]\nnetted = geoae_torch.nowhere:Encoder\nplain = geoae_pca:PCAEncoder\n"
        "broken = netted_broken:Encoder\n"
    )
    (tmp_path / "netted_broken.py").write_text("raise RuntimeError('no')")


def run(*arguments):
    return CliRunner().invoke(app, ["networks", *arguments])


def test_the_command_lists_networks(offered):
    done = run("--plugin", "netted", "--json")
    assert done.exit_code == 0
    assert len(json.loads(done.stdout)) == len(preset_names())
    done = run("report-net1", "--plugin", "netted", "--latent-dim", "1000", "--json")
    assert json.loads(done.stdout)["parameters"] == 12_651_867
    done = run("thesis-a8", "--plugin", "netted", "--form", "plain")
    assert "trainable parameters 16,798,467" in done.stdout
    done = run("platos", "--plugin", "netted", "--yaml")
    assert parse_architecture(done.stdout, "-") == preset("platos")


def test_the_command_refuses_in_one_line(offered):
    assert isinstance(run("thesis-a8", "--plugin", "netted", "--patch", "100").exception, UsageError)
    assert isinstance(run("--plugin", "netted", "--yaml").exception, UsageError)
    error = run("--plugin", "plain").exception
    assert isinstance(error, UsageError)
    assert "plain has no networks to list" in error.message
    error = run("--plugin", "broken").exception
    assert isinstance(error, PluginError)
    assert "RuntimeError: no" in error.message
