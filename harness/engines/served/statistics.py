"""Token statistics as far as a server's log-probabilities give them; definitions in ``harness.api.TokenStats``."""

from __future__ import annotations

import numpy as np

from harness.api import TokenStats
from harness.engines.sampling import TOP_CONFIDENCE
from harness.engines.served.asking import Reply


def from_logprobs(reply: Reply, vocabulary: int) -> TokenStats:
    """The drawn tokens' log-probabilities, and what the most likely tokens of every position give.

    The margin needs two of them, confidence and top entropy K = 20 (or the whole vocabulary, if it is smaller); what needs
    the full distribution is missing.

    Args:
        reply: with ``top`` for every token or for none.
        vocabulary: how many tokens the model has.
    """
    columns = {"logprob": reply.logprobs[:, 0]}
    count = min((len(logprobs) for _, logprobs in reply.top), default=0)
    if count >= 2:
        kept = min(count, TOP_CONFIDENCE)
        ranked = np.array([sorted(logprobs, reverse=True)[:kept] for _, logprobs in reply.top])
        columns["margin"] = np.exp(ranked[:, 0]) - np.exp(ranked[:, 1])
    if count >= min(TOP_CONFIDENCE, vocabulary):
        renormalised = ranked - np.log(np.exp(ranked).sum(-1, keepdims=True))
        columns["confidence"] = -ranked.mean(-1)
        columns["top_entropy"] = -(np.exp(renormalised) * renormalised).sum(-1)
    return TokenStats(**{name: column.astype(np.float16) for name, column in columns.items()})
