"""The classifiers that a network has to beat to earn its watts.

Nothing here is deployed; it stands beside the network's figures, on the same splits. Along track every one obeys the
rule of train/network.py: it sees the past, and anywhere in the current block, never beyond. With the whole scene as one
block it is what its paper describes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from hyperline.errors import InputError
from hyperline.scenes import Scene, Strips, measured_labels, valid_pixels
from hyperline.splits import Split
from hyperline.train.baselines.classification import Classification, Classifier

Baseline = Literal[
    "svm-spectra", "lda-spectra", "svm-mnf", "lda-mnf", "forest-spectra", "forest-mnf", "rpnet-rf", "hybridsn", "ssftt"
]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
_COMPONENTS = 30


@dataclass(frozen=True)
class FittedBaseline:
    """A trained classifier, with all that it took from the training strip: classes, components, scaling."""

    classifier: Classifier
    bands: int

    def classify(self, scene: Scene) -> Classification:
        """Classify a scene small enough for memory.

        Raises:
            InputError: the scene has another number of bands.
        """
        if scene.bands != self.bands:
            raise InputError(f"{scene.name} has {scene.bands} bands, the baseline was trained on {self.bands}")
        found = self.classifier(scene)
        valid = valid_pixels(np.asarray(scene.cube), scene.nodata)
        return Classification(np.where(valid, found.class_map, 0).astype(np.uint8), found.probabilities)


def fit_baseline(
    name: Baseline, strips: Strips, classes: int, block_lines: int | None = None, seed: int = 0
) -> FittedBaseline:
    """Train a classifier.

    Args:
        name: one of `BASELINES`; the modules of this folder say what each is.
        strips: scenes of the same bands, small enough for memory, each with its training labels, (line, sample) class
            ids; those of pixels that are not valid are left out. Labels that a scene itself holds are not looked at.
        classes: number of them, whether all train or not.
        block_lines: K, the latency to which training and classification are held. None takes the whole scene as one
            block.
        seed: of forests, random patches, weights and draws.

    Raises:
        InputError: ``block_lines`` is no length, the scene is too small for its bands, or no valid pixel trains.
    """
    from hyperline.train.baselines import features, patches, shallow
    from hyperline.train.baselines.hybridsn import HYBRIDSN_RECIPE
    from hyperline.train.baselines.random_patches import fit_random_patches
    from hyperline.train.baselines.ssftt import SSFTT_RECIPE
    from hyperline.train.first_layer import choose_map

    if block_lines is not None and block_lines < 1:
        raise InputError(f"a block of {block_lines} lines is none; use 1 or more")
    strips = [(scene, measured_labels(scene, labels)) for scene, labels in strips]
    if not any(labels.any() for _, labels in strips):
        raise InputError(f"{strips[0][0].name}: no training pixel of the split is valid")
    scenes = [scene for scene, _ in strips]
    classifier: Classifier
    if name == "hybridsn":
        classifier = patches.train_patch_network(HYBRIDSN_RECIPE, strips, classes, block_lines, seed)
    elif name == "ssftt":
        classifier = patches.train_patch_network(SSFTT_RECIPE, strips, classes, block_lines, seed)
    else:
        seen: features.Features
        if name == "rpnet-rf":
            seen = fit_random_patches(scenes, block_lines, seed)
        elif name.endswith("-spectra"):
            seen = features.fit_spectra(scenes)
        else:
            seen = features.GaussianScales(choose_map(strips, _COMPONENTS), block_lines)
        kind = "svm" if name == "rpnet-rf" else name.split("-")[0]
        classifier = shallow.fit_shallow(kind, seen, strips, classes, seed)
    return FittedBaseline(classifier, scenes[0].bands)


def classify_baseline(
    name: Baseline, scene: Scene, split: Split, block_lines: int | None = None, seed: int = 0
) -> Classification:
    """Train on a split of a scene and classify that scene: `fit_baseline`, then `FittedBaseline.classify`."""
    classes = int(max(split.train.max(), split.test.max()))
    return fit_baseline(name, [(scene, split.train)], classes, block_lines, seed).classify(scene)
