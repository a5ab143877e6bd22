"""The engine cache: a hit is the same engine, anything else is a miss, and nothing half-written is ever found."""

import dataclasses
import errno
import os

import pytest

from hyperline.errors import HyperlineError, InputError
from hyperline.runtime.tensorrt.build import BuiltEngine, Samples
from hyperline.runtime.tensorrt.cache import EngineCache, EngineKey

KEY = EngineKey("a" * 64, "10.3.0", "Orin, sm_87", "b" * 64, "0.1.0")
SAMPLES = Samples(8, 1024, 2048)


class Builder:
    """Counts its builds, and makes another engine each time."""

    def __init__(self):
        self.timings = []

    def __call__(self, timing):
        self.timings.append(timing)
        number = len(self.timings)
        return BuiltEngine(b"engine\n%d" % number, b"learnt %d" % number)


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "made" / "engines")


@pytest.fixture
def build():
    return Builder()


def test_an_engine_is_built_once(cache, build):
    first = cache.find_or_build(KEY, SAMPLES, build)
    second = cache.find_or_build(KEY, SAMPLES, build)
    assert (first.found, second.found, len(build.timings)) == (False, True, 1)
    assert first.engine == second.engine == b"engine\n1"
    assert cache.find(KEY).samples == SAMPLES


@pytest.mark.parametrize("part", [field.name for field in dataclasses.fields(EngineKey)])
@pytest.mark.parametrize("other", ["another", None])
def test_any_other_key_is_a_miss(cache, build, part, other):
    cache.find_or_build(KEY, SAMPLES, build)
    assert cache.find(dataclasses.replace(KEY, **{part: other})) is None


@pytest.mark.parametrize("other", [Samples(16, 1024, 2048), Samples(8, 512, 2048), Samples(8, 1024, 1024)])
def test_an_engine_for_other_samples_takes_the_place_of_the_first(cache, build, other):
    cache.find_or_build(KEY, SAMPLES, build)
    assert not cache.find_or_build(KEY, other, build).found
    assert cache.find(KEY).samples == other
    assert len(list(cache.folder.glob("*.engine"))) == 1


def test_what_was_learnt_of_a_gpu_serves_its_next_model_and_no_other_gpu(cache, build):
    cache.find_or_build(KEY, SAMPLES, build)
    cache.find_or_build(dataclasses.replace(KEY, model_sha256="c" * 64), SAMPLES, build)
    cache.find_or_build(dataclasses.replace(KEY, gpu="Thor, sm_110"), SAMPLES, build)
    cache.find_or_build(dataclasses.replace(KEY, tensorrt="10.16.1"), SAMPLES, build)
    assert build.timings == [b"", b"learnt 1", b"", b""]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data.replace(b"1024", b"1025").replace(b"{", b"[", 1),
        lambda data: b"",
        lambda data: b"\xff" * 40,
        lambda data: b"[]\nengine",
        lambda data: b"[" * 100_000 + b"\nengine",
        lambda data: b'{"samples": 3, "sha256": ""}\nengine',
    ],
)
def test_a_damaged_file_is_no_hit_and_is_built_again(cache, build, damage):
    path = cache.find_or_build(KEY, SAMPLES, build).path
    path.write_bytes(damage(path.read_bytes()))
    assert cache.find(KEY) is None
    assert cache.find_or_build(KEY, SAMPLES, build).engine == b"engine\n2"


def test_a_file_that_anybody_may_write_is_refused(cache, build):
    path = cache.find_or_build(KEY, SAMPLES, build).path
    path.chmod(0o666)
    with pytest.raises(InputError, match=r"somebody else.*hyperline build"):
        cache.find(KEY)


def test_a_file_of_another_user_is_refused(cache, build, monkeypatch):
    path = cache.find_or_build(KEY, SAMPLES, build).path
    if os.getuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(InputError, match="somebody else"):
        cache.find(KEY)


def test_the_folder_is_the_users_own(cache, build):
    cache.find_or_build(KEY, SAMPLES, build)
    assert cache.folder.stat().st_mode & 0o777 == 0o700


def test_a_build_that_fails_leaves_no_file_and_the_old_engine(cache, build):
    def fail(timing):
        raise HyperlineError("no")

    with pytest.raises(HyperlineError, match="no"):
        cache.find_or_build(KEY, SAMPLES, fail)
    assert not list(cache.folder.iterdir())
    cache.find_or_build(KEY, SAMPLES, build)
    with pytest.raises(HyperlineError, match="no"):
        cache.find_or_build(KEY, Samples(8, 8, 8), fail)
    assert cache.find(KEY).samples == SAMPLES


def test_a_full_disk_is_one_clear_error_and_leaves_no_file(cache, build, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HyperlineError, match="No space left"):
        cache.find_or_build(KEY, SAMPLES, build)
    assert not list(cache.folder.iterdir())


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path, build):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((HyperlineError, InputError), match="file"):
        EngineCache(tmp_path / "file").find_or_build(KEY, SAMPLES, build)


@pytest.mark.parametrize("set_one", [True, False])
def test_engines_lie_in_the_users_cache_by_default(set_one, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if set_one:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    place = tmp_path / ("own" if set_one else ".cache")
    assert EngineCache().folder == place / "hyperline" / "engines"


@pytest.mark.parametrize("text", ["", "8", "8:16", "8:16:24:32", "a:b:c", "8:16:2e3"])
def test_samples_that_are_not_three_numbers_are_refused(text):
    with pytest.raises(InputError, match="MIN:OPT:MAX"):
        Samples.parse(text)


@pytest.mark.parametrize("text", ["16:8:24", "8:24:16", "0:8:16", "-8:8:16", "8:12:16"])
def test_samples_that_the_model_cannot_take_are_refused(tiny, text):
    with pytest.raises(InputError, match="multiples of 8, which tiny takes"):
        Samples.parse(text).check(tiny.card(), 8)


@pytest.mark.parametrize("text", ["16:16:24", "8:8:8"])
def test_samples_without_the_golden_block_are_refused(tiny, text):
    with pytest.raises(InputError, match="golden block"):
        Samples.parse(text).check(tiny.card(), 8 if text == "16:16:24" else 16)


@pytest.mark.parametrize(("multiple", "usual"), [(8, "8:1024:2048"), (3, "3:1026:2049"), (1, "1:1024:2048")])
def test_the_usual_samples_are_what_the_model_takes(tiny, multiple, usual):
    card = tiny.card().model_copy(update={"sample_multiple": multiple})
    assert str(Samples.usual(card)) == usual
    Samples.usual(card).check(card, 64)
