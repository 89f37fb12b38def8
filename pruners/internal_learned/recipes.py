"""How STOP is trained: our recipe, the paper's and the official repository's, and what they make of a model's width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.api import Origin

TABLE_12 = {1536: 128, 2880: 2048, 3584: 256, 4096: 256}  # rank by width, of the paper's 1.5B, 20B, 7B and 8B models
OURS = 160  # width of the embedded models, for which our own numbers were chosen


@dataclass(frozen=True)
class Recipe:
    """Numbers of a training. ``rank`` and ``lr`` follow from the model's width; the rest as in ``harness.learn.fitting.Schedule``.

    ``targets`` are the linear layers that the LoRA is on, joined with +, empty for all. ``one_length``: prefixes of a single L
    are trained on. ``continuations``: K of its labels, where the recipe names it.
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
    patience: int = 0  # 0: never stopped early
    one_length: bool = False
    continuations: int = 0
    origin: Origin = "ours"


def _rank_of_ours(width: int) -> int:
    """16 at the width of the embedded models; a tenth of larger ones in powers of two, 256 at most."""
    return min(256, max(16, 1 << max(1, width // 10).bit_length() - 1))


def _rank_of_the_paper(width: int) -> int:
    """Table 12; for a width that is not in it, 128 below 2,560 and 256 from there on, and never more than the width."""
    return min(width, TABLE_12.get(width, 128 if width < 2560 else 256))


RECIPES: Mapping[str, Recipe] = {
    "pathprune": Recipe(
        _rank_of_ours,
        lambda width: 2e-3 * min(1.0, OURS / width),
        epochs=3, rate="linear", clip=1.0, select="bce", patience=2,
    ),
    # Where Table 12 is silent (schedule, clipping, which epoch is kept) it is the official code's.
    "paper": Recipe(_rank_of_the_paper, lambda width: 2e-5, epochs=15, one_length=True, continuations=32, origin="paper"),
    # Script and defaults of its arguments. It repeats one [ASSESS] vector, where here each token has its own.
    "official": Recipe(
        lambda width: 256, lambda width: 1e-4, epochs=10, batch=64, dropout=0.05, targets="q_proj+v_proj", origin="adapted"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A recipe by name, and what a user set of it; what is -1, 0 or empty at its default is the recipe's."""

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
        """Whose the training is: the recipe's, if nothing of it was set."""
        changed = self != replace(Asked(self.recipe), alpha=self.alpha) or self.alpha
        return "adapted" if changed and self.known.origin != "ours" else self.known.origin

    def adapter(self, width: int) -> dict[str, Any]:
        """What a LoRA is made with, of a model of this width; its alpha is twice its rank."""
        rank = self.known.rank(width) if self.rank == -1 else self.rank
        dropout = self.known.dropout if self.dropout == -1 else self.dropout
        shape = {"rank": rank, "alpha": self.alpha or 2.0 * rank, "dropout": dropout}
        targets = self.targets or self.known.targets
        return shape | ({"targets": targets} if targets else {})

    def schedule(self, width: int) -> dict[str, Any]:
        """Options of ``harness.learn.fitting.Schedule``."""
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
