"""ConSol (arXiv 2503.17587; package consol): a sequential probability ratio test between the two leading answers."""

from __future__ import annotations

from functools import lru_cache
from math import log
from types import MappingProxyType

from scipy.special import betainc, betaln

from harness.api import Origins, Tally
from pruners.stopping.rule import Rule

ALPHA = 0.05  # default of the package
SPRT_BETA, MIXTURE_BETA = 1 - 0.05 - 0.000024, 1 - 0.05 - 0.00006  # defaults of the package: both bounds are close to 0
MOST_COUNTS = 1 << 16  # cached pairs of counts


class ProbabilityRatio(Rule):
    """Stop when log LR >= log((1 - beta) / alpha) or log LR <= log(beta / (1 - alpha)).

    At the upper bound the leading answer is ahead, and at the lower bound the two leading answers are equally frequent
    (Wald's test). With v1 >= v2 votes, LR compares the likelihood of the votes under a share p1 > 1/2 of the leader
    with that under 1/2: log LR = v1 log(2 p1) + v2 log(2 - 2 p1). At the defaults, which are the package's, the rule
    stops at a lead of three votes, or at a tie after more than 600 votes.

    The package generates as many paths at a time as the leader would need in a row to win. It therefore takes fewer
    rounds than here, where paths are generated one by one, and uses the same paths. The exception is a stop at the
    lower bound in the middle of such a batch, which at the defaults takes at least 600 votes. The package replaces a
    path without an answer. Here such a path is charged and does not count. ``order=parallel`` is a variant of this
    benchmark.

    Args:
        p1: the leader's share of the votes under the alternative, above 0.5 and below 1.
        alpha: error rate of the upper bound.
        beta: error rate of the lower bound.
        order: "sequential" or "parallel" generation.
        batch: paths generated at a time.

    Raises:
        ValueError: if an option is outside its range.
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
    """The test of ``sprt``, with a Beta prior over the leader's share in place of a single number (mixture SPRT).

    The share has the prior Beta(a, a) restricted to (1/2, 1), where a is ``prior``:

    ``LR = 2^(v1 + v2) B(v1 + a, v2 + a) (1 - I_0.5(v1 + a, v2 + a)) / (B(a, a) / 2)``

    B is the beta function, and I the regularised incomplete beta function.

    Args:
        prior: both parameters of the Beta prior.
        alpha: error rate of the upper bound.
        beta: error rate of the lower bound.
        order: "sequential" or "parallel" generation.
        batch: paths generated at a time.

    Raises:
        ValueError: if an option is outside its range.
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
    """The lower and upper bounds of the log-ratio at which a test stops.

    Raises:
        ValueError: if the error rates leave no interval between the bounds.
    """
    if not (0 < alpha < 1 and 0 < beta < 1 and alpha + beta < 1):
        raise ValueError("alpha and beta are error rates above 0, together below 1")
    return log(beta / (1 - alpha)), log((1 - beta) / alpha)


@lru_cache(maxsize=MOST_COUNTS)
def ratio(p1: float, first: int, second: int) -> float:
    """Log-likelihood ratio of the votes, for a share ``p1`` of the leader against 1/2."""
    return first * log(2 * p1) + second * log(2 - 2 * p1)


@lru_cache(maxsize=MOST_COUNTS)
def mixture_ratio(prior: float, first: int, second: int) -> float:
    """Log-likelihood ratio of the votes, averaged over the shares above 1/2 of a Beta prior, against 1/2."""
    a, b = first + prior, second + prior
    mean = betaln(a, b) - betaln(prior, prior) + log(betainc(b, a, 0.5)) - log(0.5)
    return float(mean + (first + second) * log(2))
