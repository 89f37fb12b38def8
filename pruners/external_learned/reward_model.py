"""A frozen reward model: trained once on outcomes of finished paths, applied to prefixes as it is.

The stand-in, on the embedded benchmark, for Qwen2.5-Math-PRM and its like (STOP's Type II): it never saw a prefix's
success rate, only whether whole paths were right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from harness.api import LabelledPrefix, Origins
from pruners.external_learned.verifier import Verifier

if TYPE_CHECKING:
    import torch

    from pruners.external_learned.text_model import TextModel


class RewardModel(Verifier):
    """s_i = sigma(logit at the prefix's last token) of any token-classification model with one label.

    ``model`` is a folder or hub id; by default the one that ships for the generator. Training gives every token of a
    finished path the path's outcome (Math-Shepherd's hard labels, arXiv 2312.08935, with one completion).
    """

    origins = Origins("adapted", "ours", "ours")
    labels = "outcome"

    def __init__(
        self, model: str = "", lr: float = 3e-4, epochs: int = 1, batch: int = 64, examples: int = 16384, seed: int = 0
    ) -> None:
        super().__init__(model, lr, epochs, batch, examples, seed)
        self.where = model

    def identity(self) -> dict[str, Any]:
        """The weights that ``model=`` names; those that ship are identified by their checkpoint."""
        from harness.engines.identity import fingerprint, locate

        return {"model": self.where, "fingerprint": fingerprint(locate(self.where), None)} if self.base else {}

    def trained_on(
        self, model: TextModel, examples: Sequence[LabelledPrefix]
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """A logit at a random position of each path: over the epochs, every step is trained on the outcome."""
        import torch

        ids = model.encode([e.prefix for e in examples])
        heads = [len(row) - len(e.prefix.tokens) for row, e in zip(ids, examples, strict=True)]

        def one_position_each(batch: torch.Tensor) -> torch.Tensor:
            rows = [ids[i] for i in batch.tolist()]
            starts = [max(1, heads[i]) for i in batch.tolist()]
            at = torch.tensor([int(torch.randint(s, len(r), ())) for s, r in zip(starts, rows, strict=True)])
            at = at.to(model.device)
            return model.logits(rows).gather(1, at.unsqueeze(-1)).squeeze(-1)

        return one_position_each
