"""Shared pieces: a toy world without weights, and the embedded model loaded once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, at the hub's import: no test waits for a network

from harness import registry
from harness.api import Sampling
from harness.runners.run import Run
from harness.spec import RunSpec
from harness.store import provenance
from tasks.embedded.hands import Hands
from tasks.toy import Toy


def toy_run_in(folder: Path) -> Callable[..., Run]:
    """Runs on the toy engine whose records and bank lie in a folder; every call opens a fresh engine."""

    def make(
        n: int = 8, prefix: int = 5, keep: int = 3, limit: int = 48, seed: int = 0, ended: Any = "count", stages: Any = (), **where: Any
    ) -> Run:  # fmt: skip
        task, engine = Toy(), where.pop("engine", None) or registry.engine("toy", "toy", Sampling())
        schedule = stages or [(prefix, min(keep, n))]
        spec = RunSpec.of(task, engine, n, limit, schedule, seed=seed, ended=ended)
        folders: dict[str, Any] = {"problems": 6, "results": folder / "results", "bank": folder / "bank"}
        return Run(spec, task, engine, **(folders | where))

    return make


@pytest.fixture
def toy_run(tmp_path: Path) -> Callable[..., Run]:
    """Runs on the toy engine in an empty folder."""
    return toy_run_in(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _one_commit() -> Iterator[None]:
    """The commit of our own code is asked of git once, and not for every record that a test writes."""
    asked, root = provenance._git, provenance.ROOT

    @cache
    def ours(*args: str) -> str | None:
        return asked(root, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(provenance, "_git", lambda at, *args: ours(*args) if at is root else asked(at, *args))
        yield


@pytest.fixture(scope="session")
def hands() -> Hands:
    return Hands()


@pytest.fixture(scope="session")
def hands_engine(hands: Hands) -> Any:
    """The embedded model in fp32 on the CPU."""
    return registry.engine("hf", "hands", hands.defaults.sampling, device="cpu")


@pytest.fixture(scope="session")
def served(hands: Hands) -> Any:
    """The embedded model on vLLM, one engine for all tests: opening takes half a minute. Few paths fill its KV cache."""
    return registry.engine("vllm", "hands", hands.defaults.sampling, block=32, memory=0.03)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of transformers with made-up weights and a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary | {"<eos>": 256}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=2048, bos_token_id=None, eos_token_id=256,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the console script's own entry; returns (exit code, everything it printed)."""
    from harness import cli

    def run(*args: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["pathprune", *args])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capfd.readouterr()
        return code, out.out + out.err

    return run
