"""The training loop of all learned pruners: soft BCE, on Accelerate, resumable; the best validation epoch is kept.

STOP's loss (arXiv 2604.16029, sec. 3.1): L = -[s log sigma(z) + (1 - s) log(1 - sigma(z))], where s is the success rate of
a prefix. Splits are by problem, so prefixes of one problem are never in both. Under ``accelerate launch`` each process
computes its part of every batch and gradients are summed, so the loss does not depend on the number of processes.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from harness.api import Check, LabelledPrefix, PathpruneError
from harness.replay.stats import soft_auroc
from harness.rng import derive
from harness.store.files import writable
from harness.text import unknown

STATE = "training.pt"
AGAIN = "move it away and run the same command, which trains from the start"
SAVE_SECONDS = 60  # at the end of every epoch, and this often within one
WARM_UP = 30  # steps
MOST = 1 << 31  # epochs, or examples of a batch
MAX_NORM = 1.0  # of the gradient: a rare large step can undo what many small ones learned
RATES = ("linear", "constant")


@dataclass(frozen=True)
class Schedule:
    """A training schedule: AdamW with a short warm-up, then linear decay or a constant rate.

    Raises:
        PathpruneError: a value out of range.
    """

    epochs: int
    batch: int  # examples of one step
    learning_rate: float
    weight_decay: float = 0.01
    seed: int = 0
    balanced: bool = False  # weigh successes by failures / successes in the training loss
    accumulate: int = 1  # parts that a batch is computed in, to fit the memory
    patience: int = 2  # epochs without improvement on the held-out problems before training stops
    rate: str = "linear"  # learning-rate schedule, one of RATES
    clip: float = MAX_NORM  # maximum norm of the gradient; 0: no clipping
    select: str = "bce"  # the criterion, one of CRITERIA, whose lowest validation value selects the epoch

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "patience"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
                raise PathpruneError(
                    f"epochs, batch, accumulate and patience must be integers of 1 or more, not {name}={value}"
                )
        rate, decay = self.learning_rate, self.weight_decay
        if not (
            isinstance(rate, int | float) and 0 < rate < 1e6 and isinstance(decay, int | float) and 0 <= decay < 1e6
        ):
            raise PathpruneError(f"lr must be positive and finite and decay 0 or more, not lr={rate}, decay={decay}")
        if isinstance(self.clip, bool) or not isinstance(self.clip, int | float) or not 0 <= self.clip < 1e6:
            raise PathpruneError(f"clip must be the maximum norm of the gradient, or 0 for none, not {self.clip}")
        for name, value, known in (("rate", self.rate, RATES), ("select", self.select, ("bce", *CRITERIA))):
            if value not in known:
                raise PathpruneError(unknown(name, str(value), list(known)))

    def factor(self, step: int, steps: int) -> float:
        """The factor of the learning rate at a step of ``steps``."""
        if self.rate == "constant":
            return 1.0
        return min(1.0, (step + 1) / WARM_UP) * max(0.0, 1 - step / steps)


def _auc_and_f1(chances: np.ndarray, success: np.ndarray) -> float:
    """The negative of STEP's criterion, 0.75 AUC + 0.25 F1 (its code)."""
    told, good = chances >= 0.5, success >= 0.5
    f1 = 2 * float((told & good).sum()) / max(1, int(told.sum() + good.sum()))
    area = soft_auroc(chances, success, np.zeros(len(success)))[1]
    return -(0.75 * (0.5 if np.isnan(area) else area) + 0.25 * f1)


CRITERIA: dict[
    str, Callable[[np.ndarray, np.ndarray], float]
] = {  # of P(success) and success [n], the lower the better
    "mse": lambda chances, success: float(np.mean((chances - success) ** 2)),
    "auc-f1": _auc_and_f1,
}


def fit(
    modules: Sequence[torch.nn.Module],
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    examples: Sequence[LabelledPrefix],
    schedule: Schedule,
    check: Check,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Minimise soft BCE, and restore the parameters of the epoch that is best on the held-out problems.

    Args:
        modules: hold the trainable parameters.
        logits_of: maps indices of ``examples`` ``[b]`` to logits ``[b]``.
        examples: labelled prefixes.
        schedule: the hyperparameters.
        check: with ``scratch``, a killed training resumes and ends with the same weights.
        log: prints a line.

    Returns:
        The metrics for the card.

    Raises:
        PathpruneError: there are no training or validation examples, or no epoch has a finite validation loss.
    """
    training = Training(modules, logits_of, examples, schedule, check.scratch)
    log(f"{sum(p.numel() for p in training.parameters):,} trained parameters, {len(training.train):,} prefixes")
    for epoch in range(training.epoch, schedule.epochs + 1):
        if epoch - 1 - training.chosen >= schedule.patience and training.history:
            log(f"stopped early: no better on the held-out problems in {schedule.patience} epochs")
            break
        log(training.one_epoch(lambda done, note: check.progress(done, training.steps, note)))
    return training.finish()


def drawn(examples: Sequence[LabelledPrefix], most: int, seed: int) -> list[LabelledPrefix]:
    """A random sample of at most ``most`` examples, in their original order."""
    chosen = np.random.default_rng(seed).permutation(len(examples))[:most]
    return [examples[i] for i in sorted(chosen)]


class Training:
    """The state of a training; ``save`` writes it, and ``_restore`` reads it."""

    def __init__(
        self,
        modules: Sequence[torch.nn.Module],
        logits_of: Callable[[torch.Tensor], torch.Tensor],
        examples: Sequence[LabelledPrefix],
        schedule: Schedule,
        scratch: Path | None,
    ) -> None:
        self.modules, self.logits_of, self.schedule = modules, logits_of, schedule
        # In the model's own precision, as a Check reads the same prefixes.
        self.accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
        self.success = torch.tensor([e.success for e in examples], dtype=torch.float32)
        self.problems = [e.prefix.problem.id for e in examples]
        held = torch.tensor([e.validation for e in examples], dtype=torch.bool)
        self.train, self.validation = (~held).nonzero().squeeze(-1), held.nonzero().squeeze(-1)
        if not len(self.train) or not len(self.validation):
            raise PathpruneError(
                f"{len(self.train)} training and {len(self.validation)} validation prefixes; label more problems"
            )
        self.parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.steps = steps = schedule.epochs * self._batches
        self.decay = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: schedule.factor(step, steps))
        share = self.success[self.train].mean().clamp(1e-6, 1 - 1e-6)
        self.weight = (1 - share) / share if schedule.balanced else None
        self.prior = bce(share.logit().expand(len(self.validation)), self.success[self.validation]).item()
        self.history: list[dict[str, Any]] = []
        self.best: list[torch.Tensor] = []
        self.lowest, self.chosen, self.epoch, self.start = float("inf"), 0, 1, 0
        self.losses: list[float] = []
        self.file = scratch / STATE if scratch else None
        if self.file and self.file.exists():
            self._restore(self.file)
        self.accelerator.wait_for_everyone()  # no process may save before all have looked for a saved state

    @property
    def _batches(self) -> int:
        return -(-len(self.train) // self.schedule.batch)

    def one_epoch(self, progress: Callable[[int, str], None]) -> str:
        """Train one epoch, continuing an interrupted one; returns the line to show.

        ``progress(steps done, note)`` is called after every step.
        """
        draw = torch.Generator().manual_seed(derive(self.schedule.seed, "epoch", self.epoch) >> 1)
        batches = self.train[torch.randperm(len(self.train), generator=draw)].split(self.schedule.batch)
        self._switch(training=True)
        saved = time.monotonic()
        for batch in batches[self.start :]:
            self.losses.append(self._step(batch))
            self.start += 1
            note = f"epoch {self.epoch}, training BCE {np.mean(self.losses[-100:]):.4f}"
            progress((self.epoch - 1) * self._batches + self.start, note)
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        line = self._validate()
        self.epoch, self.start, self.losses = self.epoch + 1, 0, []
        self.save()
        return line

    def _step(self, batch: torch.Tensor) -> float:
        """One step of the optimizer; returns the batch's mean loss."""
        mine = self._share_of(batch)
        size = -(-len(mine) // self.schedule.accumulate)
        total = torch.zeros(())
        self.optimizer.zero_grad(set_to_none=True)
        for part in mine.split(max(1, size)) if len(mine) else ():
            logits = self.logits_of(part).float().to(self.success.device)  # from whatever device computed them
            loss = bce(logits, self.success[part], pos_weight=self.weight, reduction="sum") / len(batch)
            self.accelerator.backward(loss)
            total += loss.detach().cpu()
        if self.accelerator.num_processes > 1:
            for p in self.parameters:
                p.grad = self._summed(torch.zeros_like(p) if p.grad is None else p.grad)
            total = self._summed(total)
        if self.schedule.clip:
            self.accelerator.clip_grad_norm_(self.parameters, self.schedule.clip)
        self.optimizer.step()
        self.decay.step()
        return float(total)

    @torch.no_grad()
    def _validate(self) -> str:
        """Compute loss and AUROC on the held-out problems, and store the parameters if they are the best so far."""
        self._switch(training=False)
        logits = torch.zeros(len(self.validation))
        mine = self._share_of(torch.arange(len(self.validation)))
        for part in mine.split(4 * self.schedule.batch) if len(mine) else ():
            logits[part] = self.logits_of(self.validation[part]).float().cpu()
        if self.accelerator.num_processes > 1:
            logits = self._summed(logits)
        success = self.success[self.validation]
        validated = bce(logits, success).item()
        groups = np.array([self.problems[i] for i in self.validation.tolist()])
        within, pooled = soft_auroc(logits.numpy(), success.numpy(), groups)
        trained = float(np.mean(self.losses))
        self.history.append(
            {
                "epoch": self.epoch,
                "train": round(trained, 4),
                "validation": round(validated, 4),
                "within_auroc": _rounded(within),
                "pooled_auroc": _rounded(pooled),
            }
        )
        criterion = validated
        if self.schedule.select in CRITERIA:
            chances = logits.double().sigmoid().numpy()
            criterion = CRITERIA[self.schedule.select](chances, success.double().numpy())
        if np.isfinite(validated) and criterion < self.lowest:
            self.lowest, self.chosen = criterion, self.epoch
            self.best = [p.detach().cpu().clone() for p in self.parameters]
        return (
            f"epoch {self.epoch}/{self.schedule.epochs}: training BCE {trained:.4f}, validation BCE {validated:.4f} "
            f"(a constant: {self.prior:.4f}), AUROC within problems {within:.3f}, pooled {pooled:.3f}"
        )

    def finish(self) -> dict[str, Any]:
        """Restore the parameters of the best epoch; returns the metrics."""
        if not self.best:
            raise PathpruneError(
                f"training diverged: no epoch has a finite validation loss at lr={self.schedule.learning_rate}"
            )
        for parameter, value in zip(self.parameters, self.best, strict=True):
            parameter.data.copy_(value)
        self._switch(training=False)
        return {
            "history": self.history,
            "best_epoch": self.chosen,
            "prior": round(self.prior, 4),
            "prefixes": len(self.train),
        }

    def _share_of(self, indices: torch.Tensor) -> torch.Tensor:
        return indices[self.accelerator.process_index :: self.accelerator.num_processes]

    def _summed(self, value: torch.Tensor) -> torch.Tensor:
        home = value.device
        summed: Any = self.accelerator.reduce(value.to(self.accelerator.device), reduction="sum")
        return summed.to(home)

    def _switch(self, training: bool) -> None:
        for module in self.modules:
            module.train(training)

    def save(self) -> None:
        """Write the state atomically; with several processes, only the first one writes."""
        if self.file is None or not self.accelerator.is_main_process:
            return
        state = {
            "parameters": [p.detach().cpu() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "decay": self.decay.state_dict(),
            "best": self.best,
            "progress": [self.history, self.lowest, self.chosen, self.epoch, self.start, self.losses],
            "rng": torch.get_rng_state(),
        }
        with writable(self.file) as part:
            torch.save(state, part)

    def _restore(self, file: Path) -> None:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            for parameter, value in zip(self.parameters, state["parameters"], strict=True):
                parameter.data.copy_(value)
            self.optimizer.load_state_dict(state["optimizer"])
            self.decay.load_state_dict(state["decay"])
            self.best = state["best"]
            self.history, self.lowest, self.chosen, self.epoch, self.start, self.losses = state["progress"]
            torch.set_rng_state(state["rng"])
        except (
            OSError, KeyError, ValueError, RuntimeError, EOFError, TypeError, AttributeError, pickle.UnpicklingError
        ) as error:  # fmt: skip
            raise PathpruneError(f"training state {file} is damaged ({error}); {AGAIN}") from error


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
