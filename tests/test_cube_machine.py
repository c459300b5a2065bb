"""Any sequence of commands on a cube, killed anywhere, read meanwhile, against a model in numpy.

Commands run as processes that SIGKILL ends right before their n-th change of the file system. What a
killed command left must be one of the states that it goes through, and the same command ends its work.
"""

import json
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar

import numpy as np
import pytest
from cube_model import Layer, State, World
from cube_scenes import SMALL, scene_pixels, write_scene
from fake_encoders import lay
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from killing import Job, Killer, Outcome

from geoae.chunks import RowReader
from geoae.cube import Cube
from geoae.errors import IncompleteError, IntegrityError, NotACubeError, UsageError
from geoae.ingestion import ingest
from geoae.verification import verify

SIDE = 16
CUBE = "c.zarr"
EXAMPLES = 10

CHANGES = {"ingest": 336, "split": 51, "encode": 145, "summarize": 107, "cluster": 107, "rm": 36}
"""About how many changes a command makes: the last dozens are its commit."""


def moments(command: str) -> st.SearchStrategy[int]:
    """Before which change a command is killed; 0, and a number beyond its last change, let it end."""
    last = CHANGES[command]
    return st.one_of(st.just(0), st.integers(1, last), st.integers(last - 30, last))


names = st.sampled_from(["a", "a", "a", "b"])  # mostly one, so that commands meet what others left


class Cubes(RuleBasedStateMachine):
    """Commands on one cube."""

    killer: ClassVar[Killer]
    world: ClassVar[World]
    folder: ClassVar[Path]
    source: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.here = Path(mkdtemp(dir=self.folder))
        self.digests: dict[tuple[Any, ...], str] = {}
        self.killed = False  # whether something may be unfinished

    # --- commands ---------------------------------------------------------------------------------

    @initialize(there=st.booleans())
    def begin(self, there: bool) -> None:
        if there:
            shutil.copytree(self.folder / "ready", self.here, dirs_exist_ok=True)
            self.state = self.state.with_cube(8)

    @precondition(lambda self: self.state.patch is None or len(self.state.layers) > 2)
    @rule(patch=st.sampled_from([8, 16]), moment=moments("ingest"))
    def ingest(self, patch: int, moment: int) -> None:
        """Replaces a cube and its layers, and what a killed ingest left."""
        arguments = ["ingest", str(self.source), "--catalog", str(self.folder / "small.yaml")]
        arguments += ["--out", CUBE, "--patch", str(patch), "--quiet", "--workers", "2", "--overwrite"]
        self._run(arguments, [self.state, self.state.with_cube(patch)], moment)

    @precondition(lambda self: self.state.patch)
    @rule(seed=st.sampled_from([0, 1]), moment=moments("split"))
    def split(self, seed: int, moment: int) -> None:
        after = self.state.with_layer("splits/default", self.world.split(self.state, seed))
        self._run(["split", "--seed", str(seed), "--overwrite"], [self.state, after], moment)

    @precondition(lambda self: self.state.patch)
    @rule(name=names, size=st.sampled_from([2, 3]), overwrite=st.booleans(), moment=moments("encode"))
    def encode(self, name: str, size: int, overwrite: bool, moment: int) -> None:
        """Makes a split where there is none, a model, the layer; stops at what is there otherwise."""
        states = [self.state]
        if "splits/default" not in self.state.layers:
            states.append(states[-1].with_layer("splits/default", self.world.split(self.state, 0)))
        model = ("model", size, states[-1].layers["splits/default"].identity, self.state.cube)
        path = f"latents/{name}"
        layer = self.world.latents(self.state, model)
        refused = not overwrite and self.state.models.get(name, model) != model
        if not refused:
            states.append(states[-1].with_model(name, model))
            there = self.state.layers.get(path, layer)
            refused = not overwrite and there.identity != layer.identity
        if not refused:
            states.append(states[-1].with_layer(path, layer))
        arguments = ["encode", "--plugin", "constant", "--latent-dim", str(size), "--input", "rgb"]
        arguments += ["--name", name, "--quiet", *["--overwrite"] * overwrite]
        self._run(arguments, states, moment, 2 if refused else 0)

    @precondition(lambda self: self.state.patch)
    @rule(moment=moments("summarize"))
    def summarize(self, moment: int) -> None:
        after = self.state.with_layer("summaries/three", self.world.summary(self.state))
        self._run(["summarize", "--quiet"], [self.state, after], moment)

    @precondition(lambda self: self.state.patch)
    @rule(name=names, k=st.sampled_from([2, 3]), overwrite=st.booleans(), moment=moments("cluster"))
    def cluster(self, name: str, k: int, overwrite: bool, moment: int) -> None:
        path, states, code = f"clusters/{name}", [self.state], 2
        if f"latents/{name}" in self.state.layers:
            layer = self.world.clusters(self.state, name, k)
            there = self.state.layers.get(path, layer)
            if overwrite or there.identity == layer.identity:
                states.append(self.state.with_layer(path, layer))
                code = 0
        arguments = ["cluster", "--latents", name, "--k", str(k), *["--overwrite"] * overwrite]
        self._run(arguments, states, moment, code)

    @precondition(lambda self: self.state.patch)
    @rule(data=st.data(), moment=moments("rm"))
    def remove(self, data: st.DataObject, moment: int) -> None:
        paths = ["latents/a", "clusters/b", *sorted(self.state.layers)]
        path = data.draw(st.sampled_from(paths), "path")
        known = path in self.state.layers
        states = [self.state, self.state.without(path)] if known else [self.state]
        self._run(["rm", path], states, moment, 0 if known else 2)

    # --- what they leave --------------------------------------------------------------------------

    def _run(self, arguments: list[str], states: list[State], moment: int, code: int = 0) -> None:
        """Run a command, perhaps kill it and run it again, reading the cube all the while."""
        job = Job(str(self.here), arguments, moment)
        outcome = self._while_reading(lambda: self.killer.run([job])[0], states)
        if outcome.code == -9:
            self.killed = True
            left = [state for state in states if self._seen(state)]
            assert left, f"after a kill before change {moment}: none of the states that it goes through"
            self.state = left[-1]
            self._verify()
        else:
            assert outcome.code == code, outcome.errors
            assert "Traceback" not in outcome.errors
            self.state = states[-1]

    def _while_reading(self, command: Callable[[], Outcome], states: list[State]) -> Outcome:
        """Run a command in another process; whoever reads meanwhile sees one of the states, whole."""
        outcomes: list[Outcome] = []
        runner = threading.Thread(target=lambda: outcomes.append(command()))
        runner.start()
        layers = [layer for state in states for layer in state.layers.values()]
        known = {self.digests[v.identity]: v for v in layers if v.identity in self.digests}
        while runner.is_alive():
            # A layer may be replaced while it is read: that is an error, never other values.
            with suppress(NotACubeError, IncompleteError, IntegrityError, UsageError):
                cube = Cube.open(self.here / CUBE)
                for info in cube.layers():
                    if info.kind == "latents" and info.digest in known:
                        read = {"z": self._rows(cube, f"{info.path}/z")}
                        if Cube.open(cube).layer_digest(info.path) == info.digest:
                            known[info.digest].check(read)
            runner.join(0.03)
        runner.join()
        return outcomes[0]

    @staticmethod
    def _rows(cube: Cube, name: str) -> np.ndarray:
        array = cube.array(name)
        values = np.empty(array.shape, array.dtype)
        RowReader(cube.location / name, array).read(0, len(values), values)
        return values

    def _seen(self, state: State) -> bool:
        """Say whether the cube shows this state, models included."""
        try:
            cube = Cube.open(self.here / CUBE)
        except (NotACubeError, IncompleteError):
            return state.patch is None
        if cube.patch_size != state.patch:
            return False
        infos = {info.path: info for info in cube.layers()}
        if set(infos) != set(state.layers):
            return False
        made = {digest: identity for identity, digest in self.digests.items()}
        for path, layer in state.layers.items():
            digest = infos[path].digest
            if self.digests.get(layer.identity, digest) != digest:
                return False
            if made.get(digest, layer.identity) != layer.identity:
                return False
        return all(self._fitted(name) == identity[1] for name, identity in state.models.items())

    def _fitted(self, name: str) -> int | None:
        """Latent size of a model beside the cube."""
        path = self.here / f"{CUBE}.models" / name / "model.json"
        return json.loads(path.read_text())["options"]["latent_dim"] if path.exists() else None

    @invariant()
    def the_cube_is_what_the_model_says(self) -> None:
        if self.state.patch is None:
            with pytest.raises((NotACubeError, IncompleteError)):
                Cube.open(self.here / CUBE)
            return
        cube = Cube.open(self.here / CUBE)
        assert cube.patch_size == self.state.patch
        infos = {info.path: info for info in cube.layers()}
        assert set(infos) == set(self.state.layers)
        for path, layer in self.state.layers.items():
            assert set(infos[path].stale) == self.state.stale(path), path
            self._check_layer(cube, infos[path].digest, path, layer)

    def _check_layer(self, cube: Cube, digest: str, path: str, layer: Layer) -> None:
        """Equal work has equal bytes, whatever happened before; the values are those of the model."""
        if self.digests.setdefault(layer.identity, digest) != digest:
            raise AssertionError(f"{path} has other bytes than when it was made before")
        layer.check({name: cube.array(f"{path}/{name}")[...] for name in cube.layer_info(path).variables})

    @precondition(lambda self: self.state.patch)
    @rule()
    def verify(self) -> None:
        """Every pixel is that of the sources, too."""
        cube = Cube.open(self.here / CUBE)
        self.world.check_cube(cube.patch_size, lambda name: cube.array(name)[...])
        self._verify()

    def _verify(self) -> None:
        """Every byte is as written; what is stale, is said; nothing else is."""
        if self.state.patch is None:
            return
        report = verify(self.here / CUBE)
        assert report.ok, report.findings
        said = {f.what.split(" was made")[0] for f in report.findings if f.kind == "stale"}
        assert said == {path for path in self.state.layers if self.state.stale(path)}
        assert self.killed or not [f for f in report.findings if f.kind == "unfinished"], report.findings

    def teardown(self) -> None:
        if self.state.patch:
            self.verify()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("machine")
    scenes = []
    for number in range(6):
        pixels = scene_pixels((SIDE, SIDE), number, kinds=("RGB", "CLS"))
        scenes.append(write_scene(folder / "s", f"JAX_{number:03d}_001", pixels))
    ingest(folder / "s", catalog=SMALL, out=folder / "ready" / CUBE, patch=8)
    (folder / "small.yaml").write_text(SMALL.model_dump_json())  # JSON is YAML, too
    with pytest.MonkeyPatch.context() as patched:
        site = lay(folder / "site")
        patched.setenv("PYTHONPATH", f"{site}:{Path(__file__).parent}", prepend=":")
        patched.syspath_prepend(site)
        with Killer("fake_encoders", "geoae.cli") as killer:
            Cubes.killer, Cubes.world, Cubes.folder, Cubes.source = (
                killer,
                World(scenes),
                folder,
                folder / "s",
            )
            yield


@pytest.mark.slow
def test_any_sequence_of_commands(prepared: None) -> None:
    # Not shrunk: that takes hundreds of runs. The steps of a failure are few, and printed.
    some = settings(max_examples=EXAMPLES, stateful_step_count=20, phases=[Phase.generate])
    run_state_machine_as_test(Cubes, settings=some)
