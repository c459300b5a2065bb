"""Sums over sections: the same bits from any number of threads, and an end without noise."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from geoae.encoder import FitContext, PatchBatch, SectionedSource
from geoae.errors import GeoaeError, IntegrityError
from geoae.testing import ArrayPatches
from geoae_pca import PCAConfig, PCAEncoder
from geoae_pca import pca as module
from geoae_pca.sections import Sections, blas_threads, one_blas_thread

COUNT, SHAPE = 300, (2, 12, 12)


@dataclass
class Divided(ArrayPatches):
    """Patches in sections of 30, whose batches are late by given times and may fail."""

    late: Sequence[float] = (0,)
    broken: dict[int, Exception] | None = None
    rows: tuple[int, int] = (0, COUNT)
    number: int | None = None

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        image = rng.normal(size=(COUNT, *SHAPE)) * rng.uniform(0.1, 2, SHAPE)
        ArrayPatches.__init__(self, image[slice(*self.rows)] + 1)

    def sections(self, size: int) -> list["Divided"]:
        del size
        starts = range(0, COUNT, 30)
        return [replace(self, rows=(start, start + 30), number=i) for i, start in enumerate(starts)]

    def batches(self, size: int, shuffle_seed: int | None = None) -> Iterator[PatchBatch]:
        assert self.number is not None, "sections are read, not the whole"
        buffer = np.empty((size, *SHAPE), np.float32)
        for batch in super().batches(size, shuffle_seed):
            time.sleep(self.late[self.number % len(self.late)])
            if self.broken and self.number in self.broken:
                raise self.broken[self.number]
            image = buffer[: len(batch)]  # filled again, as that of a cube
            image[...] = batch.image
            yield replace(batch, image=image)


def fitted(source: ArrayPatches, number: int) -> tuple[bytes, ...]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "BATCH_BYTES", 10 * 4 * int(np.prod(SHAPE)))
        patched.setattr(module, "blas_threads", lambda: number)
        encoder = PCAEncoder(PCAConfig(latent_dim=9))
        encoder.fit(source, FitContext())
    found = encoder._fitted
    assert found is not None
    return found.mean.tobytes(), found.components.tobytes(), found.variances.tobytes()


def test_threads_and_their_timing_change_no_bit():
    alone = fitted(Divided(), 1)
    assert isinstance(Divided(), SectionedSource)
    # The first sections are the last to be ready, then every other one, then every third.
    for late in ([0.006, 0.003, 0.001, 0, 0], [0.004, 0], [0, 0, 0.004]):
        for number in (2, 3, 8):
            assert fitted(Divided(late), number) == alone


def test_a_product_takes_one_core_wherever_a_section_is_read():
    seen: list[list[int]] = []

    class Watched(Divided):
        def batches(self, size: int, shuffle_seed: int | None = None) -> Iterator[PatchBatch]:
            seen.append(limits())
            yield from super().batches(size, shuffle_seed)

    before = limits()
    fitted(Watched(), 2)
    assert len(seen) == 20
    assert all(limit == [1] * len(before) for limit in seen)
    assert limits() == before


def test_sections_give_the_components_of_the_whole():
    whole = PCAEncoder(PCAConfig(latent_dim=9))
    plain = ArrayPatches(Divided()._image)
    assert not isinstance(plain, SectionedSource)
    one = whole.fit(plain, FitContext())
    other = PCAEncoder(PCAConfig(latent_dim=9)).fit(Divided(), FitContext())
    ratio = "explained_variance_ratio"
    assert other.metrics[ratio] == pytest.approx(one.metrics[ratio], abs=1e-3)
    assert other.metrics["total_variance"] == pytest.approx(one.metrics["total_variance"], rel=1e-5)


def test_progress_counts_every_patch_in_the_callers_thread():
    calls: list[tuple[str, int]] = []
    here = threading.get_ident()

    def progress(stage: str, done: int, total: int, values: object) -> None:
        assert threading.get_ident() == here
        assert total == COUNT
        calls.append((stage, done))

    PCAEncoder(PCAConfig(latent_dim=2)).fit(Divided((0.003, 0)), FitContext(progress=progress))
    for stage in ("first look", "pass 1"):
        done = [number for name, number in calls if name == stage]
        assert done == sorted(done)
        assert done[-1] == COUNT


def limits() -> list[int]:
    info = ThreadpoolController().info()
    return [library["num_threads"] for library in info if library["user_api"] == "blas"]


@pytest.mark.parametrize("number", [1, 2])
def test_errors_end_every_thread_and_free_the_cores(number):
    before, running = limits(), threading.active_count()
    # The second is ready first, and yet the first is told, whatever the timing.
    broken = {4: IntegrityError("four is damaged"), 5: IntegrityError("five is damaged")}
    with pytest.raises(IntegrityError, match="four"):
        fitted(Divided((0.004, 0), broken), number)
    assert threading.active_count() == running
    assert limits() == before


def test_an_interrupt_ends_every_thread(capfd):
    before, running = limits(), threading.active_count()

    def progress(stage: str, done: int, total: int, values: object) -> None:
        if stage == "pass 1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PCAEncoder(PCAConfig(latent_dim=2)).fit(Divided((0.002,)), FitContext(progress=progress))
    assert threading.active_count() == running
    assert limits() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("section", [0, 9])
def test_pixels_that_are_not_finite_are_refused_in_any_thread(section):
    source = Divided()
    parts = source.sections(30)
    parts[section]._image[3, 1, 2, 2] = np.nan
    source.sections = lambda _: parts  # type: ignore[method-assign]
    with pytest.raises(GeoaeError, match="some pixels are not finite"):
        fitted(source, 2)


def test_a_sum_waits_for_its_turn_and_few_wait_with_it():
    ready: list[int] = []
    added: list[int] = []
    most = 0

    def part(number: int, size: int) -> Iterator[np.ndarray]:
        time.sleep(0.01 if number % 4 == 0 else 0)
        yield np.full((size, 1), number, np.float32)

    def find(number: int, blocks: Iterator[np.ndarray]) -> int:
        nonlocal most
        assert sum(len(block) for block in blocks) == 5
        ready.append(number)
        most = max(most, len(ready) - len(added))
        return number

    sections = Sections([lambda size, n=n: part(n, size) for n in range(20)], 100, 5, threads=3)
    sections.add_up(find, added.append, lambda _: None)
    assert added == list(range(20)) != ready
    assert most <= 4


def test_cores_are_those_of_the_products_of_matrices():
    with one_blas_thread():
        assert blas_threads() == 1
