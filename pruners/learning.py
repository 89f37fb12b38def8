"""The one training loop of every learned pruner: soft BCE on Monte-Carlo success, best validation epoch kept.

STOP's loss (arXiv 2604.16029, sec. 3.1): L = -[s log sigma(z) + (1 - s) log(1 - sigma(z))] with s the success rate of
a prefix. Splits are by problem, so sibling prefixes never stand on both sides.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from harness.api import LabelledPrefix, PathpruneError


@dataclass(frozen=True)
class Schedule:
    """AdamW with linear decay after a short warm-up."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    seed: int = 0
    balanced: bool = False  # weigh successes by failures / successes in the training loss


def fit(
    modules: Sequence[torch.nn.Module],
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    examples: Sequence[LabelledPrefix],
    schedule: Schedule,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Minimise soft BCE over what is trainable in ``modules``; ``logits_of(indices)`` gives one logit each, ``[b]``.

    The parameters of the epoch with the lowest validation loss are restored. Returns the metrics of the card.
    """
    success = torch.tensor([e.success for e in examples], dtype=torch.float32)
    held = torch.tensor([e.validation for e in examples])
    train, validation = (~held).nonzero().squeeze(-1), held.nonzero().squeeze(-1)
    if not len(train) or not len(validation):
        raise PathpruneError(f"{len(train)} training and {len(validation)} validation prefixes; label more problems")
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    log(f"{sum(p.numel() for p in parameters):,} trained parameters, {len(train):,} prefixes")
    draw = torch.Generator().manual_seed(schedule.seed)
    share = success[train].mean().clamp(1e-6, 1 - 1e-6)
    weight = (1 - share) / share if schedule.balanced else None
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    steps = schedule.epochs * -(-len(train) // schedule.batch)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 30) * max(0.0, 1 - s / steps))
    history: list[dict[str, float]] = []
    best: list[torch.Tensor] = []
    lowest, chosen = float("inf"), 0
    for epoch in range(1, schedule.epochs + 1):
        losses = []
        _switch(modules, training=True)
        for batch in train[torch.randperm(len(train), generator=draw)].split(schedule.batch):
            loss = binary_cross_entropy_with_logits(logits_of(batch), success[batch], pos_weight=weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            decay.step()
            losses.append(loss.item())
        _switch(modules, training=False)
        with torch.no_grad():
            logits = torch.cat([logits_of(b) for b in validation.split(4 * schedule.batch)])
        validated = binary_cross_entropy_with_logits(logits, success[validation]).item()
        history.append({"epoch": epoch, "train": round(float(np.mean(losses)), 4), "validation": round(validated, 4)})
        log(f"epoch {epoch}/{schedule.epochs}: training BCE {np.mean(losses):.4f}, validation BCE {validated:.4f}")
        if validated < lowest:
            lowest, chosen = validated, epoch
            best = [copy.deepcopy(p.detach()) for p in parameters]
    if not best:
        raise PathpruneError(f"training diverged: no epoch has a finite validation loss at lr={schedule.learning_rate}")
    for parameter, value in zip(parameters, best, strict=True):
        parameter.data.copy_(value)
    return {
        "history": history,
        "best_epoch": chosen,
        "prior": round(_prior(success, train, validation), 4),
        "prefixes": len(train),
    }


def _switch(modules: Sequence[torch.nn.Module], training: bool) -> None:
    for module in modules:
        module.train(training)


def _prior(success: torch.Tensor, train: torch.Tensor, validation: torch.Tensor) -> float:
    """Validation loss of the constant that fits the training labels: what any learned score has to beat."""
    mean = success[train].mean().clamp(1e-6, 1 - 1e-6)
    return binary_cross_entropy_with_logits(mean.logit().expand(len(validation)), success[validation]).item()
