"""The container: a zip whose bytes follow from its members alone (docs/bundle.md).

There is one valid archive for a set of members, so reading is narrow: walk the central directory, refuse
whatever a bundle never has, and at the end compare every header with the one that would have been written.
Records and field order are those of APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
"""

from __future__ import annotations

import re
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping

from hyperline.errors import InputError

MANIFEST = "manifest.json"
MAX_MEMBERS = 32
MAX_ARCHIVE_BYTES = 1 << 30
# Every name that a bundle may hold, and the most bytes that such a member may have.
MEMBER_KINDS = (
    (re.compile(r"manifest\.json"), 64 << 10),
    (re.compile(r"card\.json"), 1 << 20),
    (re.compile(r"model(\.fp16|\.int8)?\.onnx"), 512 << 20),
    (re.compile(r"golden/(lines|valid|labels|logits)\.npy"), 256 << 20),
    (re.compile(r"calibration/[a-z0-9][a-z0-9_-]{0,63}\.json"), 1 << 20),
)

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION_NEEDED = 10  # 1.0: stored files, no folders
_MADE_BY = 3 << 8 | _VERSION_NEEDED  # 3: Unix, so that the mode below is understood
_MODE = (stat.S_IFREG | 0o644) << 16
_STORED = 0
_MIDNIGHT, _FIRST_OF_1980 = 0, 1 << 5 | 1
_ENCRYPTED_FLAG = 1


def canonical_chunks(members: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield the bytes of the archive: the manifest first, the other members by name, the directory."""
    directory, offset = b"", 0
    for name in sorted(members, key=lambda name: (name != MANIFEST, name)):
        data, encoded = members[name], name.encode("ascii")
        size = len(data)
        # Needed, flags, method, time, date; then CRC, stored size, size; then name length, extra length.
        fixed = (_VERSION_NEEDED, 0, _STORED, _MIDNIGHT, _FIRST_OF_1980)
        common = (*fixed, zlib.crc32(data), size, size, len(encoded), 0)
        directory += _CENTRAL.pack(b"PK\1\2", _MADE_BY, *common, 0, 0, 0, _MODE, offset) + encoded
        header = _LOCAL.pack(b"PK\3\4", *common) + encoded
        yield header
        yield data
        offset += len(header) + size
    yield directory
    yield _END.pack(b"PK\5\6", 0, 0, len(members), len(members), len(directory), offset, 0)


def check_name(name: str) -> int:
    """Return the most bytes that a member of this name may have.

    Raises:
        InputError: a bundle holds no member of this name.
    """
    for pattern, limit in MEMBER_KINDS:
        if pattern.fullmatch(name):
            return limit
    shown = ascii(name if len(name) <= 100 else name[:100] + "...")
    if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
        raise InputError(f"member {shown} leads outside the archive: do not unpack this file")
    if name.endswith("/"):
        raise InputError(f"member {shown} is a folder; a bundle holds only files")
    raise InputError(f"member {shown} is none that a bundle may hold (docs/bundle.md lists them)")


def split(data: bytes) -> dict[str, bytes]:
    """Return the members of an untrusted archive, copying no byte before the sizes are known to be true.

    What a header says beyond name, place and size is not judged here; see ``check_canonical``.

    Raises:
        InputError: no zip archive, or one with anything that a bundle never has.
    """
    if len(data) > MAX_ARCHIVE_BYTES:
        raise InputError(f"has {len(data)} bytes; a bundle has at most {MAX_ARCHIVE_BYTES}")
    if not data.startswith(b"PK\3\4"):
        raise InputError("is not a bundle: it does not begin with a zip member")
    end = len(data) - _END.size
    if end < 0 or data[end : end + 4] != b"PK\5\6":
        raise InputError(
            "is not a whole bundle: it does not end with a zip end record (cut short, or something was "
            "added behind it); copy it again"
        )
    _, _, _, _, count, directory_size, directory, _ = _END.unpack_from(data, end)
    if count > MAX_MEMBERS:
        raise InputError(f"declares {count} members; a bundle has at most {MAX_MEMBERS}")
    if directory + directory_size != end:
        raise InputError("declares a zip directory that is not where the file has it")

    members: dict[str, bytes] = {}
    position, free = directory, 0  # the next directory entry, and the first byte not yet any member's
    for _ in range(count):
        entry = _CENTRAL.unpack_from(data, position) if position + _CENTRAL.size <= end else None
        position += _CENTRAL.size + (entry[10] if entry else 0)
        if entry is None or position > end:
            raise InputError("has a zip directory that ends inside an entry")
        flags, method, stored, size, name_length, mode, offset = (entry[i] for i in (3, 4, 8, 9, 10, 15, 16))
        name = data[position - name_length : position].decode("latin-1")
        limit = check_name(name)
        if name in members:
            raise InputError(f"holds member {name!a} twice")
        if stat.S_ISLNK(mode >> 16):
            raise InputError(f"member {name!a} is a symbolic link; a bundle holds only files")
        if flags & _ENCRYPTED_FLAG:
            raise InputError(f"member {name!a} is encrypted; a bundle never is")
        if method != _STORED or stored != size:
            raise InputError(f"member {name!a} is compressed (method {method}); a bundle stores its members")
        if size > limit:
            raise InputError(f"member {name!a} declares {size} bytes; at most {limit} are allowed")
        if offset < free:
            raise InputError(f"member {name!a} overlaps the member before it")
        start = offset + _LOCAL.size + len(name)
        if offset > free or start + size > directory:
            raise InputError(f"member {name!a} declares {size} bytes at {offset}, which the file does not have")
        members[name] = data[start : start + size]
        free = start + size
    if free != directory or position != end:
        raise InputError("holds bytes that belong to no member")
    return members


def check_canonical(data: bytes, members: Mapping[str, bytes]) -> None:
    """Compare an archive with the one that its members make, header by header.

    Raises:
        InputError: they differ in any byte.
    """
    position = 0
    for chunk in canonical_chunks(members):
        if not data.startswith(chunk, position):
            raise InputError(
                f"is damaged or was made by another program: the zip header at byte {position} is not as "
                "hyperline writes it; copy or export it again"
            )
        position += len(chunk)
