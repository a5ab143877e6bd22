"""The shallow classifiers that a network has to beat to earn its watts.

Nothing here is deployed; it stands beside the network's figures, on the same splits. Noise-whitened
components and their Gaussian blurs carry most of what the spatial context of such scenes holds.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hyperline.scenes import Scene
from hyperline.splits import Split
from hyperline.train.mnf import fit_mnf

Baseline = Literal["svm-spectra", "svm-mnf", "lda-mnf"]
BASELINES: tuple[Baseline, ...] = ("svm-spectra", "svm-mnf", "lda-mnf")

_COMPONENTS = 30
_BLURS = (1.0, 2.0, 4.0, 8.0)


def classify_baseline(name: Baseline, scene: Scene, split: Split, block_lines: int | None = None) -> NDArray[np.uint8]:
    """Train a shallow classifier on a split and classify the scene.

    Args:
        name: ``svm-spectra`` is an RBF support vector machine (C = 100) on standardised spectra; ``svm-mnf``
            and ``lda-mnf`` (shrinkage linear discriminant analysis) see 30 MNF components and their Gaussian
            blurs of 1, 2, 4 and 8 pixels.
        scene: all pixels valid, small enough for memory.
        split: its training pixels.
        block_lines: hold the blurs to a streaming latency: along track they see the past and the current
            block, never beyond. None blurs the whole scene.

    Returns:
        (line, sample) class ids.
    """
    if name == "svm-spectra":
        features = np.asarray(scene.cube, dtype=np.float64)
    else:
        components = fit_mnf(scene, _COMPONENTS)(np.asarray(scene.cube))
        blurred = [blur(components, sigma, block_lines) for sigma in _BLURS]
        features = np.concatenate([components, *blurred], axis=-1)
    classifier = (
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        if name == "lda-mnf"
        else SVC(C=100.0, gamma="scale")
    )
    model = make_pipeline(StandardScaler(), classifier)
    chosen = split.train > 0
    with warnings.catch_warnings():
        # a block split may leave a class with one training pixel; its covariance is then the shrinkage target
        warnings.filterwarnings("ignore", "Only one sample available", UserWarning)
        model.fit(features[chosen], split.train[chosen])
    predicted: NDArray[np.uint8] = model.predict(features.reshape(-1, features.shape[-1])).astype(np.uint8)
    return predicted.reshape(scene.lines, scene.samples)


def blur(components: NDArray[np.float64], sigma: float, block_lines: int | None = None) -> NDArray[np.float64]:
    """Blur (line, sample, component) with a Gaussian, edges repeated.

    With ``block_lines`` each line sees what a streaming run has by then: all earlier lines and its block. The
    weights along track are those of the lines that are there, normalised: of the ways to end a blur at a
    block the one that serves these classifiers best (Indian Pines, SVM: 89.6 against 88.3 for repeating the
    last line).
    """
    if block_lines is None:
        whole: NDArray[np.float64] = gaussian_filter(components, (sigma, sigma, 0), mode="nearest")
        return whole
    across = gaussian_filter1d(components, sigma, axis=1, mode="nearest")
    out: NDArray[np.float64] = np.empty_like(across)
    reach = int(4 * sigma + 0.5)  # the filter's own radius
    for start in range(0, len(across), block_lines):
        end = min(start + block_lines, len(across))
        first = max(0, start - reach)
        seen = gaussian_filter1d(across[first:end], sigma, axis=0, mode="constant")
        share = gaussian_filter1d(np.ones(end - first), sigma, mode="constant")
        out[start:end] = (seen / share[:, None, None])[start - first :]
    return out
