"""Attacks on the zip around the members."""

import dataclasses
import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from hyperline.bundle import Bundle
from hyperline.errors import InputError

from .conftest import Entry, forge, zip_of


def test_the_attackers_zip_writer_can_write_an_intact_bundle(entries, tiny):
    """Else every attack below could be refused for a reason of its own."""
    assert zip_of(entries) == tiny


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (b"../evil", "leads outside the archive"),
        (b"golden/../../evil", "leads outside the archive"),
        (b"/etc/cron.d/evil", "leads outside the archive"),
        (b"..\\evil", "leads outside the archive"),
        (b"golden\\lines.npy", "leads outside the archive"),
        (b"C:evil", "leads outside the archive"),
        (b"golden/", "is a folder"),
        (b"./card.json", "none that a bundle may hold"),
        (b"golden//lines.npy", "none that a bundle may hold"),
        (b"CARD.JSON", "none that a bundle may hold"),
        (b"card.json\n", "none that a bundle may hold"),
        (b"card.json\x00.txt", "none that a bundle may hold"),
        (b"\x1b[2Jcard.json", "none that a bundle may hold"),
        (b"calibration/.json", "none that a bundle may hold"),
        ("cаrd.json".encode(), "none that a bundle may hold"),  # Cyrillic а
        (b"model.engine", "none that a bundle may hold"),
        (b"model.onnx.data", "none that a bundle may hold"),
        (b"a" * 65535, "none that a bundle may hold"),
        (b"", "none that a bundle may hold"),
    ],
)
def test_a_name_that_is_not_on_the_list_is_refused(entries, refused, name, fault):
    refused(zip_of([*entries, Entry(name, b"evil")]), fault)


def test_a_symbolic_link_is_refused(entries, refused):
    entries[1] = dataclasses.replace(entries[1], data=b"/etc/passwd", mode=stat.S_IFLNK | 0o777)
    refused(zip_of(entries), "'card.json' is a symbolic link")


def test_an_encrypted_member_is_refused(entries, refused):
    entries[1] = dataclasses.replace(entries[1], flags=1)
    refused(zip_of(entries), "'card.json' is encrypted")


def test_a_duplicate_name_is_refused(entries, refused):
    refused(zip_of([*entries, entries[1]]), "holds member 'card.json' twice")


def test_a_deflate_bomb_is_refused_unopened(entries, refused):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("card.json", bytes(100 << 20))
    refused(bomb.getvalue(), r"'card\.json' is compressed \(method 8\)")
    packed = zlib.compress(bytes(1 << 20), 9)[2:-4]
    entries[1] = dataclasses.replace(entries[1], data=packed, method=8, size=1 << 20)
    refused(zip_of(entries), r"'card\.json' is compressed \(method 8\)")


def test_a_stored_member_whose_two_sizes_differ_is_refused(entries, refused, tiny):
    position = tiny.index(b"PK\1\2") + 24  # the first directory entry's uncompressed size
    lie = tiny[:position] + struct.pack("<L", 10) + tiny[position + 4 :]
    refused(lie, r"'manifest\.json' is compressed")


@pytest.mark.parametrize("offset", [0, 1, 100])
def test_overlapping_members_are_refused(entries, refused, offset):
    """The overlap of a better zip bomb: many directory entries for one stretch of the file."""
    bomb = [Entry(f"calibration/{n}.json".encode(), offset=offset) for n in range(10)]
    refused(zip_of([*entries, *bomb]), r"'calibration/0\.json' overlaps the member before it")


@pytest.mark.parametrize("size", [1 << 19, 1 << 27, 0xFFFFFFFE, 0xFFFFFFFF])
def test_a_declared_size_that_the_file_does_not_have_is_refused(entries, refused, size):
    # 0xFFFFFFFF is how Zip64 says "look elsewhere"; a bundle never needs it.
    for member in (1, -1):
        lies = list(entries)
        lies[member] = dataclasses.replace(entries[member], size=size)
        refused(zip_of(lies), rf"declares {size} bytes")


@pytest.mark.parametrize("offset", [1 << 20, 0xFFFFFFFF])
def test_a_member_beyond_the_file_is_refused(entries, refused, offset):
    entries[-1] = dataclasses.replace(entries[-1], offset=offset)
    refused(zip_of(entries), f"at {offset}, which the file does not have")


def test_many_members_are_refused_by_their_number(entries, refused):
    crowd = [Entry(f"calibration/{n}.json".encode(), b"{}\n") for n in range(60_000)]
    refused(zip_of([*entries, *crowd]), "declares 60007 members; a bundle has at most 32")


@pytest.mark.parametrize("count", [0, 1, 6, 8, 32])
def test_a_wrong_member_count_is_refused(entries, refused, count):
    refused(zip_of(entries, count=count), "belong to no member|ends inside an entry|lacks")


def test_a_directory_that_is_elsewhere_is_refused(refused, tiny):
    for position, fault in (
        (len(tiny) - 10, "directory that is not where"),
        (len(tiny) - 6, "directory that is not"),
    ):
        for value in (0, 1, 0xFFFFFFFF):
            refused(tiny[:position] + struct.pack("<L", value) + tiny[position + 4 :], fault)


def test_a_name_length_that_leaves_the_directory_is_refused(refused, tiny):
    position = tiny.rindex(b"PK\1\2") + 28
    refused(tiny[:position] + b"\xff\xff" + tiny[position + 2 :], "ends inside an entry")


def test_anything_before_behind_or_between_is_refused(entries, refused, tiny):
    refused(b"#!/bin/sh\n" + tiny, "does not begin with a zip member")
    refused(b"PK\3\4" + tiny, "directory that is not where")
    for garbage in (b"\0", b"x" * 100, b"PK\5\6", tiny):
        refused(tiny + garbage, "cut short, or something was added|directory that is not where")
    refused(zip_of(entries, comment=b"hello"), "cut short, or something was added")
    hidden = zip_of([*entries[:3], Entry(b"secret", b"hidden"), *entries[3:]])
    first = hidden.rindex(b"PK\1\2", 0, hidden.rindex(b"secret"))
    refused(hidden[:first] + hidden[first + 46 + 6 :], "directory that is not where")


def test_a_gap_that_no_member_owns_is_refused(members, refused):
    data = forge(members)
    directory = data.index(b"PK\1\2")
    gap = data[:directory] + b"hidden" + data[directory:-6]
    gap += struct.pack("<LH", directory + 6, 0)
    refused(gap, "holds bytes that belong to no member")


def test_a_file_cut_at_any_length_is_refused(tiny, refused):
    for length in range(len(tiny)):
        with pytest.raises(InputError, match=r"does not begin with a zip member|cut short"):
            Bundle.from_bytes(tiny[:length], Path("cut.hlb"))
    refused(tiny[: len(tiny) // 2], "cut short")


@pytest.mark.parametrize(
    "change",
    [
        {"time": 1},
        {"mode": 0o100755},
        {"mode": stat.S_IFDIR | 0o755},
        {"mode": stat.S_IFIFO | 0o644},
        {"flags": 8},
        {"flags": 0x800},
        {"local_name": b"evil.json"},
        {"local_name": b"../evil.j"},
    ],
)
def test_a_header_that_hyperline_does_not_write_is_refused(entries, refused, change):
    entries[1] = dataclasses.replace(entries[1], **change)
    refused(zip_of(entries), r"damaged or was made by another program: the zip header at byte \d+")


def test_an_extra_field_is_refused(entries, refused):
    entries[-1] = dataclasses.replace(entries[-1], extra=b"\x75\x70\x01\x00x")
    refused(zip_of(entries), "belong to no member|which the file does not have")


def test_another_order_of_the_members_is_refused(entries, refused):
    refused(zip_of(entries[::-1]), "the zip header at byte 0 is not as hyperline writes it")


def test_a_bundle_packed_again_by_another_program_is_refused(entries, refused):
    repacked = io.BytesIO()
    with zipfile.ZipFile(repacked, "w") as archive:
        for entry in entries:
            archive.writestr(entry.name.decode(), entry.data)
    refused(repacked.getvalue(), "made by another program")


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\3\4", b"PK\5\6" + bytes(18), b"\x7fELF", bytes(1 << 20)])
def test_what_is_no_zip_is_refused(refused, data):
    refused(data, "does not begin with a zip member|cut short")


def test_an_archive_without_a_manifest_is_refused(entries, refused):
    refused(zip_of(entries[1:]), r"lacks manifest\.json")
