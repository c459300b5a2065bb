"""The presets are the documents' networks: every size and count that they print or that follows from them.

Needs no torch.
"""

import pytest

from geoae_torch.architecture import Conv, Dense, DenseCode, Input, MapCode, TransposedConv
from geoae_torch.presets import preset, preset_names
from geoae_torch.shapes import plan

THESIS = {
    1: 3_935_651,
    2: 9_440_579,
    3: 6_492_195,
    4: 13_374_019,
    5: 12_638_051,
    6: 25_370_819,
    7: 12_592_195,  # by the column of output sizes; the text's filters would be network 8
    8: 25_188_099,
    9: 25_202_019,
    10: 50_397_187,
    11: 100_708_259,
    12: 25_188_099,
    13: 50_397_187,
    14: 25_188_099,
    15: 50_397_187,
    16: 6_841_123,
    17: 25_209_347,
    18: 25_200_251,
}

# Side x channels of every layer, from the thesis' tables: the encoder's, and the decoder's from its reshape.
THESIS_SIZES = {
    1: ("64x8 32x16 16x32 8x64 4x128 2x256", "2x256 4x128 8x64 16x32 32x16 64x8 128x3"),
    2: ("64x16 32x32 16x64 8x128 4x256 2x512", "2x512 4x256 8x128 16x64 32x32 64x16 128x3"),
    3: ("64x8 32x16 16x32 8x64 4x128", "4x128 8x64 16x32 32x16 64x8 128x3"),
    4: ("64x16 32x32 16x64 8x128 4x256", "4x256 8x128 16x64 32x32 64x16 128x3"),
    5: ("64x8 32x16 16x32 8x64", "8x64 16x32 32x16 64x8 128x3"),
    6: ("64x16 32x32 16x64 8x128", "8x128 16x64 32x32 64x16 128x3"),
    7: ("64x4 32x8 16x16", "16x16 32x8 64x4 128x3"),
    8: ("64x8 32x16 16x32", "16x32 32x16 64x8 128x3"),
    9: ("64x8 32x16 32x16 32x16 32x16 16x32", "16x32 32x16 32x16 32x16 32x16 64x8 128x3"),
    10: ("64x16 32x32 16x64", "16x64 32x32 64x16 128x3"),
    11: ("64x16 32x32", "32x32 64x16 128x3"),
    12: ("128x8 64x8 64x16 32x16 32x32 16x32", "16x32 32x16 64x8 128x3"),
    13: ("128x16 64x16 64x32 32x32 32x64 16x64", "16x64 32x32 64x16 128x3"),
    14: ("128x8 64x8 64x16 32x16 32x32 16x32", "16x32 32x16 64x8 128x3"),
    15: ("128x16 64x16 64x32 32x32 32x64 16x64", "16x64 32x32 64x16 128x3"),
    16: ("64x8 32x16 16x32 8x64 4x128", "4x128 8x64 16x32 32x16 64x8 128x3"),
    17: ("64x8 32x16 16x32", "16x32 32x16 64x8 128x3"),
    18: ("128x8 64x8 64x16 32x16 32x32 16x32", "16x32 32x16 64x8 128x3"),
}

FLATTENED = {
    1: 1024,
    2: 2048,
    3: 2048,
    4: 4096,
    5: 4096,
    6: 8192,
    7: 4096,
    8: 8192,
    9: 8192,
    10: 16_384,
    11: 32_768,
    12: 8192,
    13: 16_384,
    14: 8192,
    15: 16_384,
    16: 2048,
    17: 8192,
    18: 8192,
}


def sizes(steps):
    return " ".join(f"{s.outputs[0]}x{s.outputs[2]}" for s in steps if len(s.outputs) == 3)


@pytest.mark.parametrize("number", range(1, 19))
def test_the_thesis_networks_have_its_sizes_and_counts(number):
    network = plan(preset(f"thesis-a{number}"))
    assert (network.patch, network.bands, network.latent_dim) == ((128, 128), 3, 1024)
    assert network.variational
    assert network.parameters == THESIS[number]
    assert sizes(network.encoder) == THESIS_SIZES[number][0]
    assert sizes(network.decoder) == THESIS_SIZES[number][1]
    assert network.encoder[-1].outputs == (FLATTENED[number],)
    assert network.decoder[0].outputs == (FLATTENED[number],)


@pytest.mark.parametrize("number", range(1, 19))
def test_the_thesis_layers_are_what_its_tables_say(number):
    described = preset(f"thesis-a{number}")
    kernels = {
        p.kernel for p in described.encoder + described.decoder if isinstance(p, Conv | TransposedConv)
    }
    assert kernels == {5 if number in (16, 17) else 3}
    activations = [getattr(p, "activation", None) for p in described.encoder + described.decoder]
    assert activations[-1] == "sigmoid"
    assert {a for a in activations[:-1] if a} == {"selu", "linear"}  # linear: the decoder's dense layer
    pools = {p.how for p in described.encoder if p.layer == "pool"}
    assert pools == {12: {"average"}, 13: {"average"}, 14: {"max"}, 15: {"max"}}.get(number, set())
    strides = [p.stride for p in described.encoder if isinstance(p, Conv)]
    expected = {9: [2, 2, 1, 1, 1, 2], 18: [1, 2, 1, 2, 1, 2]}
    plain = 1 if number in (12, 13, 14, 15) else 2
    assert strides == expected.get(number, [plain] * len(strides))


def test_other_sizes_of_the_thesis_network_8():
    described = preset("thesis-a8")
    assert plan(described, latent_dim=128).parameters == 3_166_211
    assert plan(described, latent_dim=50).parameters == 1_249_127
    assert plan(described, bands=8).parameters == 25_188_824
    # 3 in, 8 out: as 8 in and out, less 5 bands of the first convolution.
    assert plan(described, out_bands=8).parameters == 25_188_824 - 9 * 5 * 8
    # The vanilla autoencoder beside it has one head less.
    assert plan(described, variational=False).parameters == 25_188_099 - (8192 * 1024 + 1024)


def test_the_reading_of_the_thesis_text_differs_in_one_activation_and_the_initialisation():
    code, text = preset("thesis-a8"), preset("thesis-a8-text")
    assert plan(code).parameters == plan(text).parameters
    assert (code.initialiser, text.initialiser) == ("glorot", "lecun")
    changed = [(a, b) for a, b in zip(code.decoder, text.decoder, strict=True) if a != b]
    assert changed == [(Dense(), Dense(activation="selu"))]
    assert code.encoder == text.encoder


def test_harwood():
    network = plan(preset("harwood"))
    assert (network.encoder_parameters, network.decoder_parameters) == (2_093_888, 1_587_011)
    assert [s.parameters for s in network.encoder if s.parameters] == [
        896,
        18_496,
        73_856,
        295_168,
        1_180_160,
    ]
    assert network.heads[0].parameters == 525_312
    assert sizes(network.encoder) == "128x32 64x32 64x64 32x64 32x128 16x128 16x256 8x256 8x512"
    assert network.encoder[-1].outputs == (512,)
    assert sizes(network.decoder) == "16x4 16x512 32x512 32x256 64x256 64x128 128x128 128x64 128x32 128x3"
    expected = [18_944, 1_179_904, 295_040, 73_792, 18_464, 867]
    assert [s.parameters for s in network.decoder if s.parameters] == expected
    assert preset("harwood").code == DenseCode(activation="selu")
    assert preset("harwood").initialiser == "lecun"


def test_platos():
    network = plan(preset("platos"))
    assert network.parameters == 43_409
    expected = [640, 18_464, 2_312, 584, 2_336, 18_496, 577]
    assert [s.parameters for s in network.steps if s.parameters] == expected
    assert sizes(network.encoder) == "28x64 14x64 14x32 7x32 7x8 4x8"
    assert sizes(network.decoder) == "4x8 8x8 8x32 16x32 14x64 28x64 28x1"
    assert (network.latent_dim, network.heads) == (128, ())


@pytest.mark.parametrize(
    ("number", "count", "decoder"),
    [
        (1, 50_704_803, "8x64 16x64 32x32 64x16 64x3"),
        (2, 50_704_803, "8x64 8x64 16x64 16x32 32x32 32x16 64x16 64x3"),
        (3, 50_680_971, "8x64 16x32 16x32 32x16 32x16 64x8 64x8 64x3"),
    ],
)
def test_the_report_networks(number, count, decoder):
    network = plan(preset(f"report-net{number}"))
    assert network.parameters == count
    assert sum(s.parameters for s in network.encoder) == 287_904
    assert network.heads[0].parameters == 33_566_720
    assert sizes(network.encoder) == "64x32 64x32 32x32 32x64 32x64 16x64 16x128 16x128 8x128"
    assert sizes(network.decoder) == decoder
    normed = [p for p in preset(f"report-net{number}").decoder if p.layer in ("dense", "transposed-conv")]
    assert all(p.batch_norm for p in normed)


@pytest.mark.parametrize(
    ("length", "count"),
    [
        (1000, 12_651_867),
        (64, 1_147_491),
        (128, 1_934_115),
        (256, 3_507_363),
        (512, 6_653_859),
        (1024, 12_946_851),
        (2048, 25_532_835),
        (4096, 50_704_803),
    ],
)
def test_the_report_network_1_at_its_latent_sizes(length, count):
    assert plan(preset("report-net1"), latent_dim=length).parameters == count


def test_the_report_fully_convolutional_network():
    network = plan(preset("report-fcae"))
    assert network.parameters == 134_403
    assert (network.encoder_parameters, network.decoder_parameters) == (110_016, 24_387)
    assert network.code_shape == (8, 8, 64)
    assert network.latent_dim == 4096
    assert sizes(network.decoder) == "16x32 32x16 64x8 64x3"
    assert network.decoder[-1].layer.kernel == 1


def test_the_dense_and_the_recurrent_network():
    dense = plan(preset("dense"))
    inputs = 128 * 128 * 3
    assert dense.parameters == (
        (inputs * 256 + 256) + (256 * 64 + 64) + (64 * 256 + 256) + (256 * inputs + inputs)
    )
    assert dense.decoder[-1].outputs == (128, 128, 3)
    recurrent = plan(preset("recurrent"))
    # A gated recurrent unit has three gates with kernel, recurrent kernel and two biases.
    encoder, decoder = 3 * (384 * 256 + 256 * 256 + 512), 3 * (64 * 256 + 256 * 256 + 512)
    assert recurrent.parameters == encoder + (256 * 64 + 64) + decoder + (256 * 384 + 384)
    assert [s.outputs for s in recurrent.steps] == [(256,), (64,), (128, 256), (128, 384), (128, 128, 3)]


def test_what_the_documents_were_for():
    inputs = {name: preset(name).input for name in preset_names()}
    assert inputs["platos"] == Input(patch=28, bands=1)
    assert {n for n, size in inputs.items() if size.patch == 64} == {
        "report-net1",
        "report-net2",
        "report-net3",
        "report-fcae",
    }
    maps = {name for name in preset_names() if isinstance(preset(name).code, MapCode)}
    assert maps == {"platos", "report-fcae", "unpool"}


def test_names():
    names = preset_names()
    assert names[:2] == ("principal", "residual")
    assert [n for n in names if n.startswith("thesis")] == [f"thesis-a{n}" for n in range(1, 19)]
    assert "thesis-a3-text" not in names
    assert set(preset_names(readings=True)) - set(names) == {f"thesis-a{n}-text" for n in range(1, 19)}
    assert all(preset(name).name == name for name in preset_names(readings=True))
    assert all(preset(name).title and preset(name).source for name in names)


def test_ours_ends_with_squares_that_overlap_evenly():
    network = plan(preset("residual"))
    assert network.parameters == 1_637_843
    assert sizes(network.encoder) == "32x24 16x32 16x32"
    assert sizes(network.decoder) == "16x32 16x32 32x24 128x3 128x3"
    last = network.decoder[-2].layer
    assert (last.kernel, last.stride) == (8, 4)


@pytest.mark.parametrize("patch", [16, 37, 64, 100, 128, 256])
def test_ours_takes_every_patch(patch):
    network = plan(preset("residual"), patch=patch, bands=5, latent_dim=16)
    assert network.decoder[-1].outputs == (patch, patch, 5)
