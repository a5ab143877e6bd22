"""How the published networks of patches are trained, and run over a scene.

A patch network scores a pixel from the square of principal components around it. All of its layers are convolutions or
have windows, so a block is scored in one call, not patch by patch: neighbouring patches share nearly all their work.
What a patch lacks past the block is the block's last line (`block_window`), in training too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hyperline.errors import InputError
from hyperline.scenes import Scene, Strips, valid_pixels
from hyperline.train.baselines.classification import Classification
from hyperline.train.baselines.features import Spectra, block_window, blocks, fit_spectra
from hyperline.train.baselines.principal_components import PrincipalComponents, fit_principal_components

# Lines scored in one call, which bounds the memory.
_LINES_AT_ONCE = 16


@dataclass(frozen=True)
class PatchRecipe:
    """A network of patches and how its paper trains it.

    Attributes:
        make: of components and classes; maps (N, components, side + a, side + b) to (N, classes, 1 + a, 1 + b).
        components: principal components of variance 1; fewer where fewer bands vary.
        fewest: components that its convolutions need.
        side: of a patch in pixels, odd.
        epochs: passes over the training patches.
        batch: patches a step.
        learning_rate: of Adam.
    """

    make: Callable[[int, int], nn.Module]
    components: int
    fewest: int
    side: int
    epochs: int
    batch: int
    learning_rate: float


@dataclass(frozen=True)
class PatchClassifier:
    """A trained network of patches.

    Attributes:
        spectra: of the training strip.
        components: of the training strip.
        network: in evaluation mode.
        side: of a patch.
        block_lines: K; None takes the whole scene as one block.
    """

    spectra: Spectra
    components: PrincipalComponents
    network: nn.Module
    side: int
    block_lines: int | None

    @torch.no_grad()
    def __call__(self, scene: Scene) -> Classification:
        """Classify every pixel."""
        image = self.components(self.spectra(scene))
        reach = self.side // 2
        scores = []
        for start, end in blocks(scene.lines, self.block_lines):
            window = _tensor(block_window(image, start, end, reach))
            for first in range(0, end - start, _LINES_AT_ONCE):
                last = min(first + _LINES_AT_ONCE, end - start)
                scores.append(self.network(window[None, :, first : last + 2 * reach])[0])
        probabilities = torch.softmax(torch.cat(scores, dim=1), dim=0).permute(1, 2, 0)  # (line, sample, class)
        class_map = (probabilities.argmax(-1) + 1).numpy().astype(np.uint8)
        return Classification(class_map, probabilities.contiguous().numpy())


def train_patch_network(
    recipe: PatchRecipe, strips: Strips, classes: int, block_lines: int | None, seed: int
) -> PatchClassifier:
    """Train by Adam and cross-entropy on the patches of the labelled pixels.

    Args:
        recipe: the network and how to train it.
        strips: the training strips, all labels of valid pixels; the components come from all pixels.
        classes: scores of the network.
        block_lines: K; patches are cut as a streaming run has them. None takes the whole scene as one block.
        seed: of weights, draws and dropout.

    Raises:
        InputError: there is no valid pixel, or too few components vary.
    """
    scenes = [scene for scene, _ in strips]
    spectra = fit_spectra(scenes)
    pixels = [spectra(one)[valid_pixels(np.asarray(one.cube), one.nodata)] for one in scenes]
    components = fit_principal_components(np.concatenate(pixels), recipe.components)
    if len(components.variance) < recipe.fewest:
        raise InputError(
            f"{scenes[0].name} gives {len(components.variance)} principal components, the network convolves over at "
            f"least {recipe.fewest}; use a baseline without spectral convolutions"
        )
    labelled = [(scene, labels) for scene, labels in strips if labels.any()]
    patches = torch.cat(
        [_cut_patches(components(spectra(scene)), labels, recipe.side, block_lines) for scene, labels in labelled]
    )
    target = torch.from_numpy(np.concatenate([labels[labels > 0] for _, labels in labelled]).astype(np.int64) - 1)
    torch.manual_seed(seed)
    network = recipe.make(patches.shape[1], classes)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    network.train()
    for _ in range(recipe.epochs):
        for chosen in torch.randperm(len(target)).split(recipe.batch):
            scores = network(patches[chosen]).flatten(1)
            optimizer.zero_grad()
            F.cross_entropy(scores, target[chosen]).backward()
            optimizer.step()
    return PatchClassifier(spectra, components, network.eval(), recipe.side, block_lines)


def _cut_patches(image: NDArray[np.float64], labels: NDArray[np.uint8], side: int, block_lines: int | None) -> Tensor:
    """Cut (N, component, side, side) around the labelled pixels, in the order of the lines."""
    patches = []
    for start, end in blocks(len(image), block_lines):
        window = _tensor(block_window(image, start, end, side // 2))
        for line, sample in np.argwhere(labels[start:end] > 0):
            patches.append(window[:, line : line + side, sample : sample + side])
    return torch.stack(patches)


def _tensor(window: NDArray[np.float64]) -> Tensor:
    """(line, sample, component) to (component, line, sample) float32."""
    return torch.from_numpy(window.astype(np.float32)).permute(2, 0, 1).contiguous()
