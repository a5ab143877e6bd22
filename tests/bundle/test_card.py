"""The card: an exact round trip, and limits on what a stranger may claim."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.bundle import Card
from hyperline.bundle.document import decode, encode
from hyperline.errors import InputError

STATE = {"input": "a", "output": "b", "shape": [2, 4], "sample_axis": 0}


def test_a_card_survives_json(tiny_card):
    text = tiny_card.to_json()
    again = Card.from_json(text, "card.json")
    assert again == tiny_card
    assert again.to_json() == text
    assert text.endswith(b"}\n")
    assert "grün".encode() in text


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"bands": 10**9}, "bands: Input should be less than or equal to 4096"),
        ({"bands": 0}, "bands: Input should be greater"),
        ({"bands": "many"}, "bands: Input should be a valid integer"),
        ({"bands": [3]}, "bands: Input should be a valid integer"),
        ({"block_lines": 10**18}, "block_lines: Input should be less"),
        ({"sample_multiple": -1}, "sample_multiple: Input should be greater"),
        ({"wavelengths_nm": [1.0]}, "1 wavelengths_nm for 3 bands"),
        ({"wavelengths_nm": [1.0, -2.0, 3.0]}, "wavelengths_nm.1: Input should be greater than 0"),
        ({"class_names": [str(n) for n in range(256)]}, "class_names: .* at most 255 items"),
        ({"class_names": []}, "class_names: .* at least 1 item"),
        ({"class_names": ["", "b"]}, "class_names.0: .* at least 1 character"),
        ({"class_names": ["\x1b[2Jgone", "b"]}, r"class_names.0: '\\x1b\[2Jgone' holds a control character"),
        ({"name": "x" * 201}, "name: .* at most 200 characters"),
        ({"composite_bands": [0, 1, 3]}, "composite_bands names band 3; the bands are 0 to 2"),
        ({"composite_bands": [0, 1, -1]}, "composite_bands names band -1"),
        ({"scale": 0}, "scale: Input should be greater than 0"),
        ({"states": [{**STATE, "shape": [1 << 40]}]}, "states.0.shape.0: Input should be less"),
        ({"states": [{**STATE, "shape": [1 << 20] * 8}]}, "the states need more than 1048576 bytes per"),
        ({"states": [{**STATE, "shape": [0, 4]}]}, "states.0.shape.0: Input should be greater"),
        ({"states": [{**STATE, "shape": []}]}, "states.0.shape: .* at least 1 item"),
        ({"states": [{**STATE, "sample_axis": 2}]}, r"states.0: sample_axis 2 is outside shape \(2, 4\)"),
        ({"states": [{**STATE, "sample_axis": -1}]}, "states.0.sample_axis: Input should be greater"),
        ({"states": [STATE, STATE]}, "two tensors are named 'a'"),
        ({"states": [{**STATE, "output": "a"}]}, "two tensors are named 'a'"),
        ({"states": [{**STATE, "input": "lines"}]}, "two tensors are named 'lines'"),
        ({"states": [{**STATE, "output": "experts"}]}, "two tensors are named 'experts'"),
        ({"states": [STATE] * 1025}, "states: .* at most 1024 items"),
        ({"offline": None, "surprise": 1}, "surprise: Extra inputs are not permitted"),
        (
            {"streamed": {"oa": 85.0, "aa": 0.5, "kappa": 0.5, "per_class": [0.5, 0.5], "pixels": 1}},
            "streamed.oa: Input should be less than or equal to 1",
        ),
        (
            {"streamed": {"oa": 0.5, "aa": 0.5, "kappa": 0.5, "per_class": [0.5], "pixels": 1}},
            "accuracy of 1 classes; there are 2",
        ),
        ({"format": 2}, "has format version 2; this hyperline reads version 1"),
        ({"format": 1.5}, "format: Input should be 1"),
    ],
)
def test_an_unreasonable_card_is_refused_by_field(tiny_card, change, fault):
    text = encode({**tiny_card.model_dump(), **change})
    with pytest.raises(InputError, match=f"^x.hlb: card.json.*{fault}"):
        Card.from_json(text, "x.hlb: card.json")


def test_a_card_with_a_value_that_json_does_not_have_cannot_be_made(tiny_card):
    with pytest.raises(InputError, match=r"^nodata: Input should be a finite number"):
        Card(**{**tiny_card.model_dump(), "nodata": math.nan})
    with pytest.raises(InputError, match="cannot be written as JSON"):
        tiny_card.model_copy(update={"training": {"loss": math.nan}}).to_json()
    with pytest.raises(InputError, match="cannot be written as JSON"):
        tiny_card.model_copy(update={"training": {"model": object()}}).to_json()


@pytest.mark.parametrize(
    "change", [{"scale": 1}, {"format": True}, {"bands": "3"}, {"bands": 3.0}, {"block_lines": True}]
)
def test_a_second_spelling_of_a_value_is_refused(tiny_card, change):
    with pytest.raises(InputError, match=r"spells a value otherwise|format: Input should be 1"):
        Card.from_json(encode({**tiny_card.model_dump(), **change}), "card.json")


def test_a_default_left_out_is_refused(tiny_card):
    with pytest.raises(InputError, match="spells a value otherwise"):
        Card.from_json(encode(tiny_card.model_dump(exclude={"format"})), "card.json")


def test_state_bytes_grow_with_the_samples(tiny_card):
    assert tiny_card.state_bytes(2) == 4 * 2 * 4 * 16
    assert tiny_card.state_bytes(512) == 256 * tiny_card.state_bytes(2)


FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON)
def test_canonical_json_is_one_text_for_one_value(value):
    try:
        text = encode(value)
    except InputError:  # a lone surrogate has no UTF-8
        return
    assert encode(decode(text, "value")) == text
    assert decode(text, "value") == value


@settings(deadline=None)
@given(JSON, st.sampled_from([b" ", b"\n", b"\t", b"\r"]))
def test_any_added_white_space_is_refused(value, space):
    text = encode(value)
    for changed in (space + text, text + space):
        with pytest.raises(InputError, match="canonical"):
            decode(changed, "value")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_but_input_errors(data):
    try:
        assert encode(decode(data, "noise")) == data
    except InputError as error:
        assert "noise" in str(error)


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_free_form_provenance_survives_json_exactly(training):
    card = Card(
        name="any",
        created="2026-11-05T12:00:00+00:00",
        hyperline="0.1.0",
        block_lines=8,
        bands=1,
        sample_multiple=8,
        wavelengths_nm=None,
        class_names=("a",),
        scale=1,
        nodata=None,
        composite_bands=(0, 0, 0),
        states=(),
        training=training,
        offline=None,
        streamed=None,
        parity={},
    )
    try:
        text = card.to_json()
    except InputError:  # a lone surrogate
        return
    again = Card.from_json(text, "card.json")
    assert again == card
    assert again.to_json() == text


@pytest.mark.parametrize("training", [{"scene": "made up"}, {"split": 3}, {"strips": {}}, {"adapted": None}])
def test_provenance_that_is_no_record_of_a_run_counts_as_none(tiny_card, training):
    record = {"scene": {"units": "reflectance"}, "seed": 0}
    assert tiny_card.model_copy(update={"training": record}).provenance == record
    assert tiny_card.model_copy(update={"training": record | training}).provenance == {}
