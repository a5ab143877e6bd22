"""Bundles: the zip records, the manifest, the card, the golden block and the signature.

A mutated file as it is seldom gets past its hashes. So most cases are made by an attacker who can write: members are
damaged and the manifest and the archive around them are made to fit, or the manifest is damaged and the archive fits,
and some are signed. What holds in any case: a file that opens with the owner's key demanded is, to the byte, the
owner's; a file that opens without its manifest's being made to fit is the original; what opens can be shown and loaded,
up to the point where the bytes of its model go to onnxruntime.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fuzzing.damage import damage_bytes, damage_json, extreme
from fuzzing.target import Case, Refusal, Target, attempt
from hyperline.bundle import Accuracy, Bundle, Card, StateTensor, encode_golden
from hyperline.bundle.archive import MANIFEST, canonical_chunks
from hyperline.bundle.bundle import CARD
from hyperline.bundle.manifest import Manifest
from hyperline.cli.bundle import inspect, verify
from hyperline.errors import InputError

FILE = "damaged.hlb"
OWNER = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
ATTACKER = Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)
OWNERS_KEY = OWNER.public_key().public_bytes_raw()
LOCAL, CENTRAL, END = 30, 46, 22  # bytes of the fixed parts of the zip's records
KINDS = ("card", "model", "golden", "calibration")
# What an error speaks of -> which of the reader's checks refused.
STAGES = {
    "hyperline writes it; copy or export": "archive",
    "sign": "signature",
    f"{FILE}: {CARD}": "card",
    f"{FILE}: {MANIFEST}": "manifest",
    MANIFEST: "manifest",
    "'golden/": "golden block",
}


@dataclass(frozen=True)
class BundleCase(Case):
    """A damaged bundle.

    Attributes:
        demanded: the key that must have signed it, or None.
        forged: whether manifest or archive were made to fit what was damaged.
        shown: whether it is also shown and verified by the commands, if it opens; that takes a while.
    """

    demanded: bytes | None
    forged: bool
    shown: bool


class Bundles(Target):
    """Bundles, signed and unsigned."""

    name = "bundles"
    accepted = "opened"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.members = dict(sorted(_members().items()))
        self.manifest = Manifest.of(self.members)
        self.keys = {"owner": self._pem(OWNER), "attacker": self._pem(ATTACKER)}
        self.unsigned = _archive(self.members, self.manifest.to_json())
        self.signed = _archive(self.members, self._signed(self.manifest, "owner").to_json())

    def _pem(self, key: Ed25519PrivateKey) -> Path:
        path = self.folder / f"{key.public_key().public_bytes_raw().hex()}.pem"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path

    def _signed(self, manifest: Manifest, by: str) -> Manifest:
        return manifest.signed_with(self.keys[by])

    def originals(self) -> Iterator[Case]:
        """Give the bundle without and with its signature."""
        yield BundleCase((), {FILE: self.unsigned}, None, forged=False, shown=True)
        yield BundleCase((), {FILE: self.signed}, OWNERS_KEY, forged=False, shown=True)

    def make(self, random: Random) -> Case:
        """Damage the file, or a member and the file around it."""
        kind = random.random()
        done: list[str] = []
        forged = kind >= 0.35
        if not forged:
            data = self._damaged_file(random, done)
        elif kind < 0.45:
            text, what = damage_json(self._manifest(self.members, random).to_json(), random)
            done.append(f"manifest {what}")
            data = _archive(self.members, text)
        else:
            data = self._forged(random, done)
        demanded = OWNERS_KEY if random.random() < 0.25 else None
        return BundleCase(tuple(done), {FILE: data}, demanded, forged, shown=random.random() < 0.02)

    def _manifest(self, members: dict[str, bytes], random: Random) -> Manifest:
        """Describe the members, signed by somebody or nobody. The owner signs only what is theirs."""
        manifest = Manifest.of(members)
        kind = random.random()
        if kind < 0.7:
            return manifest
        by_attacker = self._signed(manifest, "attacker")
        if kind < 0.8 or by_attacker.signature is None:
            return by_attacker
        stolen = self._signed(self.manifest, "owner").signature
        under_another_name = by_attacker.signature.model_copy(update={"public_key": OWNERS_KEY.hex()})
        return manifest.model_copy(update={"signature": stolen if kind < 0.9 else under_another_name})

    def _damaged_file(self, random: Random, done: list[str]) -> bytes:
        data = bytearray(random.choice((self.unsigned, self.signed)))
        for _ in range(random.choice((1, 1, 2, 4))):
            kind = random.random()
            if kind < 0.4:
                done.append(_damage_record(data, random))
            elif kind < 0.5:
                data[:] = _rewritten(self.members, random, done)
            else:
                done.append(damage_bytes(data, random, (self.unsigned, self.signed)))
        return bytes(data)

    def _forged(self, random: Random, done: list[str]) -> bytes:
        members = dict(self.members)
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            name = random.choice((CARD, CARD, CARD, *members))
            if name.endswith(".json") and name in members and random.random() < 0.85:
                members[name], what = damage_json(members[name], random)
            elif random.random() < 0.1:
                members.pop(name, None)
                what = "left out"
            elif random.random() < 0.1:
                members[_name(random)] = members.get(name, b"")
                what = "renamed"
            else:
                content = bytearray(members.get(name, b""))
                what = damage_bytes(content, random, tuple(members.values()))
                members[name] = bytes(content)
            kind = name.partition("/")[0].partition(".")[0]
            done.append(f"{kind if kind in KINDS else 'other'} {what}")
        return _archive(members, self._manifest(members, random).to_json())

    def check(self, case: Case) -> str:
        """Open a bundle, and do with it what comes before its model is loaded."""
        assert isinstance(case, BundleCase)
        data = case.files[FILE]
        bundle = attempt(lambda: Bundle.from_bytes(data, Path(FILE), case.demanded))
        if isinstance(bundle, Refusal):
            assert data != (self.signed if case.demanded else self.unsigned), "an original was refused"
            return "refused: " + next((what for mark, what in STAGES.items() if mark in bundle.message), "archive")
        assert case.demanded is None or data == self.signed, "a bundle passed for the owner's that is not"
        assert case.forged or data in (self.unsigned, self.signed), "a changed bundle passed for intact"
        golden, card = bundle.golden(), bundle.card
        samples = golden["lines"].shape[1]
        assert all(min(state.shape_for(samples, card.sample_multiple)) >= 1 for state in card.states)
        assert all(bundle.model(precision) == bundle.members[name] for precision, name in _models(bundle))
        # What was opened is what would be written: there is no second file that means the same.
        assert b"".join(canonical_chunks({MANIFEST: bundle.manifest.to_json(), **bundle.members})) == data
        if case.shown:
            self._show(data)
        return "opened"

    def _show(self, data: bytes) -> None:
        path = self.folder / FILE
        path.write_bytes(data)
        for command, arguments in ((inspect, ()), (inspect, ("--json",)), (verify, ())):
            printed = io.StringIO()
            with redirect_stdout(printed):
                command.main([str(path), *arguments], standalone_mode=False)
            text = printed.getvalue().replace("\n", "")
            assert text.isprintable(), f"{command.name} prints a control character"


def _models(bundle: Bundle) -> list[tuple[str, str]]:
    names = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
    return [(precision, names[precision]) for precision in bundle.precisions]


def _members() -> dict[str, bytes]:
    """Return the members of a bundle that is intact; nothing loads its models here."""
    generator = np.random.default_rng(0)
    accuracy = Accuracy(oa=0.9, aa=0.85, kappa=0.88, per_class=(0.9, None), pixels=100)
    card = Card(
        name="small",
        created="2026-11-23T00:00:00Z",
        hyperline="0.1.0",
        block_lines=2,
        bands=3,
        sample_multiple=2,
        wavelengths_nm=(450.0, 550.5, 650.0),
        class_names=("Corn", "Woods"),
        scale=1e-4,
        nodata=-1.0,
        composite_bands=(2, 1, 0),
        states=(StateTensor(input="state", output="next_state", shape=(2, 16), sample_axis=0),),
        training={"scene": "field", "split": {"kind": "blocks", "guard": 4}, "seeds": [0, 1]},
        offline=accuracy,
        streamed=accuracy,
        parity={"logits": 1e-6},
    )
    golden = {
        "lines": generator.standard_normal((2, 4, 3)).astype(np.float32),
        "valid": np.ones((2, 4), bool),
        "labels": np.ones((2, 4), np.uint8),
        "logits": generator.standard_normal((2, 4, 2)).astype(np.float32),
    }
    return {
        CARD: card.to_json(),
        "model.onnx": generator.bytes(64),
        "model.int8.onnx": generator.bytes(40),
        "calibration/int8.json": b'{"layers":[{"name":"head","precision":"int8"}],"lost":0.001}\n',
        **encode_golden(golden),
    }


def _archive(members: dict[str, bytes], manifest: bytes) -> bytes:
    """Write a flawless archive around whatever it holds, also by names that no bundle has."""
    try:
        return b"".join(canonical_chunks({MANIFEST: manifest, **members}))
    except (struct.error, UnicodeEncodeError) as error:
        raise InputError(f"the fuzzer made a name that no zip can hold: {error}") from error


def _name(random: Random) -> str:
    return random.choice(
        (
            *("model.fp16.onnx", "calibration/a.json", "calibration/-.json", "calibration/A.json", "model.onnx/", ""),
            *(
                "../evil",
                "/etc/evil",
                "C:\\evil",
                "golden/",
                "a" * 300,
                "a" * 65_535,
                "\x1b[2J",
                "card.json\x00",
                "CARD.JSON",
            ),
        )
    )


def _damage_record(data: bytearray, random: Random) -> str:
    """Put an extreme number over a field of one of the zip's records."""
    mark, size, title = random.choice(
        ((b"PK\3\4", LOCAL, "local"), (b"PK\1\2", CENTRAL, "central"), (b"PK\5\6", END, "end"))
    )
    places = [at for at in range(len(data)) if data.startswith(mark, at)]
    if not places:
        return "zip none"
    at = random.choice(places)
    width = random.choice((2, 4))
    field = at + 4 + 2 * random.randrange((size - 4) // 2)
    number = extreme(width, random)
    if random.random() < 0.3:  # off by a little
        number = (int.from_bytes(data[field : field + width], "little") + random.choice((-1, 1)) & 0xFFFF).to_bytes(
            width, "little"
        )
    data[field : field + width] = number[: max(0, len(data) - field)]
    return f"zip {title}"


def _rewritten(members: dict[str, bytes], random: Random, done: list[str]) -> bytes:
    """Let Python's own zip writer make the archive: another order, members twice, compressed, a comment."""
    entries = [(MANIFEST, Manifest.of(members).to_json()), *members.items()]
    kind = random.choice(("order", "twice", "compressed", "comment", "extra", "many"))
    if kind == "order":
        random.shuffle(entries)
    elif kind == "twice":
        entries.insert(random.randrange(len(entries) + 1), random.choice(entries))
    elif kind == "many":
        entries += [(f"calibration/{number}.json", b"{}\n") for number in range(random.choice((23, 24, 100)))]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if kind == "compressed" else zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = archive.compression
            if kind == "extra":
                info.extra = struct.pack("<HHI", 0xCAFE, 4, 1)
            archive.writestr(info, content)
        if kind == "comment":
            archive.comment = b"PK\5\6" * random.choice((1, 6))
    done.append(f"zip {kind}")
    return file.getvalue()
