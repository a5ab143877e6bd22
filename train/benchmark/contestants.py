"""Who takes part: networks and what they have to beat, each with its source and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hyperline.train.baselines import Baseline


@dataclass(frozen=True)
class Contestant:
    """One way to classify.

    Attributes:
        title: in tables.
        source: the paper.
        baseline: name in `BASELINES`; None for a network.
        network: name in `NETWORKS`.
        model: fields of the settings of the network that differ from the default.
        train: fields of `TrainConfig` that differ from the default.
        temperature: whether a temperature of the logits is fitted too; the labels are the same.
    """

    title: str
    source: str
    baseline: Baseline | None = None
    network: str = "mambamoe"
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    temperature: bool = False

    @property
    def is_shallow(self) -> bool:
        """Whether it is a classifier of given features, and no network of any kind."""
        return self.baseline is not None and self.baseline not in _PATCH_NETWORKS

    def settings(self) -> dict[str, Any]:
        """Return what its results depend on."""
        return {
            "baseline": self.baseline,
            "network": self.network,
            "model": dict(self.model),
            "train": dict(self.train),
            "temperature": self.temperature,
        }


# Baselines that are trained networks themselves.
_PATCH_NETWORKS = ("hybridsn", "ssftt")

_MAMBAMOE = "Xu et al., MambaMoE, arXiv 2504.20509"

# The paper's sizes and recipe (sections 3.2 and 4.1) under the rule of blocks: standardised bands in place of whitened
# noise, whole scenes, nothing asked of unlabelled pixels, no average of the weights, UGCL as its code has it.
_PUBLISHED_MODEL = {"experts": (2, 4, 8, 16), "first_layer": "standardise"}
_PUBLISHED_TRAIN = {
    "epochs": 200,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "block_lines": "full",
    "ugcl": "published",
    "balance": 0.0,
    "consistency": 0.0,
    "average": 0.0,
    "augment": False,
}

CONTESTANTS: Mapping[str, Contestant] = {
    "mambamoe": Contestant("MambaMoE", _MAMBAMOE, temperature=True),
    "mambamoe-published": Contestant(
        "MambaMoE as published", _MAMBAMOE, model=_PUBLISHED_MODEL, train=_PUBLISHED_TRAIN
    ),
    "mambamoe-ugcl-published": Contestant("MambaMoE, UGCL as published", _MAMBAMOE, train={"ugcl": "published"}),
    "mambamoe-no-ugcl": Contestant("MambaMoE without UGCL", _MAMBAMOE, train={"ugcl": "off"}),
    "mambamoe-no-spectral": Contestant("MambaMoE without spectral expert", _MAMBAMOE, model={"spectral_inner": 0}),
    "ssmamba": Contestant("SS-Mamba", "Huang et al., SS-Mamba, arXiv 2404.18401", network="ssmamba"),
    "sdmamba": Contestant("SDMamba", "Xu et al., SDMamba, arXiv 2504.09446", network="sdmamba"),
    "mambahsi": Contestant("MambaHSI", "Li et al., MambaHSI, arXiv 2501.04944", network="mambahsi"),
    "dualmamba": Contestant("DualMamba", "Sheng et al., DualMamba, arXiv 2406.07050", network="dualmamba"),
    "svm-mnf": Contestant(
        "SVM on MNF + Gaussian scales", "Green et al. 1988 (MNF); Cortes and Vapnik 1995", baseline="svm-mnf"
    ),
    "lda-mnf": Contestant(
        "LDA on MNF + Gaussian scales", "Green et al. 1988 (MNF); Ledoit and Wolf 2004", baseline="lda-mnf"
    ),
    "svm-spectra": Contestant("SVM on spectra", "Melgani and Bruzzone 2004", baseline="svm-spectra"),
    "lda-spectra": Contestant("LDA on spectra", "Fisher 1936; Ledoit and Wolf 2004", baseline="lda-spectra"),
    "forest-mnf": Contestant(
        "Random forest on MNF + Gaussian scales", "Green et al. 1988 (MNF); Breiman 2001", baseline="forest-mnf"
    ),
    "forest-spectra": Contestant("Random forest on spectra", "Breiman 2001", baseline="forest-spectra"),
    "rpnet-rf": Contestant(
        "RPNet-RF", "Xu et al. 2018; Uchaev and Uchaev, Sensors 23(5), 2499, 2023", baseline="rpnet-rf"
    ),
    "hybridsn": Contestant("HybridSN", "Roy et al., arXiv 1902.06701", baseline="hybridsn"),
    "ssftt": Contestant("SSFTT", "Sun et al., IEEE TGRS 60, 2022", baseline="ssftt"),
    "liunet": Contestant("1D-Justo-LiuNet", "Justo et al., arXiv 2310.16210", network="liunet"),
}
