"""The Engine contract over one primitive: "continue these token ids and tell me these log-probabilities".

Who answers is a subclass: vLLM in this process (``local``) or a server over HTTP (``remote``). Paths go in and come
out as token ids; text is never tokenised again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path as FilePath
from typing import Any, Literal

import numpy as np

from harness import advice
from harness.api import Path, PathpruneError, Problem, Sampling
from harness.engines import loading
from harness.engines.prompts import Prompts, end_tokens
from harness.engines.sampling import as_stats
from harness.engines.served.slots import SlotAdapter
from harness.engines.vllm.ids import OFFSET, Ids


@dataclass(frozen=True)
class Request:
    """``tokens`` more than ``ids``, at most. Wanted are log-probabilities of ``these`` ids, or the ``top`` ones.

    ``stream`` names the random numbers: [seed, problem, index, start, temperature, top_p, top_k]; None is greedy.
    """

    ids: tuple[int, ...]
    tokens: int = 1
    stream: tuple[Any, ...] | None = None
    ends: bool = False  # does an end-of-sequence token end it?
    these: tuple[int, ...] = ()
    top: int = 0


WAITING = 4  # paths handed over for each that runs at once, so that a place that falls free is taken
Finish = Literal["stop", "length"]


def finish_of(reason: str | None) -> Finish:
    """vLLM's word for why a request ended; whatever is not the model's own doing can be resumed."""
    return "stop" if reason == "stop" else "length"


@dataclass(frozen=True)
class Answer:
    """``columns`` ``[T, 1 + len(these)]``: the drawn token's log-probability, and those asked for; or ``top`` pairs."""

    tokens: tuple[int, ...]
    finish: Finish
    columns: np.ndarray
    top: tuple[Sequence[int], Sequence[float]] = ((), ())  # of the first token drawn
    cached: int = 0  # of the request's ids, how many had their KV in the cache


@dataclass
class Counters:
    """Ids that requests brought, and those of them whose KV was in vLLM's cache: its own figures."""

    prompted: int = 0
    cached: int = 0

    @property
    def computed(self) -> int:
        return self.prompted - self.cached


class Asking(Prompts):
    """See ``harness.api.Probing``. A subclass has ``ask`` and ``new_adapter``."""

    def __init__(
        self, where: str, spec: Mapping[str, Any], sampling: Sampling, revision: str | None, context: int | None, rows: int
    ) -> None:  # fmt: skip
        self.where, self.spec, self.sampling = where, spec, sampling
        self.rows = WAITING * rows
        self.fingerprint = str(spec["fingerprint"])
        model, tokenizer = loading.skeleton(where, revision)
        config = model.config.get_text_config()
        super().__init__(
            tokenizer, min(context or config.max_position_embeddings, config.max_position_embeddings), spec
        )
        self.architecture: str = (model.config.architectures or [type(model).__name__])[0]
        self.flops = loading.flop_model(model)
        self.ends = end_tokens(model.generation_config, tokenizer)
        self.reads = Ids(config.vocab_size, config.hidden_size)
        self.counters = Counters()

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        raise NotImplementedError

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> SlotAdapter:
        raise NotImplementedError

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        paths = [Path(problem, i, seed) for problem in problems for i in range(n)]
        done = self.resume(paths, max_tokens)
        return [done[i : i + n] for i in range(0, len(done), n)]

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        out = list(paths)
        todo = [i for i, p in enumerate(paths) if p.finish == "length" and len(p.tokens) < max_tokens]
        for i in todo:
            self.fits(paths[i], max_tokens)
        said = self._counted([self._onward(paths[i], max_tokens) for i in todo])
        for i, answer in zip(todo, said, strict=True):
            out[i] = self._grown(paths[i], answer)
        return out

    def probe(self, paths: Sequence[Path], adapter: SlotAdapter | None = None) -> np.ndarray:
        """``[n, 1, d]``: the state at the prefix's last token, or at the adapter's last [STOP] token."""
        ids = [self.sequence(p) for p in paths]
        if adapter is None:
            ids = [(*row[:-1], self.reads.again(row[-1])) for row in ids]
        else:
            ids = [row + tuple(self.reads.stops(adapter.slot, adapter.tokens)) for row in ids]
        for path, row in zip(paths, ids, strict=True):
            self.fits(path, len(row) + 1 - self.prompt_length(path.problem))
        said = self._counted([Request(row, top=self.reads.hidden + 1) for row in ids])
        return np.stack([self.reads.state(*answer.top)[None] for answer in said])

    def next_logprobs(self, paths: Sequence[Path], tokens: Sequence[int]) -> np.ndarray:
        """log P of these tokens to come next, float32 ``[n, len(tokens)]``."""
        for path in paths:
            self.fits(path, len(path.tokens) + 1)
        said = self._counted([Request(self.sequence(p), these=tuple(tokens)) for p in paths])
        return np.stack([answer.columns[0, 1:] for answer in said]).astype(np.float32)

    def _onward(self, path: Path, max_tokens: int) -> Request:
        stream = (path.seed, path.problem.id, path.index, len(path.tokens), *astuple(self.sampling))
        return Request(
            self.sequence(path),
            max_tokens - len(path.tokens),
            stream if self.sampling.temperature else None,
            ends=True,
            these=tuple(self.reads.statistics),
        )

    def _grown(self, path: Path, answer: Answer) -> Path:
        tokens = path.tokens + answer.tokens
        rows = answer.columns.copy()
        rows[:, 1:] -= OFFSET
        drawn = as_stats(rows)
        stats = path.stats.join(drawn) if path.stats else drawn
        return replace(path, tokens=tokens, text=self.decode(tokens), stats=stats, finish=answer.finish)

    def _counted(self, requests: Sequence[Request]) -> list[Answer]:
        answers = self.ask(requests) if requests else []
        self.counters.prompted += sum(len(r.ids) for r in requests)
        self.counters.cached += sum(a.cached for a in answers)
        return answers


def trains_nothing() -> PathpruneError:
    return PathpruneError(f"vLLM trains nothing: train with {advice.option(engine='hf')}, then score with this engine")
