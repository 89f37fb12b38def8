"""A frozen reward model: trained on the outcomes of finished paths, and applied to prefixes without further training.

On the embedded benchmark it takes the place of Qwen2.5-Math-PRM and similar models (Type II in the STOP paper). It was
trained on whether whole paths were correct, and never on the success rate of a prefix.
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
    """s_i = sigma(logit at the last token of problem + prefix)

    The model is a token-classification model with one label. Training assigns the outcome of a finished path to each of
    its tokens: the hard labels of Math-Shepherd (arXiv 2312.08935) with one completion.

    Args:
        model: folder or hub id; by default the model that is distributed for the generator.
        lr: learning rate.
        epochs: passes over the examples.
        batch: examples per step.
        examples: largest number of training examples.
        seed: random seed of the training.
    """

    origins = Origins("adapted", "ours", "ours")
    labels = "outcome"

    def __init__(
        self, model: str = "", lr: float = 3e-4, epochs: int = 1, batch: int = 64, examples: int = 16384, seed: int = 0
    ) -> None:
        super().__init__(model, lr, epochs, batch, examples, seed)
        self.where = model

    def identity(self) -> dict[str, Any]:
        """The weights that ``model=`` names. Distributed weights are identified by their checkpoint."""
        from harness.engines.identity import fingerprint, locate

        return {"model": self.where, "fingerprint": fingerprint(locate(self.where), None)} if self.base else {}

    def trained_on(
        self, model: TextModel, examples: Sequence[LabelledPrefix]
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """The logit at one random position of each path. Over the epochs, every position is trained on the outcome."""
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
