"""From a row of logits to one token and its statistics."""

from __future__ import annotations

import numpy as np
import torch

from harness.api import Sampling, TokenStats

TOP_CONFIDENCE = 20  # DeepConf's K
STATS = ("logprob", "confidence", "entropy", "self_certainty", "margin", "top_entropy")


def choose(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Inverse-CDF sampling: one uniform number per row decides the token.

    ``logits`` float ``[n, V]``, ``uniform`` ``[n]`` in [0, 1); temperature 0 is greedy. Returns int64 ``[n]``.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits.float() / sampling.temperature
    ids = None
    if 0 < sampling.top_k < scaled.shape[-1]:
        scaled, ids = scaled.topk(sampling.top_k, dim=-1)
    elif sampling.top_p < 1:
        scaled, ids = scaled.sort(dim=-1, descending=True)
    weights = scaled.softmax(-1)
    if sampling.top_p < 1:
        before = weights.cumsum(-1) - weights
        weights = weights.masked_fill(before >= sampling.top_p, 0.0)
    cdf = weights.cumsum(-1, dtype=torch.float64)
    wanted = uniform.to(cdf.dtype).unsqueeze(-1) * cdf[:, -1:]
    picked = torch.searchsorted(cdf, wanted, right=True).clamp_(max=cdf.shape[-1] - 1)
    return (picked if ids is None else ids.gather(-1, picked)).squeeze(-1)


def statistics(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """``[n, len(STATS)]`` float16, in the order of STATS; definitions in ``harness.api.TokenStats``."""
    logp = logits.float().log_softmax(-1)
    return torch.cat([logp.gather(-1, tokens.unsqueeze(-1)), distribution(logp)], dim=-1).half()


def distribution(logp: torch.Tensor) -> torch.Tensor:
    """The statistics that do not depend on what was drawn, ``[n, len(STATS) - 1]``, of log-probabilities ``[n, V]``."""
    vocabulary = logp.shape[-1]
    top = logp.topk(min(TOP_CONFIDENCE, vocabulary), dim=-1).values
    renormalised = top.log_softmax(-1)
    columns = (
        -top.mean(-1),
        -(logp.exp() * logp).sum(-1),
        -logp.mean(-1) - np.log(vocabulary),
        top[:, 0].exp() - top[:, 1].exp(),
        -(renormalised.exp() * renormalised).sum(-1),
    )
    return torch.stack(columns, dim=-1)


def as_stats(rows: np.ndarray) -> TokenStats:
    """``[T, len(STATS)]`` to the named columns."""
    return TokenStats(*(np.ascontiguousarray(rows[:, i], dtype=np.float16) for i in range(len(STATS))))
