"""Random numbers and token choice: each argument here is about a property, not a recorded value."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import STATISTICS, Sampling
from harness.engines import sampling as rows
from harness.engines.sampling import choose, statistics
from harness.rng import derive, uniforms


@given(st.integers(0, 200), st.integers(0, 60), st.integers(1, 60))
def test_a_stream_is_the_same_from_any_start(start: int, skip: int, length: int) -> None:
    whole = uniforms(3, "p", 7, start, start + skip + length)
    assert np.array_equal(whole[skip:], uniforms(3, "p", 7, start + skip, start + skip + length))


def test_streams_differ_by_seed_problem_and_path() -> None:
    streams = [uniforms(*key, 0, 8) for key in ((0, "p", 0), (1, "p", 0), (0, "q", 0), (0, "p", 1))]
    assert len({s.tobytes() for s in streams}) == 4


def test_uniforms_are_uniform() -> None:
    draws = np.concatenate([uniforms(0, "p", i, 0, 50) for i in range(400)])
    assert abs(draws.mean() - 0.5) < 4 / math.sqrt(12 * len(draws))
    assert draws.min() >= 0 and draws.max() < 1


def test_derived_seeds_are_pinned() -> None:
    """SHA-256 of the parts joined by the unit separator, first 8 bytes little-endian, by Python's hashlib."""
    assert derive("a", 1) == int.from_bytes(__import__("hashlib").sha256(b"a\x1f1").digest()[:8], "little")
    assert derive("continuation", 22, 0) == 9326300820271793564


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7, 0.9, 5), Sampling(1.3, 0.8, 0), Sampling(0.5, 1.0, 3)])
def test_inverse_cdf_draws_from_the_filtered_distribution(sampling: Sampling) -> None:
    """Against transformers' own logits processors, applied in the same order."""
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(1)) * 2
    expected = TemperatureLogitsWarper(sampling.temperature)(None, logits.clone())
    if sampling.top_k:
        expected = TopKLogitsWarper(sampling.top_k)(None, expected)
    if sampling.top_p < 1:
        expected = TopPLogitsWarper(sampling.top_p)(None, expected)
    grid = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    drawn = choose(logits.expand(20_000, -1), grid, sampling).bincount(minlength=12) / 20_000
    assert torch.allclose(drawn, expected.softmax(-1)[0], atol=2e-4)


def test_temperature_zero_is_greedy() -> None:
    logits = torch.randn(50, 9)
    assert torch.equal(choose(logits, torch.rand(50), Sampling(temperature=0)), logits.argmax(-1))


def test_statistics_follow_their_formulas() -> None:
    """Each column against the formula written with plain Python numbers."""
    logits = torch.randn(3, 30, generator=torch.Generator().manual_seed(2))
    tokens = torch.tensor([4, 0, 29])
    got = statistics(logits, tokens).float()
    for row in range(3):
        p = [math.exp(x) for x in logits[row].tolist()]
        p = [x / sum(p) for x in p]
        ranked = sorted(p, reverse=True)
        expected = (
            math.log(p[int(tokens[row])]),
            -sum(math.log(x) for x in ranked[:20]) / 20,
            -sum(x * math.log(x) for x in p),
            -sum(math.log(30 * x) for x in p) / 30,
            ranked[0] - ranked[1],
            -sum(x / sum(ranked[:20]) * math.log(x / sum(ranked[:20])) for x in ranked[:20]),
        )
        assert got[row].tolist() == pytest.approx(expected, rel=2e-3, abs=1e-3)
    assert got.shape[1] == len(STATISTICS)


@settings(max_examples=60, deadline=None)
@given(
    vocabulary=st.integers(1025, 3000), seed=st.integers(0, 10_000), scale=st.floats(0.1, 60), dead=st.floats(0, 0.95)
)
def test_a_large_vocabulary_is_searched_by_blocks_to_the_same_token(
    vocabulary: int, seed: int, scale: float, dead: float
) -> None:
    """Against the plain cumulated sum, with whole stretches ruled out, up to rounding; never a ruled-out token."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(16, vocabulary, generator=draw) * scale
    logits[:, int((1 - dead) * vocabulary) :] = -torch.inf
    logits[:, 300:700] = -torch.inf
    uniform = torch.rand(16, generator=draw, dtype=torch.float64)
    uniform[0], uniform[1] = 0.0, 1 - 2.0**-53
    chosen = choose(logits, uniform, Sampling())
    weights = logits.softmax(-1)
    assert (weights.gather(-1, chosen.unsqueeze(-1)) > 0).all()
    cdf = weights.double().cumsum(-1) / weights.double().sum(-1, keepdim=True)
    at = chosen.unsqueeze(-1)
    upper, lower = cdf.gather(-1, at), cdf.gather(-1, at) - weights.double().gather(-1, at)
    assert (uniform.unsqueeze(-1) <= upper + 1e-6).all() and (uniform.unsqueeze(-1) >= lower - 1e-6).all()


@pytest.mark.parametrize("sampling", [Sampling(0.7, 0.95, 40), Sampling(1.0), Sampling(0.0)])
def test_rows_computed_a_few_at_a_time_draw_and_measure_the_same(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, uniform = torch.randn(7, 1500, generator=generator) * 3, torch.rand(7, generator=generator)
    whole = choose(logits, uniform, sampling)
    monkeypatch.setattr(rows, "CACHED", 2 * 4 * 1500)  # two rows at a time, and one at the end
    parts = choose(logits, uniform, sampling)
    assert torch.equal(parts, whole)
    few = statistics(logits, whole)
    monkeypatch.undo()
    assert torch.equal(few, statistics(logits, whole))
