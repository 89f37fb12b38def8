"""Sample tokens from logits, and compute their statistics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from harness.api import STATISTICS, Sampling, TokenStats

BLOCK = 256  # vocabulary entries per block of the inverse-CDF search
TOP_CONFIDENCE = 20  # DeepConf's K
CACHED = 8 << 20  # bytes of logits that a CPU's caches hold


def by_rows(
    compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], logits: torch.Tensor, of_rows: torch.Tensor
) -> torch.Tensor:
    """``compute(logits, of_rows)`` of logits ``[n, V]`` and ``[n]``, on a CPU of as many rows at a time as its caches hold.

    An operation on all rows would bring 150 MB through memory for 256 rows of a vocabulary of 150,000, in pages that the system clears first.
    """
    rows, vocabulary = logits.shape
    together = max(1, CACHED // (4 * vocabulary))
    if logits.device.type != "cpu" or rows <= together:
        return compute(logits, of_rows)
    return torch.cat([compute(*part) for part in zip(logits.split(together), of_rows.split(together), strict=True)])


def choose(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Inverse-CDF sampling: one uniform number per row determines the token.

    Args:
        logits: float ``[n, V]``.
        uniform: ``[n]``, in [0, 1).
        sampling: temperature and filters; temperature 0 is greedy.

    Returns:
        Token ids, int64 ``[n]``.
    """
    return by_rows(lambda part, numbers: _choose(part, numbers, sampling), logits, uniform)


def _choose(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits.float() if sampling.temperature == 1 else logits.float() / sampling.temperature
    ids = None
    if 0 < sampling.top_k < scaled.shape[-1]:
        scaled, ids = scaled.topk(sampling.top_k, dim=-1)
    elif sampling.top_p < 1:
        scaled, ids = scaled.sort(dim=-1, descending=True)
    weights = scaled.softmax(-1)
    if sampling.top_p < 1:
        before = weights.cumsum(-1) - weights
        weights = weights.masked_fill(before >= sampling.top_p, 0.0)
    columns = _inverse_cdf(weights, uniform.to(torch.float64).unsqueeze(-1))
    return (columns if ids is None else ids.gather(-1, columns)).squeeze(-1)


def _inverse_cdf(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The first index ``[n, 1]`` at which the cumulative ``weights`` ``[n, V]`` exceed ``uniform`` ``[n, 1]`` times their sum.

    A large vocabulary is searched by blocks first, because a float64 cumulative sum over all of it would take as long as a
    small model's forward pass.
    """
    rows, vocabulary = weights.shape
    start = torch.zeros_like(uniform, dtype=torch.long)
    below = torch.zeros_like(uniform)
    if vocabulary > 4 * BLOCK:
        blocks = torch.nn.functional.pad(weights, (0, -vocabulary % BLOCK)).view(rows, -1, BLOCK)
        sums = blocks.sum(-1).double()
        cdf = sums.cumsum(-1)
        target = uniform * cdf[:, -1:]
        start = torch.searchsorted(cdf, target, right=True).clamp_(max=(vocabulary - 1) // BLOCK)
        below = (cdf - sums).gather(-1, start)
        weights = blocks.gather(1, start.unsqueeze(-1).expand(-1, 1, BLOCK)).squeeze(1)
        cdf = below + weights.cumsum(-1, dtype=torch.float64)
    else:
        cdf = weights.cumsum(-1, dtype=torch.float64)
        target = uniform * cdf[:, -1:]
    # Rounding may put the target at or beyond the end; then the last token with a positive weight is chosen.
    target = target.minimum(cdf[:, -1:].nextafter(below))
    return start * BLOCK + torch.searchsorted(cdf, target, right=True)


def statistics(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Statistics of sampled tokens ``[n]`` under logits ``[n, V]``: float16 ``[n, len(STATISTICS)]``, in the order of STATISTICS.

    For definitions and units see ``harness.api.TokenStats``.
    """
    return by_rows(_statistics, logits, tokens)


def _statistics(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    logp = logits.float().log_softmax(-1)
    return torch.cat([logp.gather(-1, tokens.unsqueeze(-1)), distribution(logp)], dim=-1).half()


def distribution(logp: torch.Tensor) -> torch.Tensor:
    """The statistics that do not depend on the sampled token, ``[n, len(STATISTICS) - 1]``, of log-probabilities ``[n, V]``."""
    vocabulary = logp.shape[-1]
    top = logp.topk(min(TOP_CONFIDENCE, vocabulary), dim=-1).values
    renormalised = top.log_softmax(-1)
    columns = (
        -top.mean(-1),
        -torch.linalg.vecdot(logp.exp(), logp),
        -logp.mean(-1) - np.log(vocabulary),
        top[:, 0].exp() - top[:, 1].exp(),
        -(renormalised.exp() * renormalised).sum(-1),
    )
    return torch.stack(columns, dim=-1)


def as_stats(columns: np.ndarray) -> TokenStats:
    """``TokenStats`` from float16 columns ``[T, len(STATISTICS)]`` in the order of STATISTICS."""
    return TokenStats(*(np.ascontiguousarray(columns[:, i], dtype=np.float16) for i in range(len(STATISTICS))))
