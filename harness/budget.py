"""The ledger: every token that a method spends passes through ``Metered``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import Check, Cost, Path, Problem


class MeteredProbe:
    """What a pruner may ask of an engine, charged to ``check``: states over a prefix, and text of tokens."""

    def __init__(self, engine: Any, check: Check) -> None:
        self._engine, self._check = engine, check
        self.spec, self.fingerprint = engine.spec, engine.fingerprint

    def probe(self, paths: Sequence[Path], adapter: Any = None) -> np.ndarray:
        states: np.ndarray = self._engine.probe(paths, adapter)
        appended = states.shape[1]
        low_rank = 2.0 * adapter.low_rank_parameters if adapter is not None else 0.0
        for path in paths:
            at = self.prompt_length(path.problem) + len(path.tokens)
            flops = self._engine.flops(at, at + appended) + low_rank * appended
            self._check.charge(Cost(probed=appended, flops=flops))
        return states

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> Any:
        return self._engine.new_adapter(folder, **options)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._engine.decode(tokens))

    def prompt_length(self, problem: Problem) -> int:
        return int(self._engine.prompt_length(problem))


class Metered(MeteredProbe):
    """An engine whose calls are charged to ``check``.

    What is counted is what the method needs, not what this run happened to compute: a path replayed from the bank
    costs as much as a sampled one. The prompt is prefilled once per problem and shared by its N paths.
    """

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        groups: list[list[Path]] = self._engine.launch(problems, n, max_tokens, seed)
        for problem, paths in zip(problems, groups, strict=True):
            self._check.charge(Cost(flops=self._engine.flops(0, self.prompt_length(problem))))
            self._charge_growth([0] * len(paths), paths)
        return groups

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        before = [len(p.tokens) for p in paths]
        longer: list[Path] = self._engine.resume(paths, max_tokens)
        self._charge_growth(before, longer)
        return longer

    def _charge_growth(self, before: Sequence[int], paths: Sequence[Path]) -> None:
        for start, path in zip(before, paths, strict=True):
            prompt, end = self.prompt_length(path.problem), len(path.tokens)
            flops = self._engine.flops(prompt + start, prompt + end)
            self._check.charge(Cost(generated=end - start, flops=flops))
