"""Recipes for training STOP: ours, the paper's and the official repository's, and how they depend on a model's width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.api import Origin

TABLE_12 = {1536: 128, 2880: 2048, 3584: 256, 4096: 256}  # LoRA rank by width: 1.5B, 20B, 7B and 8B models
OURS = 160  # width of the embedded models, for which our recipe was chosen


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training.

    ``rank`` and ``lr`` are functions of the model's width. Members that are not described here are those of
    ``harness.learn.fitting.Schedule``.

    Attributes:
        rank: rank of the LoRA.
        lr: learning rate.
        targets: linear layers that get a LoRA, joined by ``+``; empty for all.
        one_length: whether all training prefixes have the same L.
        continuations: K of the labels, if the recipe specifies it; else 0.
        origin: the origin of the training, for the fidelity label.
    """

    rank: Callable[[int], int]
    lr: Callable[[int], float]
    epochs: int
    batch: int = 128
    dropout: float = 0.0
    targets: str = ""
    rate: str = "constant"
    clip: float = 0.0
    select: str = "mse"
    patience: int = 0  # 0: no early stopping
    one_length: bool = False
    continuations: int = 0
    origin: Origin = "ours"


def _rank_of_ours(width: int) -> int:
    """16 at the width of the embedded models; for wider models a tenth of the width, as a power of two, at most 256."""
    return min(256, max(16, 1 << max(1, width // 10).bit_length() - 1))


def _rank_of_the_paper(width: int) -> int:
    """The rank in Table 12. Other widths get 128 below 2,560, else 256, and at most the width itself."""
    return min(width, TABLE_12.get(width, 128 if width < 2560 else 256))


RECIPES: Mapping[str, Recipe] = {
    "pathprune": Recipe(
        _rank_of_ours,
        lambda width: 2e-3 * min(1.0, OURS / width),
        epochs=3, rate="linear", clip=1.0, select="bce", patience=2,
    ),
    # Table 12 of the paper. Schedule, clipping and the choice of the epoch follow the official code.
    "paper": Recipe(_rank_of_the_paper, lambda width: 2e-5, epochs=15, one_length=True, continuations=32, origin="paper"),
    # The official script with its default arguments. It repeats one [ASSESS] vector, whereas here each token has its own.
    "official": Recipe(
        lambda width: 256, lambda width: 1e-4, epochs=10, batch=64, dropout=0.05, targets="q_proj+v_proj", origin="adapted"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A recipe by name, with the options that a user changed.

    An option with its default of -1, 0 or "" has the value of the recipe.
    """

    recipe: str
    rank: int = -1
    alpha: float = 0.0
    dropout: float = -1.0
    lr: float = 0.0
    epochs: int = 0
    batch: int = 0
    rate: str = ""
    clip: float = -1.0
    patience: int = 0
    select: str = ""
    targets: str = ""

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise ValueError(f"recipe is one of {', '.join(RECIPES)}")

    @property
    def known(self) -> Recipe:
        """The recipe of that name."""
        return RECIPES[self.recipe]

    @property
    def origin(self) -> Origin:
        """The origin of the training: that of the recipe, unless an option was changed."""
        changed = self != replace(Asked(self.recipe), alpha=self.alpha) or self.alpha
        return "adapted" if changed and self.known.origin != "ours" else self.known.origin

    def adapter(self, width: int) -> dict[str, Any]:
        """Options of a LoRA for a model of this width. By default, alpha is twice the rank."""
        rank = self.known.rank(width) if self.rank == -1 else self.rank
        dropout = self.known.dropout if self.dropout == -1 else self.dropout
        shape = {"rank": rank, "alpha": self.alpha or 2.0 * rank, "dropout": dropout}
        targets = self.targets or self.known.targets
        return shape | ({"targets": targets} if targets else {})

    def schedule(self, width: int) -> dict[str, Any]:
        """Options of ``harness.learn.fitting.Schedule`` for a model of this width."""
        known, epochs = self.known, self.epochs or self.known.epochs
        return {
            "learning_rate": self.lr or known.lr(width),
            "epochs": epochs,
            "batch": self.batch or known.batch,
            "rate": self.rate or known.rate,
            "clip": known.clip if self.clip == -1 else self.clip,
            "patience": self.patience or known.patience or epochs,
            "select": self.select or known.select,
        }
