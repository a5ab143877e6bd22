"""Attacks by content: the archive is flawless, and the manifest, card or golden block is not."""

import io
import json
import struct

import numpy as np
import pytest

from .conftest import compact, forge


@pytest.fixture
def manifest(members):
    """The true manifest, to lie with."""
    from hyperline.bundle.manifest import Manifest

    return Manifest.of(members).model_dump()


def test_a_manifest_that_lies_is_refused(members, manifest, refused):
    def with_manifest(**change):
        return forge({**members, "manifest.json": compact({**manifest, **change})})

    records = manifest["members"]
    model = records["model.onnx"]
    for change, fault in [
        (
            {"members": {**records, "model.onnx": {**model, "size": 12}}},
            "has 11 bytes; manifest.json says 12",
        ),
        ({"members": {**records, "model.onnx": {**model, "sha256": "0" * 64}}}, "'model.onnx' is damaged"),
        (
            {"members": {**records, "model.onnx": {**model, "sha256": model["sha256"].upper()}}},
            r"manifest.json: members.model.onnx.sha256: String should match",
        ),
        ({"members": {**records, "model.onnx": {**model, "size": -1}}}, "greater than or equal to 0"),
        ({"members": {**records, "model.onnx": {**model, "size": 11.0}}}, "spells a value otherwise"),
        ({"members": {**records, "model.onnx": {**model, "note": 1}}}, "Extra inputs"),
        ({"members": {**records, "model.fp16.onnx": model}}, "lacks member 'model.fp16.onnx'"),
        ({"members": {**records, "../evil": model}}, "lacks member '../evil'"),
        ({"members": {**records, "\x1b[2J": model}}, r"lacks member '\\x1b\[2J'"),
        ({"members": {**records, "manifest.json": model}}, "lacks member 'manifest.json'"),
        ({"members": {k: v for k, v in records.items() if k != "card.json"}}, "'card.json', which its"),
        ({"members": []}, "members: "),
        ({"format": 2}, "has format version 2; this hyperline reads version 1"),
        ({"format": True}, "manifest.json spells a value otherwise|format: Input should be 1"),  # as pydantic sees it
        ({"format": None}, "format: "),
        ({"\x1b[2J": 1}, r"\\x1b\[2J: Extra inputs"),
        ({"self": 1}, "self: Extra inputs"),
    ]:
        refused(with_manifest(**change), fault)
    del manifest["signature"]
    refused(with_manifest(), "manifest.json: signature: Field required")


@pytest.mark.parametrize("member", ["manifest.json", "card.json"])
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"[" * 30_000 + b"]" * 30_000 + b"\n", "nested deeper than 32 levels"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"\n", "nested deeper than 32 levels"),
        (b"[" * 33 + b"]" * 33 + b"\n", "nested deeper than 32 levels"),
        (b"[" * 60_000, "is not JSON|nested deeper"),
        (b'{"a":' + b"9" * 60_000 + b"}\n", "an integer of 60000 digits"),
        (b'{"format":1' + b"0" * 30 + b"}\n", "an integer of 31 digits"),
        (b'{"a":1e999}\n', "cannot be written as JSON"),
        (b'{"a":NaN}\n', "cannot be written as JSON"),
        (b'{"a":-Infinity}\n', "cannot be written as JSON"),
        (b'{"a":1,"a":1}\n', "key 'a' stands twice"),
        (b'{"a":{"\\u001b":1,"\\u001b":2}}\n', r"key '\\x1b' stands twice"),
        (b'{"b":1,"a":1}\n', "not canonical"),
        (b'{"a": 1}\n', "not canonical"),
        (b'{"a":1}', "not canonical"),
        (b'{"a":1}\n\n', "not canonical"),
        (b'{"a":"\\u0061"}\n', "not canonical"),
        (b'{"a":"\\ud800"}\n', "is not JSON|cannot be written as JSON"),
        (b"\xef\xbb\xbf{}\n", "is not JSON"),
        (b'{"a":"\xff"}\n', "is not JSON"),
        (b'{"a":"\xed\xa0\x80"}\n', "is not JSON"),
        (b'"' + b'\\"' * 30_000, "is not JSON"),
        (b"", "is not JSON"),
        (b"null\n", "is not a JSON object"),
        (b"[]\n", "is not a JSON object"),
        (b"{}\n", "Field required"),
    ],
)
def test_a_json_bomb_or_a_second_spelling_is_refused(members, refused, member, text, fault):
    refused(forge({**members, member: text}), rf"{member}.* {fault}|{member}: {fault}")


def test_json_beyond_its_size_is_refused_before_it_is_parsed(members, refused):
    refused(forge({**members, "card.json": b" " * ((1 << 20) + 1)}), "declares 1048577 bytes; at most 1048576 are")
    refused(forge({**members, "manifest.json": b" " * ((64 << 10) + 1)}), "declares 65537 bytes; at most 65536")


def test_an_unreasonable_card_is_refused(members, refused):
    card = json.loads(members["card.json"])
    state = card["states"][0]
    for change, fault in [
        ({"bands": 10**9}, "bands: Input should be less than"),
        ({"block_lines": 10**19}, "block_lines: "),
        ({"states": [{**state, "shape": [1 << 20] * 8}]}, "states need more than"),
        ({"states": [state] * 1000}, "two tensors are named"),
        ({"class_names": ["x"] * 256}, "class_names: "),
        ({"class_names": ["\x1b]0;owned\x07", "b"]}, "holds a control character"),
        ({"name": "\u202etxt.exe"}, "holds a control character"),  # right-to-left override
        ({"composite_bands": [0, 1, 2**62]}, "composite_bands names band"),
        (
            {"training": {"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}},
            "nested deeper",
        ),
        ({"bands": 2}, "3 wavelengths_nm for 2 bands"),
        ({"bands": 2, "wavelengths_nm": None, "composite_bands": [0, 0, 0]}, "the card and the lines demand"),
    ]:
        refused(forge({**members, "card.json": compact({**card, **change})}), fault)


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 3), }"


def test_the_attackers_npy_writer_can_write_an_intact_member(members, tiny, tmp_path):
    from hyperline.bundle import read_bundle

    lines = npy(HEADER.ljust(117), members["golden/lines.npy"][128:])
    assert lines == members["golden/lines.npy"]
    (tmp_path / "a.hlb").write_bytes(forge({**members, "golden/lines.npy": lines}))
    assert (tmp_path / "a.hlb").read_bytes() == tiny
    assert read_bundle(tmp_path / "a.hlb").golden()["lines"].shape == (2, 2, 3)


class Evil:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickled_array_is_refused_and_not_run(members, refused, tmp_path):
    file = io.BytesIO()
    np.save(file, np.array([Evil(tmp_path / "owned")], dtype=object), allow_pickle=True)
    refused(forge({**members, "golden/lines.npy": file.getvalue()}), "is not a plain .npy array")
    refused(forge({**members, "golden/lines.npy": file.getvalue()[128:]}), "is not a plain .npy array")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "is not a plain"),
        (npy(HEADER)[:20], "is not a plain"),
        (npy(HEADER), "declares 48 bytes of data"),
        (npy(HEADER, bytes(47)), "declares 48 bytes of data"),
        (npy(HEADER, bytes(49)), "declares 48 bytes of data"),
        (npy(HEADER, bytes(48), version=b"\x02\x00"), "is not a plain"),
        (npy(HEADER.replace("2, 2, 3", "999999999, 999999999, 999999999")), "declares 39\\d* bytes of data"),
        (npy(HEADER.replace("2, 2, 3", "9" * 1000)), "is not a plain"),
        (npy(HEADER.replace("2, 2, 3", "-2, -2, 3"), bytes(48)), "is not a plain"),
        (npy(HEADER.replace("2, 2, 3", ", ".join("1" * 60)), bytes(4)), "is not a plain"),
        (npy(HEADER.replace("2, 2, 3", ""), bytes(4)), "is not a plain"),
        (npy(HEADER.replace("2, 2, 3", "0, 2, 3")), r"has shape \(0, 2, 3\)"),
        (npy(HEADER.replace("2, 2, 3", "2, 0, 3")), r"valid.npy' has shape \(2, 2\)"),
        (npy(HEADER.replace("2, 2, 3", "2, 6"), bytes(48)), r"has shape \(2, 6\)"),
        (npy(HEADER.replace("2, 2, 3", "12,"), bytes(48)), r"has shape \(12,\)"),
        (npy(HEADER.replace("False", "True"), bytes(48)), "is not a plain"),
        (npy(HEADER.replace("<f4", ">f4"), bytes(48)), "has dtype b'>f4'; float32 is demanded"),
        (npy(HEADER.replace("<f4", "|O8"), bytes(48)), "float32 is demanded"),
        (npy(HEADER.replace("'<f4'", "[('a', '<f4')]"), bytes(48)), "is not a plain"),
        (npy("__import__('os').abort()"), "is not a plain"),
        (npy(HEADER + " + 1", bytes(48)), "is not a plain"),
        (npy("(" * 60_000), "is not a plain"),
        (npy(HEADER + " " * 60_000), "declares 48 bytes of data"),
    ],
)
def test_an_array_that_is_not_what_the_card_demands_is_refused(members, refused, data, fault):
    refused(forge({**members, "golden/lines.npy": data}), fault)


def test_a_mask_with_bytes_other_than_0_and_1_is_refused(members, refused):
    valid = bytearray(members["golden/valid.npy"])
    valid[-2] = 2
    refused(forge({**members, "golden/valid.npy": bytes(valid)}), "is no mask")
