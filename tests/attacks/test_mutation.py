"""Random damage: only InputError ever escapes, and memory stays in proportion to the file."""

import json
import tracemalloc
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperline.bundle import Bundle
from hyperline.errors import InputError

from .conftest import compact, forge

PATH = Path("mutated.hlb")


def opens(data: bytes) -> bool:
    """Say whether the bytes pass for a bundle; anything but a verdict is a failure."""
    tracemalloc.start()
    try:
        Bundle.from_bytes(data, PATH)
        return True
    except InputError as error:
        assert str(error).startswith("mutated.hlb: ")
        assert str(error).isprintable()
        return False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * len(data) + (4 << 20)


SPLICE = st.tuples(st.floats(0, 1), st.integers(0, 60), st.binary(max_size=60))
fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(fuzz, max_examples=500)
@given(splices=st.lists(SPLICE, min_size=1, max_size=4))
def test_a_bundle_with_bytes_cut_out_and_put_in_is_refused(tiny, splices):
    data = tiny
    for place, cut, put in splices:
        position = int(place * len(data))
        data = data[:position] + put + data[position + cut :]
    assert opens(data) == (data == tiny)


@settings(fuzz, max_examples=300)
@given(
    data=st.data(),
    value=st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]),
    width=st.sampled_from([2, 4]),
)
def test_a_bundle_with_extreme_numbers_in_its_zip_records_is_refused(tiny, data, value, width):
    directory = tiny.index(b"PK\1\2")
    position = data.draw(st.integers(directory, len(tiny) - width))
    changed = tiny[:position] + value.to_bytes(4, "little")[:width] + tiny[position + width :]
    assert opens(changed) == (changed == tiny)


@settings(fuzz, max_examples=300)
@given(
    name=st.sampled_from(["manifest.json", "card.json", "golden/lines.npy", "golden/valid.npy", "golden/logits.npy"]),
    splice=SPLICE,
)
def test_a_damaged_member_in_a_flawless_archive_gets_a_verdict(tiny_members, name, splice):
    members = dict(tiny_members)
    place, cut, put = splice
    if name == "manifest.json":
        from hyperline.bundle.manifest import Manifest

        members[name] = Manifest.of(members).to_json()
    position = int(place * len(members[name]))
    members[name] = members[name][:position] + put + members[name][position + cut :]
    opens(forge(members))


SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ODD = SCALAR | st.lists(SCALAR) | st.dictionaries(st.text(), SCALAR)


@settings(fuzz, max_examples=500)
@given(data=st.data(), value=ODD)
def test_a_card_with_any_one_value_replaced_gets_a_verdict(tiny_members, data, value):
    members = dict(tiny_members)
    card = json.loads(members["card.json"])
    place, key = card, data.draw(st.sampled_from(sorted(card)))
    while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = value
    try:
        members["card.json"] = compact(card)
    except UnicodeEncodeError:  # a lone surrogate: no file can hold it
        return
    opens(forge(members))
