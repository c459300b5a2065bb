"""Finding encoders through the metadata of packages that are really there, on a path of their own."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from geoae.encoder import Encoder, EncoderConfig
from geoae.errors import PluginError, UsageError
from geoae.registry import check_class, describe, encoder_info, list_encoders, load_encoder, parse_options

GOOD = """
from geoae_pca import RandomProjectionEncoder

class Good(RandomProjectionEncoder):
    pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lay down a package as pip would: a module and a dist-info folder on the import path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def lay(distribution: str, entry: str, source: str = "", requires: str = "") -> None:
        module = entry.partition("=")[2].partition(":")[0].strip()
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n{requires}"
        )
        (info / "entry_points.txt").write_text(f"[geoae.encoders]\n{entry}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return lay


def names() -> list[str]:
    return [info.name for info in list_encoders()]


def test_the_built_in_encoders_come_through_the_same_door():
    found = {info.name: info for info in list_encoders()}
    assert found["pca"].distribution == "geoae"
    assert found["pca"].target == "geoae_pca:PCAEncoder"
    assert found["pca"].available
    assert load_encoder("pca").__name__ == "PCAEncoder"
    assert load_encoder("random-projection").__name__ == "RandomProjectionEncoder"


def test_a_stranger_is_listed_and_loaded(install):
    install("stranger", "their-own = stranger_one:Good", GOOD)
    info = encoder_info("their-own")
    assert (info.distribution, info.version, info.target) == ("stranger", "1.2", "stranger_one:Good")
    assert load_encoder("their-own").__module__ == "stranger_one"
    assert names() == sorted(names())


def test_listing_imports_nothing(install):
    install("stranger", "explosive = stranger_two:Good", "raise SystemExit('imported')")
    assert "explosive" in names()
    assert "stranger_two" not in sys.modules
    code = (
        "import sys; from geoae.registry import list_encoders; list_encoders(); "
        "print([m for m in ('geoae_pca', 'torch', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise RuntimeError('line one\\nline two')", "RuntimeError: line one line two"),
        ("raise SystemExit('no licence')", "SystemExit: no licence"),
        ("other = 1", "AttributeError: module 'stranger_three' has no attribute 'Good'"),
        ("def broken(:", "SyntaxError"),
        ("Good = 7", "no subclass of geoae.encoder.Encoder"),
        ("class Good: pass", "no subclass of geoae.encoder.Encoder"),
        (
            GOOD + "    contract_version = 2",
            "written for version 2 of the plugin contract, this is version 1",
        ),
        (GOOD + "    Config = None", "has no Config"),
        (GOOD + "    Config = dict", "has no Config"),
        (
            "from geoae.encoder import Encoder\nclass Good(Encoder): pass",
            "does not implement fit, load, save, transform",
        ),
        (
            "from pydantic import ConfigDict\nfrom geoae.encoder import EncoderConfig\n"
            "class Loose(EncoderConfig):\n    model_config = ConfigDict(extra='allow')\n"
            + GOOD
            + "    Config = Loose",
            "not frozen or accepts unknown options",
        ),
    ],
)
def test_a_broken_plugin_is_one_line_that_names_it(install, source, message):
    install("stranger", "broken = stranger_three:Good", source)
    assert "broken" in names()
    with pytest.raises(PluginError, match=r"encoder broken of stranger 1\.2") as caught:
        load_encoder("broken")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert load_encoder("pca")  # the others still work


def test_two_packages_of_one_name_are_reported_and_neither_is_used(install):
    install("first-package", "twin = stranger_four:Good", GOOD)
    install("second-package", "twin = stranger_five:Good", GOOD)
    found = [info for info in list_encoders() if info.name == "twin"]
    assert [info.distribution for info in found] == ["first-package", "second-package"]
    assert not any(info.available for info in found)
    with pytest.raises(PluginError, match="offered by first-package and by second-package"):
        load_encoder("twin")


def test_a_stranger_cannot_take_the_name_of_a_built_in(install):
    install("impostor", "pca = stranger_six:Good", GOOD)
    with pytest.raises(PluginError, match="offered by geoae and by impostor"):
        load_encoder("pca")


def test_one_package_found_twice_is_one(install, tmp_path, monkeypatch):
    install("stranger", "their-own = stranger_one:Good", GOOD)
    second = tmp_path / "second"
    second.mkdir()
    info = second / "stranger-1.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Stranger\nVersion: 1.1\n")
    (info / "entry_points.txt").write_text("[geoae.encoders]\ntheir-own = stranger_one:Good\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(second)])
    assert [(i.name, i.version) for i in list_encoders() if i.name == "their-own"] == [("their-own", "1.2")]


def test_an_encoder_whose_extra_is_missing_is_listed_with_what_to_install(install):
    requires = (
        "Requires-Dist: numpy\n"
        'Requires-Dist: no-such-package-at-all>=2; extra == "deep"\n'
        'Requires-Dist: another.missing[x] ; python_version > "3" and extra == "other"\n'
        'Requires-Dist: numpy>=1; extra == "small"\n'
    )
    install("stranger", "deep-one = stranger_seven:Good [deep]", GOOD, requires)
    info = encoder_info("deep-one")
    assert info.target == "stranger_seven:Good"
    assert info.problem == "needs no-such-package-at-all"
    assert info.hint == 'pip install "stranger[deep]"'
    with pytest.raises(PluginError, match=r'needs no-such-package-at-all \(pip install "stranger\[deep\]"\)'):
        load_encoder("deep-one")


def test_an_encoder_whose_extra_is_installed_is_available(install):
    install(
        "stranger",
        "small-one = stranger_eight:Good [small]",
        GOOD,
        'Requires-Dist: numpy>=1; extra == "small"\n',
    )
    assert encoder_info("small-one").available
    assert load_encoder("small-one").__name__ == "Good"


def test_an_unknown_name_suggests_known_ones():
    with pytest.raises(
        UsageError, match=r"no encoder 'pcaa' \(did you mean pca\? installed are .*pca"
    ) as caught:
        load_encoder("pcaa")
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=r"no encoder 'zzz' \(installed are"):
        encoder_info("zzz")


class Several(EncoderConfig):
    """Options of every kind."""

    rate: float = Field(0.1, gt=0, description="A number.")
    flag: bool = Field(False, description="A switch.")
    kind: Literal["mean", "none"] = Field("mean", description="A choice.")
    widths: tuple[int, ...] = Field((8, 16), description="A list.")
    limit: int | None = Field(5, description="A number or nothing.")
    label: str = Field("x", description="A word.")


class OfSeveral(Encoder):
    """Not used, only described."""

    Config = Several

    def fit(self, patches, context):
        raise NotImplementedError

    def transform(self, batch):
        raise NotImplementedError

    def save(self, folder: Path):
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path, config):
        raise NotImplementedError


def test_options_are_described_from_the_configuration():
    options = {option.name: option for option in describe(OfSeveral)}
    assert list(options)[:3] == ["latent-dim", "seed", "rate"]
    assert [options[name].type for name in ("latent-dim", "rate", "flag", "kind", "widths", "limit")] == [
        "int",
        "float",
        "bool",
        "mean|none",
        "tuple[int, ...]",
        "int | None",
    ]
    assert options["widths"].default == (8, 16)
    assert options["rate"].description == "A number."
    assert not any(option.required for option in options.values())


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({"latent-dim": "16"}, "latent_dim", 16),
        ({"latent_dim": 16}, "latent_dim", 16),
        ({"--latent-dim": "16"}, "latent_dim", 16),
        ({"rate": "1e-3"}, "rate", 0.001),
        ({"flag": "true"}, "flag", True),
        ({"flag": "no"}, "flag", False),
        ({"kind": "none"}, "kind", "none"),
        ({"widths": "[1, 2, 3]"}, "widths", (1, 2, 3)),
        ({"limit": "none"}, "limit", None),
        ({"limit": "7"}, "limit", 7),
        ({"label": "none"}, "label", "none"),
        ({"label": "[x]"}, "label", "[x]"),
        ({}, "seed", 0),
    ],
)
def test_options_are_read_as_their_type_asks(given, field, expected):
    assert getattr(parse_options(OfSeveral, given), field) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"laten-dim": "3"}, r"OfSeveral has no option --laten-dim \(did you mean --latent-dim\?\)"),
        ({"zzz": "3"}, r"has no option --zzz \(its options are latent-dim, seed, rate"),
        ({"latent-dim": "x"}, r"option --latent-dim: input should be a valid integer.*\(given: 'x'\)"),
        ({"latent-dim": "0"}, r"option --latent-dim: input should be greater than or equal to 1"),
        ({"rate": "-1", "flag": "maybe"}, r"option --rate: .*; option --flag: "),
        ({"kind": "median"}, r"option --kind: input should be 'mean' or 'none' \(given: 'median'\)"),
        ({"widths": "[1, 'x'"}, r"option --widths: input should be a valid tuple"),
        ({"widths": '["x"]'}, r"option --widths at 0: input should be a valid integer"),
        ({"rate": "nan"}, r"option --rate: input should be"),
        ({"latent-dim": "3", "latent_dim": "4"}, r"option --latent-dim is given twice"),
    ],
)
def test_a_wrong_option_is_one_line_with_exit_code_2(given, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_options(OfSeveral, given)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_class_is_checked_without_an_entry_point():
    assert check_class(OfSeveral, "it") is OfSeveral
    with pytest.raises(PluginError, match="it is no subclass"):
        check_class(int, "it")
