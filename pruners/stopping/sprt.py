"""ConSol (arXiv 2503.17587; package consol): a sequential probability ratio test between the two leading answers."""

from __future__ import annotations

from functools import lru_cache
from math import log
from types import MappingProxyType

from scipy.special import betainc, betaln

from harness.api import Origins, Tally
from pruners.stopping.rule import Rule

ALPHA = 0.05  # the package's
SPRT_BETA, MIXTURE_BETA = 1 - 0.05 - 0.000024, 1 - 0.05 - 0.00006  # the package's: the bars lie close to 0
MOST_COUNTS = 1 << 16  # pairs of counts whose ratio is remembered


class ProbabilityRatio(Rule):
    """Stop when log LR >= log((1 - beta) / alpha), the leader is ahead, or log LR <= log(beta / (1 - alpha)), the two are equal.

    Of two leading answers with v1 >= v2 votes, LR is the likelihood of the votes where the leader has the share p1 > 1/2 over
    theirs at 1/2 (Wald's test): log LR = v1 log(2 p1) + v2 log(2 - 2 p1). At the package's values, which are the
    defaults, that is a lead of three votes, or a tie of more than 600.

    The package draws as many paths at a time as the leader would need in a row: in fewer rounds than here, one by one, but the
    same paths, unless two answers are found equal in the middle of such a batch, which cannot be at its own values before
    600 votes. It draws again for a path without an answer; here such a path is paid and does not count. ``order=parallel`` is
    ours.
    """

    grid = MappingProxyType({"p1": (0.5001, 0.6, 0.7, 0.8, 0.9), "order": ("sequential", "parallel")})

    def __init__(
        self,
        p1: float = 0.5001,
        alpha: float = ALPHA,
        beta: float = SPRT_BETA,
        order: str = "sequential",
        batch: int = 1,
    ) -> None:
        super().__init__(order, batch)
        if not 0.5 < p1 < 1:
            raise ValueError("p1 is the leader's share of the votes, between 0.5 and 1")
        self.p1, self.bars = p1, bars(alpha, beta)
        self.origins = Origins("code", "code" if order == "sequential" else "adapted")

    def stops(self, tally: Tally) -> bool:
        return tally.answered > 0 and not self.bars[0] < ratio(self.p1, tally.first, tally.second) < self.bars[1]


class MixtureRatio(Rule):
    """As ``sprt``, with the leader's share p not one number but Beta(``prior``, ``prior``) cut to (1/2, 1): mixture SPRT.

    LR = 2^(v1 + v2) B(v1 + a, v2 + a) (1 - I_0.5(v1 + a, v2 + a)) / (B(a, a) / 2), with a = ``prior``, I the regularised
    incomplete beta function.
    """

    grid = MappingProxyType({"prior": (1.0, 10.0, 100.0, 1e4, 1e6), "order": ("sequential", "parallel")})

    def __init__(
        self,
        prior: float = 1e6,
        alpha: float = ALPHA,
        beta: float = MIXTURE_BETA,
        order: str = "sequential",
        batch: int = 1,
    ) -> None:
        super().__init__(order, batch)
        if not prior > 0:
            raise ValueError("prior is above 0: the two parameters of the Beta distribution")
        self.prior, self.bars = float(prior), bars(alpha, beta)
        self.origins = Origins("code", "code" if order == "sequential" else "adapted")

    def stops(self, tally: Tally) -> bool:
        return (
            tally.answered > 0
            and not self.bars[0] < mixture_ratio(self.prior, tally.first, tally.second) < self.bars[1]
        )


def bars(alpha: float, beta: float) -> tuple[float, float]:
    """The log-ratios at or below and at or above which a test ends.

    Raises:
        ValueError: error rates with which there is nothing between the bars.
    """
    if not (0 < alpha < 1 and 0 < beta < 1 and alpha + beta < 1):
        raise ValueError("alpha and beta are error rates above 0, together below 1")
    return log(beta / (1 - alpha)), log((1 - beta) / alpha)


@lru_cache(maxsize=MOST_COUNTS)
def ratio(p1: float, first: int, second: int) -> float:
    """Log-likelihood of the votes at a share ``p1`` over that at 1/2."""
    return first * log(2 * p1) + second * log(2 - 2 * p1)


@lru_cache(maxsize=MOST_COUNTS)
def mixture_ratio(prior: float, first: int, second: int) -> float:
    """Log-likelihood of the votes, in the mean over the shares above 1/2 of a Beta prior, over that at 1/2."""
    a, b = first + prior, second + prior
    mean = betaln(a, b) - betaln(prior, prior) + log(betainc(b, a, 0.5)) - log(0.5)
    return float(mean + (first + second) * log(2))
