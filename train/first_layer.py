"""The fixed first layer: which map from bands to components a network stands on, and how its components are scaled.

Nobody can tell beforehand which noise to whiten (train/mnf.py): a map that is worth eight points on wide fields costs
as many on a scene of mixed pixels. The training labels can: each map is judged by how well a support vector machine on
its components tells held-out labels (bench/tuning.md has what that choice is worth).
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from hyperline.scenes import Scene, Strips, valid_pixels
from hyperline.train.held_out import held_out_accuracy, label_patches
from hyperline.train.mnf import MinimumNoiseFraction, Noise, fit_mnf


def choose_map(strips: Strips, components: int) -> MinimumNoiseFraction:
    """Fit a map for each way to estimate noise, and return the one that tells the training labels apart best.

    Args:
        strips: scenes, each with its training labels, (line, sample) class ids, 0 elsewhere.
        components: how many to keep.

    Raises:
        InputError: too few valid pixels to estimate the covariances.
    """
    from sklearn.svm import SVC

    scenes = [scene for scene, _ in strips]
    patches = label_patches(strips)
    maps = [fit_mnf(scenes, components, noise) for noise in get_args(Noise)]
    labelled = [(scene.cube[labels > 0], labels[labels > 0], scene.nodata) for scene, labels in strips]
    valid = [valid_pixels(spectra, nodata) for spectra, _, nodata in labelled]
    spectra = np.concatenate([one[0][seen] for one, seen in zip(labelled, valid, strict=True)]).astype(np.float64)
    classes = np.concatenate([one[1][seen] for one, seen in zip(labelled, valid, strict=True)])
    patches = patches[np.concatenate(valid)]
    machine = SVC(C=100.0, gamma="scale")
    scores = [held_out_accuracy(machine, (spectra - one.mean) @ scaled(one), classes, patches) for one in maps]
    return maps[int(np.argmax(scores))]


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
