"""A run's own files, read back by ``hyperline repair`` and ``run --resume`` after whatever became of disk and power."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np

from fuzzing.damage import WORDS, damage_bytes, damage_json, extreme
from fuzzing.target import Case, Refusal, Target, attempt
from hyperline.runtime import strip
from hyperline.runtime.checkpoint import SLOTS, Checkpoint, Checkpoints
from hyperline.runtime.counters import Counters
from hyperline.runtime.records import RECORDS, SIZE, Record, RecordLog
from hyperline.runtime.sinks.envi import EnviSink, repair_maps
from hyperline.runtime.sinks.images import PIXEL_BYTES, ImageForm, map_forms

BLOCK, SAMPLES, CLASSES, STATE = 4, 6, 3, 40
FACTS = {"bundle": "0" * 64, "precision": "fp32", "samples": SAMPLES, "block_lines": BLOCK}
SLOT_HEAD = struct.Struct("<4sIQQ")
CRC = struct.Struct("<I")


@dataclass(frozen=True)
class RunCase(Case):
    """The files of a run, and whether it is resumed or repaired."""

    resumed: bool


class Runs(Target):
    """Maps, their headers, ``blocks.log`` and the slots of the checkpoints."""

    name = "runs"
    accepted = "whole"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        _fly(folder)
        self.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        self.lines = len(self.files["classes.img"]) // SAMPLES

    def originals(self) -> Iterator[Case]:
        """Give the run as it ended."""
        for resumed in (False, True):
            yield RunCase((), self.files, resumed)

    def make(self, random: Random) -> Case:
        """Damage some of the files; half of the damage in records and slots has right checksums."""
        files, done = dict(self.files), []
        for _ in range(random.choice((1, 1, 2, 3))):
            name = random.choice((RECORDS, RECORDS, *SLOTS, *SLOTS, *files))
            data = files.get(name, b"")
            kind = random.random()
            what = ""
            if kind < 0.05:
                files.pop(name, None)
                what = "lost"
            elif kind < 0.1:
                files[name] = random.choice(list(self.files.values()))
                what = "another file"
            elif name == RECORDS and kind < 0.5:
                files[name] = _forge_record(data, random)
                what = "forged"
            elif name in SLOTS and kind < 0.6:
                files[name], what = _forge_slot(data, random)
            elif name.endswith(".hdr") and kind < 0.6:
                files[name] = _set_value(data, random)
                what = "value"
            else:
                changed = bytearray(data)
                what = damage_bytes(changed, random, (data,))
                files[name] = bytes(changed)
            done.append(f"{_kind(name)} {what}")
        return RunCase(tuple(done), files, random.random() < 0.5)

    def check(self, case: Case) -> str:
        """Repair or resume, and see that what is left agrees with itself."""
        assert isinstance(case, RunCase)
        self.put(case)
        if case.resumed:
            start = attempt(lambda: strip._resume(self.folder, FACTS, STATE, CLASSES))
            if isinstance(start, Refusal):
                return "refused"
            lines, records = start.lines, start.records
            state = start.flight["state"]
            assert state.shape == (STATE,) and state.dtype == np.float32, f"a state of {state.shape}"
            confusion = start.flight["confusion"]
            assert confusion is None or confusion.shape == (CLASSES, CLASSES + 1), f"confusion of {confusion.shape}"
            assert all(value >= 0 for value in asdict(start.flight["counters"]).values()), "a negative counter"
            assert 0 <= start.flight["next_index"] < 2**63, f"next index {start.flight['next_index']}"
        else:
            repaired = attempt(lambda: repair_maps(self.folder))
            if isinstance(repaired, Refusal):
                return "refused"
            lines, records = repaired.lines, repaired.records
        assert (self.folder / RECORDS).stat().st_size == records * SIZE
        sizes = {name: self._size(name) for name in PIXEL_BYTES}
        samples = sizes["classes"] // lines if lines else 0
        wanted = {name: lines * samples * bytes_ for name, bytes_ in PIXEL_BYTES.items()}
        assert sizes == wanted, f"{lines} lines of {samples} samples in {sizes} bytes"
        experts = self._size("experts")
        assert experts % max(records, 1) == 0, f"{records} blocks in {experts} bytes of experts"
        again = repair_maps(self.folder)
        assert (again.lines, again.removed, again.records) == (lines, 0, records), f"a second repair gives {again}"
        return "whole" if lines == self.lines else "cut back" if lines else "nothing left"

    def _size(self, name: str) -> int:
        path = self.folder / f"{name}.img"
        return path.stat().st_size if path.exists() else 0


def _fly(folder: Path) -> None:
    """Write what a flight of five blocks leaves, the last of them partial."""
    generator = np.random.default_rng(0)
    log, slots = RecordLog(folder / RECORDS), Checkpoints(folder)
    forms = (
        *map_forms(SAMPLES, ["Corn", "Woods", "Stone"]),
        ImageForm("uncertainty", "|u1", SAMPLES, 1, ""),
        ImageForm("quicklook", "|u1", SAMPLES, 3, ""),
        ImageForm("experts", "<f4", 4, 3, "", per_block=True),
    )
    with EnviSink(folder, forms, BLOCK) as sink:
        for block in range(5):
            count = BLOCK if block < 4 else 2
            first = sink.lines
            images = {
                "classes": generator.integers(0, 4, (BLOCK, SAMPLES), np.uint8),
                "confidence": generator.random((BLOCK, SAMPLES), np.float32),
                "uncertainty": generator.integers(0, 256, (BLOCK, SAMPLES), np.uint8),
                "quicklook": generator.integers(0, 256, (BLOCK, SAMPLES, 3), np.uint8),
                "experts": generator.random((1, 4, 3), np.float32),
            }
            log.append(Record(first, count, sink.lines, sink.write(images, count)))
            facts = {
                **FACTS,
                "counters": asdict(Counters(received=sink.lines, classified=sink.lines)),
                "confusion": np.ones((CLASSES, CLASSES + 1), int).tolist(),
                "next_index": sink.lines,
                "lines": sink.lines,
            }
            slots.write(Checkpoint(block + 1, facts, generator.random(STATE, np.float32)))
    log.close()
    slots.close()


def _kind(name: str) -> str:
    return "log" if name == RECORDS else "slot" if name in SLOTS else name.rpartition(".")[2]


def _forge_record(data: bytes, random: Random) -> bytes:
    """Put an extreme number into a record, and make its checksum right."""
    if len(data) < SIZE:
        return data
    changed = bytearray(data)
    at = SIZE * random.randrange(len(data) // SIZE)
    width = random.choice((2, 4, 8))
    field = at + 2 * random.randrange((SIZE - CRC.size - width) // 2 + 1)
    changed[field : field + width] = extreme(width, random)
    changed[at + SIZE - CRC.size : at + SIZE] = CRC.pack(zlib.crc32(changed[at : at + SIZE - CRC.size]))
    return bytes(changed)


def _forge_slot(data: bytes, random: Random) -> tuple[bytes, str]:
    """Change facts, state or head of a checkpoint, and make its checksum right."""
    start = SLOT_HEAD.size + CRC.size
    if len(data) < start:
        return data, "short"
    magic, facts_size, _, serial = SLOT_HEAD.unpack_from(data)
    facts, state = data[start : start + facts_size], data[start + facts_size :]
    kind = random.random()
    if kind < 0.6:
        facts, what = damage_json(facts, random)
        if random.random() < 0.5:
            serial += random.choice((10, 2**63))
    elif kind < 0.8:
        changed = bytearray(state)
        what = "state " + damage_bytes(changed, random)
        state = bytes(changed)
    else:
        head = bytearray(SLOT_HEAD.pack(magic, len(facts), len(state), serial))
        at = random.choice((4, 8, 16))
        field = 4 if at == 4 else 8
        head[at : at + field] = extreme(field, random)
        return bytes(head) + CRC.pack(zlib.crc32(state, zlib.crc32(facts, zlib.crc32(head)))) + facts + state, "head"
    head = bytearray(SLOT_HEAD.pack(magic, len(facts), len(state), min(serial, 2**64 - 1)))
    return bytes(head) + CRC.pack(zlib.crc32(state, zlib.crc32(facts, zlib.crc32(head)))) + facts + state, what


def _set_value(data: bytes, random: Random) -> bytes:
    """Give a field of a map's header another value."""
    lines = data.decode("utf-8", "replace").split("\n")
    at = random.randrange(len(lines))
    lines[at] = f"{lines[at].partition('=')[0]}= {random.choice((*WORDS, *map(str, range(12))))}"
    return "\n".join(lines).encode("utf-8", "replace")
