"""The doctor: what is there, what is not, which encoder cannot be used and why."""

from importlib import metadata, util

import pytest
from command_line import runner
from fake_encoders import lay

from geoae import doctor
from geoae.doctor import examine


@pytest.fixture
def run(capsys):
    return runner(capsys)


def by_name():
    return {check.name: check for check in examine()}


def test_what_is_installed_is_said_with_its_version():
    checks = by_name()
    for name in ("geoae", "numpy", "zarr", "rasterio", "scikit-learn"):
        assert checks[name].ok
        assert checks[name].found == metadata.version(name)
    assert checks["GDAL"].ok
    assert int(checks["processors"].found) >= 1
    assert "GB free" in checks["disk"].found
    # Everything that the package asks for is looked at, extras are not.
    assert {"affine", "pyogrio", "typer"} <= set(checks)
    assert not {"ruff", "sphinx", "pytest"} & set(checks)


def test_encoders_are_loaded(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "broken_doctor.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(lay(tmp_path / "site", patient="broken_doctor:Encoder"))
    checks = by_name()
    assert checks["pca"].ok
    assert checks["pca"].found.startswith(f"encoder of geoae {metadata.version('geoae')}; 5 options")
    assert checks["means"].found.startswith("encoder of fake-encoders 1.0; 2 options")
    assert not checks["patient"].ok
    assert "ModuleNotFoundError: No module named 'no_such_library'" in checks["patient"].found
    assert checks["patient"].hint == "update or reinstall fake-encoders"
    assert not checks["patient"].required


def test_what_is_missing_is_said_with_how_to_get_it(monkeypatch):
    find_spec = util.find_spec
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None if name == "torch" else find_spec(name))
    check = by_name()["torch"]
    assert not check.ok
    assert check.found == "not installed, for autoencoders"
    assert check.hint == "pip install 'geoae[torch]'"
    extras = metadata.metadata("geoae").get_all("Provides-Extra")
    for _, _, hint in doctor._OPTIONAL:
        assert hint.split("[")[1].split("]")[0] in extras, f"{hint}: there is no such extra"


def test_a_required_package_that_is_missing_is_a_failure(run, monkeypatch):
    version = metadata.version

    def absent(name):
        if name == "pyogrio":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    assert run("doctor").code == 0
    monkeypatch.setattr(doctor.metadata, "version", absent)
    answer = run("doctor")
    assert answer.code == 1
    (line,) = [line for line in answer.out.splitlines() if line.startswith("--") and "pyogrio" in line]
    assert line.endswith("not installed  (pip install pyogrio)")
    (found,) = [check for check in run("doctor", "--json").json if check["name"] == "pyogrio"]
    assert (found["ok"], found["required"]) == (False, True)


def test_a_full_disk_is_said(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5e8}))
    check = by_name()["disk"]
    assert (check.ok, check.found) == (False, "0.5 GB free here")
    assert check.hint
