"""The template of a foreign encoder: installed as a stranger would, found, checked and used."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
import numpy as np
from geoae.encoder import FitContext
from geoae.registry import describe, encoder_info, list_encoders, load_encoder, parse_options
from geoae.testing import ArrayPatches, check_encoder

listed = [info.name for info in list_encoders()]
imported = "band_statistics" in sys.modules
info = encoder_info("band-statistics")
kind = load_encoder("band-statistics")
check_encoder(kind)
check_encoder(kind, config=parse_options(kind, {"latent-dim": "64", "gradients": "no"}))
image = np.zeros((2, 1, 2, 2), np.float32)
image[0, 0] = [[1, 3], [1, 3]]
valid = np.ones(image.shape, bool)
image[1, 0] = [[5, 0], [9, 0]]
valid[1, 0, :, 1] = False
encoder = kind(parse_options(kind, {}))
report = encoder.fit(ArrayPatches(image, valid), FitContext())
z = encoder.transform(ArrayPatches(image, valid).batch())
print(json.dumps({
    "listed": listed, "imported": imported, "distribution": info.distribution, "version": info.version,
    "options": [option.name for option in describe(kind)], "z": z.tolist(), "notes": report.notes,
    "file": sys.modules["band_statistics"].__file__,
}))
"""


@pytest.fixture(scope="module")
def answer(tmp_path_factory, repository: Path) -> dict:
    """What a process says that has the template installed."""
    folder = tmp_path_factory.mktemp("template")
    source, target = folder / "source", folder / "installed"
    # Building leaves files behind; the checkout stays clean.
    shutil.copytree(repository / "examples" / "encoder_template", source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run([*pip, *options], check=True, capture_output=True, text=True, cwd=folder)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "target": str(target)}


def test_it_is_listed_beside_the_built_in_encoders_without_being_imported(answer):
    assert {"band-statistics", "pca", "random-projection"} <= set(answer["listed"])
    assert not answer["imported"]
    assert (answer["distribution"], answer["version"]) == ("band-statistics-encoder", "0.1.0")
    assert answer["options"] == ["latent-dim", "seed", "gradients"]


def test_what_was_installed_is_what_was_used(answer):
    assert answer["file"].startswith(answer["target"])


def test_its_numbers_are_those_worked_out_by_hand(answer):
    # Patch 0: mean 2, deviation 1, steps of 2. Patch 1, two valid pixels: mean 7, deviation 2, no step.
    # Over the two patches these deviate by 2.5, 0.5 and 1.
    assert answer["z"][0] == pytest.approx([2 / 2.5, 1 / 0.5, 2 / 1])
    assert answer["z"][1] == pytest.approx([7 / 2.5, 2 / 0.5, 0 / 1])
    assert answer["notes"] == ["latent size reduced from 64 to 3: there are no more statistics"]


def test_the_readme_names_files_that_are_there(repository):
    folder = repository / "examples" / "encoder_template"
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        "README.md",
        "band_statistics.py",
        "pyproject.toml",
    ]
