"""The fixed first layer: which map from bands to components a network stands on, and how its components are scaled.

Nobody can tell beforehand which noise to whiten (train/mnf.py): a map that is worth eight points on wide fields costs
as many on a scene of mixed pixels. The training labels can: each map is judged by how well shallow classifiers of its
components and their blurs, which is what a network sees, tell held-out labels (bench/tuning.md has what that is worth).
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from hyperline.scenes import Scene, Strips, measured_labels
from hyperline.train.baselines.features import GaussianScales
from hyperline.train.baselines.shallow import look_at_labels, make_classifier
from hyperline.train.held_out import held_out_accuracy, label_patches
from hyperline.train.mnf import MinimumNoiseFraction, Noise, fit_mnf

# Features of larger strips do not fit the memory of a small machine.
MOST_PIXELS = 2**20


def choose_map(strips: Strips, components: int) -> MinimumNoiseFraction:
    """Fit a map for each way to estimate noise, and return the one that tells the training labels apart best.

    Args:
        strips: scenes, each with its training labels, (line, sample) class ids, 0 elsewhere.
        components: how many to keep.

    Raises:
        InputError: too few valid pixels to estimate the covariances.
    """
    strips = [(scene, measured_labels(scene, labels)) for scene, labels in strips]
    maps = [fit_mnf([scene for scene, _ in strips], components, noise) for noise in get_args(Noise)]
    patches = label_patches(strips)
    return max(maps, key=lambda one: _worth(one, strips, patches))  # of equals the first


def _worth(mnf: MinimumNoiseFraction, strips: Strips, patches: NDArray[np.intp]) -> float:
    """Return the accuracy on held-out labels, mean of two kinds of classifier."""
    if not patches.size:
        return 0.0
    if max(scene.lines * scene.samples for scene, _ in strips) > MOST_PIXELS:
        seen = np.concatenate([scene.cube[labels > 0] for scene, labels in strips]).astype(np.float64)
        seen, classes = (seen - mnf.mean) @ scaled(mnf), np.concatenate([labels[labels > 0] for _, labels in strips])
    else:
        _, seen, classes = look_at_labels(GaussianScales(mnf, None), strips)
    kinds = ("svm", "lda")
    return sum(held_out_accuracy(make_classifier(kind, 0), seen, classes, patches) for kind in kinds) / len(kinds)


def unlabelled(*scenes: Scene) -> list[tuple[Scene, NDArray[np.uint8]]]:
    """Return strips without training labels: the map is then that of the neighbours."""
    return [(scene, np.zeros((scene.lines, scene.samples), np.uint8)) for scene in scenes]


def scaled(mnf: MinimumNoiseFraction) -> NDArray[np.float64]:
    """Return the projection (bands, components) scaled for a network.

    Components have noise variance 1 and signal of any size. The square root of their standard deviation divides them,
    half way between whitening the noise and whitening the scene; and each is shrunk by the share of it that is signal
    (Wiener), so that components of noise alone are not carried along.
    """
    snr = np.maximum(mnf.snr, 1.0 + 1e-6)
    result: NDArray[np.float64] = mnf.projection * (snr**-0.25 * (1 - 1 / snr))
    return result
