"""Model folders, options, checkpoints and files that are damaged, foreign or hostile: one line, and nothing is touched."""

from __future__ import annotations

import hashlib
import json
import resource
import shlex
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import registry
from harness.api import PathpruneError, Problem, Sampling
from harness.engines.convert import convert, skim
from harness.engines.served.client import HTTPClient
from harness.engines.vllm.export import MANIFEST, export
from harness.learn import checkpoints
from harness.learn.fitting import Schedule
from harness.learn.labels import LabelRecipe, Labels
from harness.learn.training import train_pruner
from harness.public import named, public
from harness.studies.official import adopt
from tests.test_learning import official
from tests.test_real_models import write_gguf

PROBLEM = Problem("p", "1 + 1", "2")
NAN, INF = float("nan"), float("inf")
Damage = Callable[[Path], Any]


def content(folder: Path) -> dict[str, str]:
    """Every file of a folder with what it holds."""
    files = [f for f in sorted(folder.rglob("*")) if f.is_file()]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def refusal(call: Callable[[], Any]) -> str:
    """The one line that a call is refused with."""
    with pytest.raises(PathpruneError) as caught:
        call()
    line = str(caught.value)
    assert line and "\n" not in line and len(line) < 600, line
    return line


def config(**changed: Any) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return damage


def text(name: str, written: str) -> Damage:
    return lambda folder: (folder / name).write_text(written)


def tensors(change: Callable[[dict[str, Any]], Any], name: str = "model.safetensors") -> Damage:
    def damage(folder: Path) -> None:
        held = load_file(folder / name)
        change(held)
        save_file(held, folder / name, metadata={"format": "pt"})

    return damage


def cut(name: str, keep: int) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep])


def without(*names: str) -> Damage:
    return lambda folder: [(folder / name).unlink() for name in names]


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def indexed(shards: Any) -> Damage:
    def damage(folder: Path) -> None:
        shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))

    return damage


QUERY = "model.layers.0.self_attn.q_proj"
FOLDERS: dict[str, tuple[Damage, str]] = {
    "missing tensor": (
        tensors(lambda t: t.pop("model.layers.0.mlp.up_proj.weight")),
        "lacks the tensor model.layers.0.mlp",
    ),
    "missing head": (
        tensors(lambda t: t.pop("lm_head.weight")),
        "lacks the tensor lm_head.weight, which would be random",
    ),
    "no finite logits": (tensors(lambda t: t["model.norm.weight"].fill_(NAN)), "not finite"),
    "layers dropped": (config(num_hidden_layers=1), "the weights have 2 layers and config.json names 1"),
    "layers invented": (config(num_hidden_layers=3), "and 8 others, which would be random"),
    "bias dropped": (tensors(lambda t: t.update({f"{QUERY}.bias": torch.zeros(32)})), f"has the tensor {QUERY}.bias"),
    "other width": (config(hidden_size=64), "has shape (257, 32) and config.json asks for (257, 64)"),
    "small vocabulary": (config(vocab_size=100), "ids up to 256 and its model a vocabulary of 100"),
    "config a list": (text("config.json", "[1]"), "holds a list"),
    "config empty": (text("config.json", ""), "cannot be read as JSON"),
    "config of nothing": (text("config.json", "{}"), "is empty"),
    "config deep": (text("config.json", "[" * 100_000), "cannot be read as JSON"),
    "config no text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "cannot be read as JSON"),
    "no heads": (config(num_attention_heads=0), "num_attention_heads must be an integer of 1 or more, not 0"),
    "negative layers": (config(num_hidden_layers=-1), "num_hidden_layers must be an integer of 1 or more, not -1"),
    "layers a text": (config(num_hidden_layers="2"), "num_hidden_layers must be an integer of 1 or more, not a text"),
    "fractional width": (config(hidden_size=32.5), "hidden_size must be an integer of 1 or more, not 32.5"),
    "heads do not divide": (config(num_attention_heads=3, head_dim=None), "does not divide into 3 heads"),
    "shared heads do not divide": (config(num_key_value_heads=5), "2 heads cannot share 5"),
    "no type": (config(model_type=None), "cannot load model"),
    "unknown type": (config(model_type="foo"), "model type `foo`"),
    "type a list": (config(model_type=["llama"]), "model_type must be a name, not a list"),
    "code of its own": (
        config(model_type="foo", auto_map={"AutoConfig": "x.C"}),
        "auto_map in config.json), which is never run",
    ),
    "unknown activation": (config(hidden_act="foo"), "KeyError: 'foo'"),
    "norm a text": (config(rms_norm_eps="x"), "rms_norm_eps"),
    "padding out of range": (config(pad_token_id=5000), "cannot load model"),
    "unknown dtype": (config(dtype="foo"), "cannot load model"),
    "quantised": (config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), "bitsandbytes"),
    "beyond memory": (config(hidden_size=1 << 20, intermediate_size=1 << 30), "lower memory= (bytes of KV) or rows="),
    "end out of range": (text("generation_config.json", '{"eos_token_id": 9999}'), "eos_token_id 9999 is not one of"),
    "end a text": (text("generation_config.json", '{"eos_token_id": "x"}'), "eos_token_id x is not one of"),
    "generation a list": (text("generation_config.json", "[]"), "generation_config.json holds a list"),
    "tokenizer a list": (text("tokenizer_config.json", "[]"), "tokenizer_config.json holds a list"),
    "tokenizer of another shape": (text("tokenizer.json", '{"a": 1}'), "cannot load model"),
    "tokenizer cut": (cut("tokenizer.json", 100), "tokenizer.json cannot be read as JSON"),
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "cannot load model"),
    "template unparsable": (text("chat_template.jinja", "{% for x in %}"), "chat template"),
    "template raises": (text("chat_template.jinja", "{{ raise_exception('no') }}"), "chat template"),
    "template of nothing": (text("chat_template.jinja", "{{ messages[3].content }}"), "use chat=false"),
    "template that reaches out": (text("chat_template.jinja", "{{ ''.__class__.__mro__ }}"), "is unsafe"),
    "template without text": (text("chat_template.jinja", "{{ '' }}"), "produces no tokens for the prompt"),
    "weights cut": (cut("model.safetensors", -100), "model.safetensors is missing or damaged"),
    "header cut": (cut("model.safetensors", 50), "model.safetensors is missing or damaged"),
    "weights empty": (cut("model.safetensors", 0), "model.safetensors is missing or damaged"),
    "header of 2^64": (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}"), "is missing or damaged"),
    "no weights": (without("model.safetensors"), "holds no weights (model.safetensors)"),
    "pickle": (pickled, "is never read; convert the model to safetensors"),
    "shard missing": (indexed({"a": "model-2.safetensors"}), "lacks model-2.safetensors, which its index names"),
    "shard outside": (indexed({"a": "../outside.safetensors"}), "a shard must be in the model's folder"),
    "shard of other tensors": (indexed({"a": "model-1.safetensors"}), "lacks a, which the index says"),
    "index of nothing": (indexed([]), "has no weight_map"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_model_folder_that_cannot_be_meant_is_one_line(
    kind: str, tiny_model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before anything is sampled, without a word of the libraries, and with the folder as it was."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    damage, says = FOLDERS[kind]
    damage(folder)
    before = content(tmp_path)
    assert says in refusal(lambda: registry.engine("hf", str(folder), Sampling(), device="cpu").ids("1 + 1"))
    assert content(tmp_path) == before
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize(
    "damage",
    [
        tensors(lambda t: t.update({f"{QUERY.rpartition('.')[0]}.rotary_emb.inv_freq": torch.zeros(8)})),
        tensors(lambda t: t.update({"score.weight": torch.zeros(1, 32)})),
        text("modules.json", "[]"),
        lambda folder: (
            (folder / "model.safetensors").rename(folder.parent / "elsewhere")
            and (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")
        ),
    ],
)
def test_what_decides_nothing_is_not_refused(damage: Damage, tiny_model: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    damage(tmp_path / "model")
    paths = [
        registry.engine("hf", str(folder), Sampling(), device="cpu").launch([PROBLEM], 2, 3, 0)[0]
        for folder in (tiny_model, tmp_path / "model")
    ]
    assert [p.tokens for p in paths[0]] == [p.tokens for p in paths[1]]


SMALL: dict[str, Any] = {"vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def others(kind: str, folder: Path) -> None:
    """Tiny models of other kinds."""
    import transformers

    made = {
        "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SMALL, intermediate_size=32)),
        "t5": lambda: transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=257, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2)
        ),
        "vit": lambda: transformers.ViTModel(
            transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        ),
        "mamba": lambda: transformers.MambaForCausalLM(
            transformers.MambaConfig(vocab_size=257, hidden_size=32, num_hidden_layers=1, state_size=4)
        ),
        "embedder": lambda: transformers.BertModel(transformers.BertConfig(**SMALL, intermediate_size=32)),
    }
    torch.manual_seed(0)
    made[kind]().save_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("bert", "is not a causal decoder: its tokens attend to later ones"),
        ("embedder", "lacks the tensor cls."),
        ("t5", "is an encoder-decoder model"),
        ("vit", "its configuration (vit) has no vocab_size"),
        ("mamba", "has layers of the kind linear_attention"),
    ],
)
def test_a_model_that_does_not_write_is_refused(kind: str, says: str, tiny_model: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / kind)
    others(kind, tmp_path / kind)
    assert says in refusal(lambda: registry.engine("hf", str(tmp_path / kind), Sampling(), device="cpu").ids("1 + 1"))


@pytest.mark.parametrize(
    ("engine", "options", "says"),
    [
        ("hf", {"device": "cudda"}, "device must be cpu, cuda or cuda:N"),
        ("hf", {"device": "cuda:x"}, "device must be cpu"),
        ("hf", {"device": "meta"}, "device must be cpu"),
        ("hf", {"device": 3}, "device must be cpu"),
        ("hf", {"attention": ""}, "attention must be a name"),
        ("hf", {"attention": True}, "attention must be a name"),
        ("hf", {"memory": 0}, "memory must be an integer"),
        ("hf", {"memory": -5}, "memory must be an integer"),
        ("hf", {"memory": INF}, "memory must be an integer"),
        ("hf", {"memory": 1e9}, "memory must be an integer"),
        ("hf", {"memory": 10**30}, "memory must be an integer"),
        ("hf", {"rows": 0}, "rows must be an integer"),
        ("hf", {"rows": True}, "rows must be an integer"),
        ("hf", {"rows": "many"}, "rows must be an integer"),
        ("hf", {"rows": NAN}, "rows must be an integer"),
        ("hf", {"row": 4}, "did you mean rows?"),
        ("hf", {"dtype": "float8"}, "dtype must be float32, float16 or bfloat16"),
        ("hf", {"dtype": 16}, "dtype must be float32"),
        ("hf", {"revision": 12}, "is read as a number"),
        ("vllm", {"memory": NAN}, "memory must be a number of GiB"),
        ("vllm", {"memory": -1}, "memory must be a number of GiB"),
        ("vllm", {"context": 0}, "context must be an integer"),
        ("vllm", {"tensor_parallel": -2}, "tensor_parallel must be an integer from 1"),
        ("vllm", {"block": "x"}, "block must be an integer"),
        ("vllm-http", {"url": "ftp://x"}, "url must be a server's address"),
        ("vllm-http", {"url": 8000}, "url must be a server's address"),
        ("vllm-http", {"url": "http://h", "timeout": 0}, "timeout must be a number of seconds"),
        ("vllm-http", {"url": "http://h", "timeout": INF}, "timeout must be a number of seconds"),
        ("vllm-http", {"url": "http://h", "key": 12345}, "key=..."),
        ("toy", {"skill": NAN}, "skill must be a number from 0 to 1"),
        ("toy", {"skill": 7}, "skill must be a number from 0 to 1"),
        ("toy", {"skill": "much"}, "skill must be a number from 0 to 1"),
        ("toy", {"spread": 0}, "spread must be an integer"),
        ("toy", {"spread": 2.5}, "spread must be an integer"),
        ("toy", {"spread": 10**12}, "spread must be an integer"),
    ],
)
def test_an_engines_option_is_held_to_its_range_before_anything_is_opened(
    engine: str, options: dict[str, Any], says: str, tiny_model: str
) -> None:
    line = refusal(lambda: registry.engine(engine, tiny_model, Sampling(), **options))
    assert says in line and "12345" not in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "cuda"}, "choose another with device="),
        ({"attention": "flash_attention_2"}, "attention=flash_attention_2"),
        ({"attention": "nonsense"}, "attention=nonsense"),
    ],
)
def test_what_this_machine_lacks_is_named_as_the_option_it_is(
    options: dict[str, Any], says: str, tiny_model: str
) -> None:
    if torch.cuda.is_available():
        pytest.skip("for machines without a GPU")
    assert says in refusal(lambda: registry.engine("hf", tiny_model, Sampling(), **options).ids("1 + 1"))


def test_memory_that_runs_out_while_sampling_names_its_options(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = registry.engine("hf", tiny_model, Sampling(), device="cpu")
    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ):
        monkeypatch.setattr(engine._loaded(), "_continue", lambda *_, raised=error, **__: (_ for _ in ()).throw(raised))
        assert "memory= (bytes of KV) or rows=" in refusal(lambda: engine.launch([PROBLEM], 2, 3, 0))
    monkeypatch.setattr(
        engine._loaded(), "_continue", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("a fault of ours"))
    )
    with pytest.raises(RuntimeError, match="a fault of ours"):
        engine.launch([PROBLEM], 2, 3, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": NAN}, {"temperature": INF}, {"temperature": -1}, {"temperature": "hot"}, {"temperature": True},
        {"temperature": 10**400}, {"top_p": NAN}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": NAN}, {"top_k": -1}, {"top_k": 2.5},
        {"top_k": 40.0}, {"top_k": 10**30}, {"top_k": None},
    ],
)  # fmt: skip
def test_a_sampling_is_made_of_numbers_in_range(options: dict[str, Any]) -> None:
    assert "temperature must be from 0 to 1000" in refusal(lambda: Sampling(**options))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("stop:tokens=0", "tokens is 1 or more"),
        ("stop:rank=-2", "rank 0 or more"),
        ("stop:tokens=nan", "'tokens=nan' is not a finite number"),
        ("stop:tokens=2.5", "tokens must be an integer, not 2.5"),
        ("stop:tokens=true", "tokens must be an integer, not True"),
        ("stop:alpha=inf", "'alpha=inf' is not a finite number"),
        ("stop:lr=fast", "lr must be a number, not fast"),
        ("stop:epochs=inf", "'epochs=inf' is not a finite number"),
        ("stop:seed=-1", "seed must be an integer from 0"),
        ("stop:seed=99999999999999999999", "seed="),
        ("linear-probe:hidden=-4", "hidden is 0"),
        ("deepconf:window=1e400", "'window=1e400' is not a finite number"),
    ],
)
def test_a_pruners_numbers_are_held_when_they_are_parsed(spec: str, says: str) -> None:
    assert says in refusal(lambda: registry.pruner(spec))


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 0}, {"epochs": NAN}, {"epochs": 1.5}, {"epochs": "3"}, {"batch": -1}, {"batch": 10**12}, {"accumulate": 0},
        {"learning_rate": 0}, {"learning_rate": NAN}, {"learning_rate": INF}, {"learning_rate": -1}, {"weight_decay": NAN},
        {"weight_decay": -0.1},
    ],
)  # fmt: skip
def test_a_schedule_is_made_of_numbers_in_range(changed: dict[str, Any]) -> None:
    refusal(lambda: Schedule(**({"epochs": 1, "batch": 2, "learning_rate": 0.1} | changed)))


# Checkpoints


@pytest.fixture(scope="module")
def tiny_engine(tiny_model: str) -> Any:
    return registry.engine("hf", tiny_model, Sampling(), device="cpu")


@pytest.fixture(scope="module")
def trained(tiny_engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of ``stop`` as training writes it, of made-up weights."""
    folder = tmp_path_factory.mktemp("trained") / "stop"
    tiny_engine.new_adapter(tokens=2, rank=2).save(folder)
    save_file({"weight": torch.zeros(1, 32), "bias": torch.zeros(1)}, folder / "head.safetensors")
    card = {"pruner": "stop", "digest": "", "base": checkpoints.base_of(tiny_engine), "labels": {"tokens": 5}}
    checkpoints.write_card(folder, card)
    return folder


def lora(change: Callable[[dict[str, Any]], Any]) -> Damage:
    return tensors(change, "adapter_model.safetensors")


def adapter(**changed: Any) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return damage


def renamed(held: dict[str, Any]) -> None:
    for name in list(held):
        held[name.replace("layers", "strata")] = held.pop(name)


FIRST = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
CHECKPOINTS: dict[str, tuple[Damage, str]] = {
    "head cut": (cut("head.safetensors", 40), "head.safetensors is missing or damaged"),
    "head empty": (cut("head.safetensors", 0), "head.safetensors is missing or damaged"),
    "head not finite": (tensors(lambda t: t["weight"].fill_(NAN), "head.safetensors"), "values that are not finite"),
    "head of infinity": (tensors(lambda t: t["bias"].fill_(INF), "head.safetensors"), "bias holds values that are not"),
    "head of bfloat16 not finite": (
        tensors(lambda t: t.update(weight=torch.full((1, 32), INF, dtype=torch.bfloat16)), "head.safetensors"),
        "not finite",
    ),
    "head of another width": (
        tensors(lambda t: t.update(weight=torch.zeros(1, 16)), "head.safetensors"), "[1, 32] is expected",
    ),
    "two logits": (tensors(lambda t: t.update(bias=torch.zeros(2)), "head.safetensors"), "[1] is expected"),
    "no weight": (tensors(lambda t: t.pop("weight"), "head.safetensors"), "has no tensor weight"),
    "no tokens": (
        tensors(lambda t: t.update(embeddings=torch.zeros(0, 32)), "stop_embeddings.safetensors"),
        "one row per [STOP] token",
    ),
    "no embeddings": (without("stop_embeddings.safetensors"), "stop_embeddings.safetensors"),
    "embeddings not finite": (
        tensors(lambda t: t["embeddings"].fill_(NAN), "stop_embeddings.safetensors"), "embeddings holds values",
    ),
    "LoRA not finite": (lora(lambda t: t[FIRST].fill_(INF)), "values that are not finite"),
    "LoRA cut": (cut("adapter_model.safetensors", -8), "adapter_model.safetensors is missing or damaged"),
    "LoRA empty": (cut("adapter_model.safetensors", 0), "adapter_model.safetensors is missing or damaged"),
    "LoRA missing": (without("adapter_model.safetensors"), "adapter_model.safetensors is missing"),
    "LoRA of no tensors": (lora(lambda t: t.clear()), "holds no LoRA at all"),
    "LoRA lacks a layer": (
        lora(lambda t: [t.pop(FIRST.replace("_A", x)) for x in ("_A", "_B")]), "lacks the LoRA of model.layers.0.mlp.up_proj",
    ),
    "LoRA lacks a half": (lora(lambda t: t.pop(FIRST)), "lacks lora_A of model.layers.0.mlp.up_proj"),
    "LoRA of other ranks": (lora(lambda t: t.update({FIRST: torch.zeros(3, 32)})), "are not a LoRA"),
    "LoRA with a stranger": (lora(lambda t: t.update(weird=torch.zeros(1))), "weird, which is not part of a LoRA"),
    "settings a list": (text("adapter_config.json", "[]"), "adapter_config.json holds a list"),
    "settings empty": (text("adapter_config.json", ""), "cannot be read as JSON"),
    "settings missing": (without("adapter_config.json"), "has a LoRA's weights and no adapter_config.json"),
    "rank a text": (adapter(r="2"), "r must be an integer of 1 or more, not '2'"),
    "rank nothing": (adapter(r=0), "r must be an integer of 1 or more, not 0"),
    "rank of another": (adapter(r=4), "has rank 2 and adapter_config.json names 4"),
    "alpha not finite": (adapter(lora_alpha=NAN), "lora_alpha must be a number, not nan"),
    "another method": (adapter(peft_type="PREFIX_TUNING"), "only a LORA can be read"),
    "base weights changed": (adapter(init_lora_weights="pissa"), "whose base weights are changed"),
    "a module to import": (adapter(megatron_config={"x": 1}, megatron_core="os"), "uses megatron_config"),
    "targets an expression": (adapter(target_modules="(a+)+$"), "must be a list of names"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_damaged_checkpoint_is_one_line_even_where_its_card_agrees(
    kind: str, trained: Path, tiny_engine: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "stop"
    shutil.copytree(trained, folder)
    damage, says = CHECKPOINTS[kind]
    damage(folder)
    card = checkpoints.read_card(folder) | {"digest": checkpoints.digest_of(folder)}
    checkpoints.write_card(folder, card)
    before = content(folder)
    assert says in refusal(lambda: checkpoints.attach(registry.pruner(f"stop:checkpoint={folder}"), tiny_engine))
    assert content(folder) == before


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lora(renamed), "lacks base_model.model.model.layers"),
        (adapter(target_modules=["up_proj"]), "has base_model.model"),
    ],
)
def test_a_lora_that_does_not_fit_the_model_is_refused(
    damage: Damage, says: str, trained: Path, tiny_engine: Any, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "stop")
    damage(tmp_path / "stop")
    assert says in refusal(lambda: tiny_engine.new_adapter(tmp_path / "stop"))


@pytest.mark.parametrize(
    "changed",
    [
        {"pruner": 5}, {"pruner": "stop\n\x1b[2J"}, {"digest": None}, {"base": []}, {"base": {"model": 1, "fingerprint": 2}},
        {"base": {"model": "m", "fingerprint": "f", "dtype": 16}}, {"labels": []}, {"labels": {"tokens": "many"}},
        {"labels": {"tokens": -1}},
    ],
)  # fmt: skip
def test_a_card_of_other_types_is_one_line(changed: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    card = checkpoints.read_card(trained) | changed
    (tmp_path / "checkpoint.json").write_text(json.dumps(card))
    assert "train the pruner again" in refusal(lambda: checkpoints.read_card(tmp_path))


def test_a_sound_checkpoint_is_taken(trained: Path, tiny_engine: Any, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "stop")
    card = checkpoints.read_card(trained) | {"digest": checkpoints.digest_of(trained)}
    checkpoints.write_card(tmp_path / "stop", card)
    plugin = registry.pruner(f"stop:checkpoint={tmp_path / 'stop'}")
    assert checkpoints.attach(plugin, tiny_engine) == {"checkpoint": card["digest"]}


def saved(name: str, value: Any) -> Damage:
    return lambda folder: torch.save(value, folder / name)


VECTOR, HEAD, COUNT = "assess_token_embedding.pth", "classifier_head.pth", "assess_token_config.json"
OFFICIAL: dict[str, tuple[Damage, str]] = {
    "no tokens": (text(COUNT, '{"num_assess_tokens": 0}'), "num_assess_tokens must be a number from 1 to 1024, not 0"),
    "infinite tokens": (text(COUNT, '{"num_assess_tokens": Infinity}'), "num_assess_tokens must be a number from 1 to 1024, not inf"),
    "tokens a text": (text(COUNT, '{"num_assess_tokens": "3"}'), "num_assess_tokens must be a number from 1 to 1024, not 3"),
    "count a list": (text(COUNT, "[]"), "holds a list"),
    "count empty": (text(COUNT, ""), "cannot be read as JSON"),
    "head empty": (cut(HEAD, 0), "cannot read"),
    "head cut": (cut(HEAD, 100), "cannot read"),
    "head no archive": (text(HEAD, "not a pickle"), HEAD),
    "head not finite": (saved(HEAD, {"weight": torch.full((2, 32), NAN), "bias": torch.zeros(2)}), "contains non-finite values"),
    "head overflows": (
        saved(HEAD, {"weight": torch.full((2, 32), 1e300, dtype=torch.float64), "bias": torch.zeros(2)}), "contains non-finite values",
    ),
    "head of integers": (saved(HEAD, {"weight": torch.zeros(2, 32).int(), "bias": torch.zeros(2)}), "not a float tensor"),
    "vector a list": (saved(VECTOR, [1, 2]), "not a state dict"),
    "vector not finite": (saved(VECTOR, {"input_embedding": torch.full((32,), INF)}), "contains non-finite values"),
    "no LoRA": (lambda f: shutil.rmtree(f / "adapter"), "holds 0 PEFT adapters"),
    "LoRA of nothing": (saved("adapter/classifier/adapter_model.bin", {}), "holds no LoRA at all"),
    "LoRA of strangers": (saved("adapter/classifier/adapter_model.bin", {"a": torch.zeros(2)}), "not part of a LoRA"),
    "LoRA of texts": (saved("adapter/classifier/adapter_model.bin", {"a": "b"}), "not a float tensor"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OFFICIAL)
def test_a_damaged_official_checkpoint_is_one_line_and_leaves_nothing(
    kind: str, tiny_engine: Any, tmp_path: Path
) -> None:
    source = official(tmp_path / "official", tiny_engine)
    damage, says = OFFICIAL[kind]
    damage(source)
    before = content(tmp_path)
    assert says in refusal(lambda: adopt(source, tiny_engine, tmp_path / "ours"))
    assert content(tmp_path) == before and sorted(p.name for p in tmp_path.iterdir()) == ["official"]


def test_adopt_touches_nothing_that_it_did_not_write(tiny_engine: Any, tmp_path: Path) -> None:
    source = official(tmp_path / "official", tiny_engine)
    (tmp_path / "zz.part").mkdir()
    (tmp_path / "zz.part" / "mine").write_text("kept")
    (tmp_path / "taken").symlink_to(tmp_path / "nowhere")
    adopt(source, tiny_engine, tmp_path / "zz")
    assert (tmp_path / "zz.part" / "mine").read_text() == "kept"
    for out in ("zz", "taken", "official", "official/inside"):
        assert "choose" in refusal(lambda out=out: adopt(source, tiny_engine, tmp_path / out))
    toy = registry.engine("toy", "toy", Sampling())
    assert "has no weights" in refusal(lambda: adopt(source, toy, tmp_path / "other"))
    assert not list(tmp_path.glob(".*"))


# Folders that are written


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file grows beyond so many bytes; Python ignores the signal, and a write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import gguf
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=128, tie_word_embeddings=False,
    )  # fmt: skip
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(gguf, LlamaForCausalLM(shape).eval(), file)
    return file


@pytest.fixture
def writers(gguf_file: Path, tiny_model: str, tiny_engine: Any, trained: Path, tmp_path: Path) -> Any:
    """What writes a folder ``out``, by its verb."""
    source = official(tmp_path / "official", tiny_engine)
    return {
        "adopt": lambda out: adopt(source, tiny_engine, out),
        "export": lambda out: export(tiny_model, tiny_engine.fingerprint, [trained], out),
        "convert": lambda out: convert(gguf_file, out),
    }


@pytest.mark.parametrize("verb", ["adopt", "export", "convert"])
@pytest.mark.parametrize("room", [0, 300, 5000])
def test_a_full_disk_leaves_the_old_state_and_the_same_command_completes(
    verb: str, room: int, writers: Any, tmp_path: Path
) -> None:
    write = writers[verb]
    write(tmp_path / "expected")
    others = {p.name for p in tmp_path.iterdir()}
    with full_disk(room):
        assert "free space" in refusal(lambda: write(tmp_path / "out"))
    assert {p.name for p in tmp_path.iterdir()} == others
    write(tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "expected")
    if verb != "adopt":  # an earlier result is replaced by a whole one, or stays
        with full_disk(room):
            refusal(lambda: write(tmp_path / "out"))
        assert content(tmp_path / "out") == content(tmp_path / "expected")
        write(tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "expected")
    assert {p.name for p in tmp_path.iterdir()} == {*others, "out"}


@pytest.mark.parametrize("room", [0, 200])
def test_a_full_disk_ends_a_training_and_the_same_call_completes_it(room: int, tmp_path: Path) -> None:
    task = registry.task("toy")
    engine = registry.engine("toy", "toy", task.defaults.sampling)
    recipe = LabelRecipe(problems=10, n=12, continuations=5, bounds=(0.0, 1.0), prefixes=(4,), max_tokens=48)
    labels = Labels(tmp_path / "labels", task, engine, recipe, 10)
    labels.make(lambda done, tokens: None)

    def train(out: str) -> Path:
        plugin = registry.pruner("linear-probe:epochs=2")
        return train_pruner(plugin, engine, labels, tmp_path / out, lambda line: None, lambda done, total, note: None)

    expected = checkpoints.digest_of(train("expected"))
    for _ in range(2):  # the second time there is a checkpoint, which stays until a whole one takes its place
        with full_disk(room):
            assert "free space" in refusal(lambda: train("out"))
        made = train("out")
        assert checkpoints.digest_of(made) == checkpoints.read_card(made)["digest"] == expected
        assert [p.name for p in made.parent.iterdir()] == [made.name]


@pytest.mark.parametrize("verb", ["adopt", "export", "convert"])
def test_what_a_killed_writer_left_goes_and_what_it_set_aside_comes_back(
    verb: str, writers: Any, tmp_path: Path
) -> None:
    left, aside = tmp_path / ".out.abcd1234.part", tmp_path / ".new.abcd1234.old"
    left.mkdir()
    (left / "half").write_text("half")
    writers[verb](tmp_path / "out")
    assert not left.exists()
    (tmp_path / "out").rename(aside)  # killed between two renames
    if verb == "adopt":
        refusal(lambda: writers[verb](tmp_path / "new"))
    else:
        writers[verb](tmp_path / "new")
    assert (tmp_path / "new").is_dir() and not list(tmp_path.glob(".*"))


def test_an_export_never_writes_where_something_else_lies(
    tiny_model: str, tiny_engine: Any, trained: Path, tmp_path: Path
) -> None:
    model = tmp_path / "m" / "model"
    shutil.copytree(tiny_model, model)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    (tmp_path / "link").symlink_to(model)
    before = content(tmp_path)
    outs = [model, model.parent, model / "inside", tmp_path / "link", trained, trained.parent, tmp_path / "mine"]
    for out in outs:
        line = refusal(lambda out=out: export(str(model), tiny_engine.fingerprint, [trained], out))
        assert "choose" in line, line
    assert content(tmp_path) == before
    out = tmp_path / "a folder; echo"
    command = export(str(model), tiny_engine.fingerprint, [trained], out)
    words = shlex.split(command)
    assert words[words.index("--model") + 1] == str(out) and words[words.index("--host") + 1] == "127.0.0.1"
    assert (out / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    assert export(str(model), tiny_engine.fingerprint, [trained], out) == command
    (out / "notes.txt").write_text("mine")
    assert "holds notes.txt, which no export wrote" in refusal(
        lambda: export(str(model), tiny_engine.fingerprint, [trained], out)
    )
    (out / MANIFEST).unlink()
    assert "is not an export" in refusal(lambda: export(str(model), tiny_engine.fingerprint, [trained], out))


def test_convert_replaces_only_what_it_wrote(gguf_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("kept")
    assert "holds no converted model" in refusal(lambda: convert(gguf_file, tmp_path / "mine"))
    assert "choose a separate folder" in refusal(lambda: convert(gguf_file, gguf_file.parent))
    assert (tmp_path / "mine" / "x").read_text() == "kept"


def overwritten(at: int, code: str, value: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + struct.pack(code, value) + data[at + struct.calcsize(code) :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:4],
        lambda data: data[:20],
        lambda data: data[:200],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-64],
        lambda data: b"GGML" + data[4:],
        overwritten(4, "<I", 99),
        overwritten(8, "<Q", 1 << 60),
        overwritten(16, "<Q", 1 << 60),
        overwritten(8, "<Q", 5),
        overwritten(24, "<Q", 1 << 62),
        lambda data: data.replace(b"llama", b"lxama"),
        lambda data: data.replace(b"blk.0.attn_q", b"blk.0.attn_x"),
    ],
)
def test_a_damaged_gguf_file_is_one_line(damage: Callable[[bytes], bytes], gguf_file: Path, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(damage(gguf_file.read_bytes()))
    refusal(lambda: convert(tmp_path / "x.gguf", tmp_path / "out"))
    assert [p.name for p in tmp_path.iterdir()] == ["x.gguf"]


def test_no_byte_of_a_gguf_header_makes_a_reader_run_on(gguf_file: Path, tmp_path: Path) -> None:
    """Whatever a flipped header says, it is walked within the file's length."""
    data, draw = gguf_file.read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        at = int(draw.integers(0, 1500))
        (tmp_path / "x.gguf").write_bytes(data[:at] + bytes(draw.integers(0, 256, 8).tolist()) + data[at + 8 :])
        try:
            skim(tmp_path / "x.gguf")
        except PathpruneError as error:
            assert "\n" not in str(error)


# What is written down


@pytest.mark.parametrize("url", ["http://", "http://host:port", "host:8000", "http://[::1", "file:///etc/passwd"])
def test_what_is_no_address_is_one_line(url: str) -> None:
    assert "no address" in refusal(lambda: HTTPClient(url))


def test_a_password_is_sent_and_never_shown() -> None:
    client = HTTPClient("http://me:hunter2@host:8000/")
    assert client.url == "http://host:8000" and client.session.auth == ("me", "hunter2")
    assert client._without_secrets("bad login hunter2") == "bad login ..."
    assert HTTPClient("http://host", key="sk-1")._without_secrets("bad key sk-1") == "bad key ..."
    assert public("no reply from http://me:hunter2@host/v1") == "no reply from http://host/v1"


def test_names_and_error_rows_hold_no_folders_of_a_machine(tmp_path: Path) -> None:
    one, other = (str(tmp_path / x / "model") for x in "ab")
    assert named(one) != named(other) and named(one).startswith("model+") and str(tmp_path) not in named(one)
    assert [named(v) for v in ("owner/model", "models/x", 3)] == ["owner/model", "models/x", 3]
    assert public(f"cannot load {one} (no file); 1/2 and a/b/c") == "cannot load model (no file); 1/2 and a/b/c"
    plugin = registry.pruner(f"reward-model:model={one}")
    assert str(tmp_path) not in plugin.name and "model+" in plugin.name
