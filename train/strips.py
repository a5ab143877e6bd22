"""What makes several strips of one sensor one training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hyperline.classes import all_names, class_fault, merged_names, renumbered
from hyperline.errors import InputError
from hyperline.match import require_bands
from hyperline.scenes import Scene, scene_hash


def of_one_sensor(scenes: Sequence[Scene]) -> list[Scene]:
    """Give the classes of all strips the same numbers, and say in the notes of the first what it is trained with.

    Args:
        scenes: two or more, with labels.

    Raises:
        InputError: other bands, units or scale than the first, classes that cannot be matched, or a strip twice.
    """
    first = scenes[0]
    names = all_names(first.class_names, max(len(first.class_names), _highest(first)))
    for one in scenes[1:]:
        wavelengths = first.wavelengths_nm
        require_bands(one, first.name, first.bands, None if wavelengths is None else wavelengths.tolist())
        if (one.scale, one.units) != (first.scale, first.units):
            raise InputError(
                f"{one.name} holds {one.units or 'values'} in steps of {one.scale:g}, {first.name} "
                f"{first.units or 'values'} in steps of {first.scale:g}; store both in the same way"
            )
        names = merged_names(names, one)
    numbered = [renumbered(one, names) for one in scenes]
    for one in numbered:
        if fault := class_fault(one, names):
            raise InputError(f"{fault}; give every strip names of its classes, or numbers alone")
    hashes = [scene_hash(one) for one in numbered]
    if len(set(hashes)) < len(hashes):
        raise InputError("two of the strips are the same; give each once")
    # With the notes run.json is compared when a run is resumed: the other strips belong to it as much as the first.
    together = [
        f"trained together with {one.name} ({digest})" for one, digest in zip(numbered[1:], hashes[1:], strict=True)
    ]
    return [replace(numbered[0], class_names=names, notes=(*numbered[0].notes, *together)), *numbered[1:]]


def _highest(scene: Scene) -> int:
    return 0 if scene.labels is None else int(scene.labels.max())
