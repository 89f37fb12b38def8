"""The ledger. Engine calls pass through ``Metered``, which charges every token to its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import ASKED, Check, Cost, Path, PathpruneError, Problem
from harness.plugins import asked
from harness.plugins.sampled import launched, resumed, without
from harness.rng import derive

IMPORTED = "imported"  # the engine of imported paths


class MeteredProbe:
    """A pruner's view of an engine: hidden states of prefixes and forced answers, charged to ``check``.

    Only the signals that the pruner declares in ``needs`` are available.
    """

    def __init__(self, engine: Any, check: Check, needs: frozenset[str] = ASKED | {"text"}) -> None:
        self._engine, self._check, self._needs = engine, check, needs
        self.spec, self.fingerprint = deepcopy(dict(engine.spec)), engine.fingerprint

    def probe(self, paths: Sequence[Path], adapter: Any = None) -> np.ndarray:
        self._declared("hidden")
        paths = asked.paths("check.engine.probe()", paths)
        states = np.array(self._engine.probe(paths, adapter))  # a copy: the engine may keep its array
        appended = 0 if adapter is None else adapter.tokens
        low_rank = 2.0 * adapter.low_rank_parameters if adapter is not None else 0.0
        for path in paths:
            # Sampling leaves no KV for a prefix's last token: it is fed here, and again when the path is resumed.
            at = self.prompt_length(path.problem) + len(path.tokens)
            flops = self._engine.flops(at - 1, at + appended) + low_rank * appended
            self._check.charge(Cost(probed=1 + appended, flops=flops), path)
        return states

    def trace(
        self, paths: Sequence[Path], reduce: Callable[[np.ndarray, Path], np.ndarray], before: int = 0
    ) -> list[np.ndarray]:
        """Hidden states of whole prefixes. Generation keeps KV but no states, so every token is computed and charged again."""
        self._declared("trace")
        paths = asked.paths("check.engine.trace()", paths)

        def reduced(states: np.ndarray, path: Path) -> np.ndarray:
            seen = states.view()
            seen.flags.writeable = False
            return reduce(seen, path)

        traced: list[np.ndarray] = list(self._engine.trace(paths, reduced, **({"before": before} if before else {})))
        for path in paths:
            start, tokens = self.prompt_length(path.problem), len(path.tokens)
            flops = self._engine.flops(start - before, start + tokens)
            self._check.charge(Cost(probed=before + tokens, flops=flops), path)
        return traced

    def force(self, paths: Sequence[Path], suffix: str, max_tokens: int) -> list[str]:
        """Append ``suffix`` to each path, sample up to ``max_tokens`` tokens, and return the whole texts.

        The tokens are sampled like the path, from a separate random stream. Charged are the tokens fed: the prefix's last
        token, the suffix, and the sampled tokens except the last. A path that has ended is returned unchanged.
        """
        self._declared("forced")
        call = "check.engine.force()"
        paths, suffix = asked.paths(call, paths), asked.text(call, "suffix", suffix)
        max_tokens = asked.count(call, "max_tokens", max_tokens, asked.MOST_TOKENS)
        if (recorded := self._forced(paths, suffix, max_tokens)) is not None:
            return recorded
        appended = tuple(self._engine.encode(suffix))
        forced = [
            replace(p, tokens=p.tokens + appended, stats=None, seed=derive(p.seed, "forced", len(p.tokens), suffix))
            for p in paths
        ]
        texts = [str(self._engine.decode(p.tokens)) for p in paths]
        for length in {p.drawn for p in forced}:
            alike = [i for i, p in enumerate(forced) if p.drawn == length and p.finish == "length"]
            longer = resumed(without(self._engine), [forced[i] for i in alike], length + max_tokens)
            for i, path in zip(alike, longer, strict=True):
                start = self.prompt_length(path.problem) + len(paths[i].tokens) - 1
                stop = self.prompt_length(path.problem) + len(path.tokens) - 1
                self._check.charge(Cost(probed=stop - start, flops=self._engine.flops(start, stop)), path)
                texts[i] = str(self._engine.decode(path.tokens))
        return texts

    def _forced(self, paths: Sequence[Path], suffix: str, max_tokens: int) -> list[str] | None:
        """Imported forced answers, charged; None if the engine samples them."""
        if self.spec["engine"] != IMPORTED:
            return None
        recorded = self._engine.forced(paths, suffix, max_tokens)
        if recorded is None:
            return None
        texts: list[str] = recorded[0]
        for path, cost in zip(paths, recorded[1], strict=True):
            self._check.charge(cost, path)
        return texts

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> Any:
        return self._engine.new_adapter(folder, **options)

    def decode(self, tokens: Sequence[int]) -> str:
        self._declared("text")
        return str(self._engine.decode(tokens))

    def _declared(self, signal: str) -> None:
        if signal not in self._needs:
            raise PathpruneError(f"a pruner may use this only if it declares that it needs {signal}")

    def prompt_length(self, problem: Problem) -> int:
        return int(self._engine.prompt_length(problem))

    def thinking(self, problem: Problem) -> int:
        return int(getattr(self._engine, "thinking", lambda _: 0)(problem))


class Metered(MeteredProbe):
    """An engine whose calls are charged to ``check``.

    The count is what the method needs, not what this run computed: a path replayed from the bank costs as much as a
    sampled one. The prompt is prefilled once per problem and shared by its N paths.
    """

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        groups = launched(self._engine, problems, n, max_tokens, seed)
        for problem, paths in zip(problems, groups, strict=True):
            self.charge_prompt(problem)
            self.charge_growth([Path(problem, p.index, seed) for p in paths], paths)
        return groups

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        longer = resumed(self._engine, paths, max_tokens)
        self.charge_growth(paths, longer)
        return longer

    def charge_prompt(self, problem: Problem) -> None:
        """Charge the prompt of a launch, once for all of its paths."""
        self._check.charge(Cost(flops=self._engine.flops(0, self.prompt_length(problem))))

    def charge_growth(self, before: Sequence[Path], after: Sequence[Path]) -> None:
        """Charge the tokens by which each path grew: sampled ones as generated, given ones as read."""
        for old, path in zip(before, after, strict=True):
            prompt, start, end = self.prompt_length(path.problem), len(old.tokens), len(path.tokens)
            drawn = path.drawn - old.drawn
            flops = self._engine.flops(prompt + start, prompt + end)
            self._check.charge(Cost(generated=drawn, probed=end - start - drawn, flops=flops), path)


def per_path(values: Mapping[int, int], paths: Sequence[Path]) -> int | list[int]:
    """One number per path, in their order; a single number if all are equal."""
    numbers = [values.get(p.index, 0) for p in paths]
    return numbers[0] if len(set(numbers)) == 1 else numbers


def kinds_of(cost: Cost) -> dict[str, float]:
    """The non-zero kinds of a cost, for a record."""
    return {name: value for name, value in vars(cost).items() if value}


def columns(each: Mapping[int, Cost], paths: Sequence[Path]) -> dict[str, Any]:
    """The part of a Check's cost that belongs to single paths, for a record: for each kind one number per path.

    A kind has a single number if all paths cost the same; a kind that cost nothing is omitted.
    """
    table: dict[str, Any] = {}
    for kind in fields(Cost):
        numbers = [getattr(each.get(p.index, Cost()), kind.name) for p in paths]
        if any(numbers):
            table[kind.name] = numbers[0] if len(set(numbers)) == 1 else numbers
    return table


def costs_of(table: Mapping[str, Any], n: int) -> list[Cost]:
    """The costs of n paths, from the table of ``columns``."""
    spread = {kind: v if isinstance(v, list) else [v] * n for kind, v in table.items()}
    return [Cost(**{kind: v[i] for kind, v in spread.items()}) for i in range(n)]


def sum_of(table: Mapping[str, Any], n: int, start: int = 0) -> Cost:
    """The summed cost of paths ``start`` to n - 1, from the table of ``columns``."""
    kinds = {kind: v[start:n] if isinstance(v, list) else [v] * (n - start) for kind, v in table.items()}
    return Cost(**{kind: sum(numbers) for kind, numbers in kinds.items()})
