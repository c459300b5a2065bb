"""The study: what its claims measure, by hand; its page; and a tiny run from end to end."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from test_sweeps import sections

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the study is not installed

from studies import __main__ as command  # noqa: E402
from studies import blocks  # noqa: E402
from studies import place as places  # noqa: E402
from studies.claims.invariance import shifted  # noqa: E402
from studies.claims.locality import perturbed, spilled  # noqa: E402
from studies.claims.spaces import permuted  # noqa: E402
from studies.page import BEGIN, END, write_page  # noqa: E402
from studies.place import Finding, Place, judged  # noqa: E402
from studies.sizes import SIZES  # noqa: E402


def test_a_shift_moves_the_window():
    wide = sections(np.arange(36).reshape(1, 1, 6, 6))
    assert shifted(wide, 2, 0, 0).image[0, 0].tolist() == [[14, 15], [20, 21]]
    assert shifted(wide, 2, -1, 2).image[0, 0].tolist() == [[10, 11], [16, 17]]


def test_a_corner_is_that_of_another_section():
    some = sections(np.stack([np.full((1, 8, 8), v) for v in (0.0, 1.0, 2.0)]))
    changed = perturbed(some).image
    assert changed[:, 0, 0, 0].tolist() == [2, 0, 1]
    assert (changed != some.image).sum() == 3 * 4
    assert spilled(some.image, changed).tolist() == [0, 0, 0]


def test_shuffled_pixels_keep_their_colours():
    image = np.random.default_rng(0).random((2, 3, 4, 4))
    some = sections(image)
    mixed = permuted(some)
    for before, after in zip(some.image, mixed.image, strict=True):
        assert not np.array_equal(before, after)
        colours = [sorted(map(tuple, x.reshape(3, -1).T.tolist())) for x in (before, after)]
        assert colours[0] == colours[1]


def test_no_training_patch_touches_a_block_that_is_held_out():
    corner = np.array([(y, x) for y in range(0, 1921, 64) for x in range(0, 2433, 64)])
    train, block = blocks.held_out(corner, (2048, 2560))
    chosen = np.unique(block[block >= 0])
    assert len(chosen) == 5  # a quarter of 4 x 5
    assert (np.bincount(block[block >= 0])[chosen] == 16).all()
    held_out = np.zeros((2048, 2560), bool)
    for y, x in corner[block >= 0]:
        assert not held_out[y : y + 128, x : x + 128].any()  # tiles do not overlap
        held_out[y : y + 128, x : x + 128] = True
    assert held_out.sum() == 5 * 512**2
    for (y, x), trains in zip(corner, train, strict=True):
        assert trains == (not held_out[y : y + 128, x : x + 128].any())


def test_the_table_of_blocks_is_beside_pca(tmp_path):
    book = tmp_path / "book.jsonl"
    image = np.random.default_rng(0).random((9, 1, 16, 16)).astype(np.float32)
    some = sections(image)
    trials = [("pca", 2, 0, 0), ("dense", 2, 1, 0), ("dense", 2, 1, 1)]
    blocks.run(book, some, some, trials)
    lines = blocks.lines_of(book)
    assert [tuple(line["trial"]) for line in lines] == trials
    blocks.run(book, some, some, trials)
    assert blocks.lines_of(book) == lines  # none is made again
    head, _, dense, pca = blocks.table(lines).splitlines()
    assert head.count("|") == dense.count("|") == pca.count("|")
    assert dense.startswith("| 2 | `dense`, 1 steps | 2 | .")
    assert " %" in dense
    more = np.mean([line["mae"] for line in lines[1:]]) / np.mean(lines[0]["mae"]) - 1
    assert f"{more:+.1%}".replace("%", " %") in dense
    assert pca.startswith("| 2 | PCA | 1 | .")
    assert "%" not in pca


def test_networks_that_learned_nothing_decide_nothing(tmp_path):
    place = Place(tmp_path, "us3d", SIZES["tiny"], "tiny", lambda *_: None)
    held_out = sections([[[[0.0, 1.0]]]])  # its mean colour is 0.5 away everywhere
    learned, pca = {"parameters": 1.0, "mae": 0.4}, {"mae": 0.9}
    assert place.guarded("confirmed", [learned, pca], held_out) == "confirmed"
    assert place.guarded("confirmed", [learned, {**learned, "mae": 0.6}], held_out).startswith("not decided")
    assert judged(0.1, 0.2) == "refuted"


def test_the_page_keeps_what_stands_around_the_findings(tmp_path):
    found = tmp_path / "study" / "findings" / "tiny"
    found.mkdir(parents=True)
    said = Finding(
        "latent", "us3d", "Claim X: so?", "They: so.", "refuted", "Not so.", "| a |\n|---|", ("n",)
    )
    (found / "latent-us3d.json").write_text(json.dumps(vars(said)))
    page = tmp_path / "study.md"
    page.write_text(f"# Study\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")
    assert write_page(tmp_path / "study", "tiny", page, ["latent", "d7-noise"]) == ["d7-noise"]
    text = page.read_text()
    assert text.startswith("# Study\n\nBefore.")
    assert text.endswith("After.\n")
    assert "old" not in text
    assert "| [X: so?](#claim-x-so) | the synthetic US3D | refuted |" in text
    assert "*Refuted.* Not so." in text
    assert "Not run yet at this size: d7-noise." in text
    before = page.read_bytes()
    write_page(tmp_path / "study", "tiny", page, ["latent", "d7-noise"])
    assert page.read_bytes() == before


def test_unknown_parts_are_refused(capsys):
    assert command.main(["--only", "c99"]) == 2
    assert "there is no part 'c99'" in capsys.readouterr().err


def test_data_that_are_not_at_hand_are_skipped_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GEOAE_REALDATA", str(tmp_path / "nowhere"))
    arguments = ["--size", "tiny", "--data", "autzen", "--folder", str(tmp_path), "--no-page"]
    assert command.main(arguments) == 0
    assert "autzen skipped: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_tiny_study(tmp_path, capsys, monkeypatch):
    """Some parts from end to end, and again, when nothing is trained."""
    page = tmp_path / "page.md"
    parts = "c2-shift,d7-noise,c6-amounts"
    arguments = ["--size", "tiny", "--data", "us3d", "--folder", str(tmp_path / "s"), "--page", str(page)]
    assert command.main([*arguments, "--only", parts]) == 0
    first = page.read_bytes()
    pictures = {p.name: p.stat().st_size for p in (tmp_path / "page").iterdir()}
    assert set(pictures) == {"c2-shift-us3d.png", "c6-amounts-us3d.png"}
    assert max(pictures.values()) < 100_000

    def fail(*_args, **_kwargs):
        pytest.fail("a training was made again")

    monkeypatch.setattr("geoae.sweeps.trials.fit_encoder", fail)
    assert command.main([*arguments, "--only", parts]) == 0
    assert page.read_bytes() == first
    assert "us3d: d7-noise" in capsys.readouterr().out
    assert places.DATA_SETS["us3d"] in first.decode()
