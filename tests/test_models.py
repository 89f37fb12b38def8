"""Which model exactly, and what it is asked: chat templates and their switches, pinned revisions, placement."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import loop, registry
from harness.api import END_OF_THINKING, PathpruneError, Problem, Sampling
from harness.api import Path as Prefix
from harness.testing import engine_conformance
from tasks.toy import Toy

# The ways of the published templates, in short: Qwen3 closes an empty thinking block when thinking is off, DeepSeek-R1
# opens one in the prompt, gpt-oss writes its effort into the system turn.
TEMPLATES = {
    "qwen3": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}",
    "r1": "{% for m in messages %}<|User|>{{ m.content.split('</think>')[-1] }}{% endfor %}<|Assistant|>{{ '<think>\n' }}",
    "harmony": "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}<|start|>assistant"
    "{% if false %}<|channel|>{% endif %}",
    "magistral": "{% for m in messages %}{{ m.content }}{% endfor %}[THINK]{% if false %}[/THINK]{% endif %}",
    "plain": "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>",
    "gpt-oss": "<|start|>system<|message|>Reasoning: {{ reasoning_effort|default('medium') }}<|end|>"
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}<|start|>assistant",
}
PROBLEM = Problem("p", "What is 2 + 2?", "4")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def chatty(tiny_model: str, tmp_path: Path) -> Any:
    """The tiny model with one of the templates."""

    def made(template: str) -> str:
        folder = tmp_path / template
        if not folder.exists():
            shutil.copytree(tiny_model, folder)
            (folder / "chat_template.jinja").write_text(TEMPLATES[template])
        return str(folder)

    return made


def asked(folder: str, **options: Any) -> str:
    """The prompt as the model gets it."""
    engine = registry.engine("hf", folder, Sampling(), device="cpu", **options)
    return str(engine.decode(engine.ids(PROBLEM.prompt)))


@pytest.mark.parametrize(
    ("template", "options", "opens", "closing"),
    [
        ("qwen3", {}, 0, "\n</think>\n\n"),
        ("qwen3", {"thinking": False}, 0, "\n</think>\n\n"),
        ("r1", {}, len("<think>\n"), "\n</think>\n\n"),
        ("r1", {"chat": False}, 0, ""),
        ("harmony", {}, 0, "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("magistral", {}, len("[THINK]"), "\n[/THINK]\n\n"),
        ("plain", {}, 0, ""),
    ],
)
def test_a_template_says_where_thinking_begins_and_ends(
    template: str, options: dict[str, Any], opens: int, closing: str, chatty: Any
) -> None:
    """The tokenizer is one of bytes: a tag is as many tokens as it has letters."""
    engine = registry.engine("hf", chatty(template), Sampling(), device="cpu", **options)
    assert (engine.thinking(PROBLEM), engine.closing) == (opens, closing)


def test_a_forced_answer_begins_as_the_model_ends_its_thinking() -> None:
    class Ours(Toy):
        defaults = replace(Toy.defaults, closing=END_OF_THINKING + "answer ")

    given = []
    for closing in ("", "<|end|>final"):
        engine = SimpleNamespace(closing=closing, spec={}, fingerprint="f")
        method = SimpleNamespace(needs=frozenset({"text", "forced"}))
        given.append(loop.opened(method, [Prefix(PROBLEM, 0, 0)], engine, Ours(), 0)[0].closing)
    assert given == ["\n</think>\n\nanswer ", "<|end|>finalanswer "]


@pytest.mark.parametrize(
    ("template", "options", "ends"),
    [
        ("qwen3", {}, "<|im_start|>assistant\n"),
        ("qwen3", {"thinking": True}, "<|im_start|>assistant\n"),
        ("qwen3", {"thinking": False}, "<think>\n\n</think>\n\n"),
        ("r1", {}, "What is 2 + 2?<|Assistant|><think>\n"),
        ("qwen3", {"chat": False}, "What is 2 + 2?"),
    ],
)
def test_a_prompt_is_what_the_template_makes_of_it(
    template: str, options: dict[str, Any], ends: str, chatty: Any
) -> None:
    said = asked(chatty(template), **options)
    assert said.endswith(ends) and said.count("What is 2 + 2?") == 1
    assert ("<|im_start|>" in said) == (template == "qwen3" and options.get("chat", True))


def test_effort_reaches_the_system_turn(chatty: Any) -> None:
    folder = chatty("gpt-oss")
    assert "Reasoning: high" in asked(folder, effort="high") and "Reasoning: medium" in asked(folder)


@pytest.mark.parametrize(
    ("template", "engine", "says"),
    [
        ("r1", "hf:thinking=false", "the chat template of r1 has no switch for thinking"),
        ("qwen3", "hf:effort=low", "has no switch for effort (reasoning_effort); leave out effort=low"),
        ("qwen3", "hf:chat=false,thinking=false", "no switch for thinking"),
        ("qwen3", "hf:thinking=maybe", "engine hf does not take thinking=maybe"),
        ("qwen3", "hf:revision=main", "is a folder, which has no revision"),
        ("qwen3", "hf:attention=flash_attention_9", "cannot load model"),
        ("qwen3", "hf:device_map=everywhere", "cannot load model"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(
    template: str, engine: str, says: str, chatty: Any, run_cli: Any, tmp_path: Path
) -> None:
    code, out = run_cli(
        "bench", "--task", "reasoning_gym:chain_sum,max_terms=2", "--model", chatty(template), "--engine", engine,
        "--problems", "1", "--n", "2", "--keep", "1", "--max-tokens", "9", "--prefix", "4", "--pruner", "jaccard",
        "--results", str(tmp_path / "r"), "--bank", str(tmp_path / "b"),
    )  # fmt: skip
    assert code == 2 and says in out and "Traceback" not in out, out


def test_each_way_of_asking_has_a_pool_of_its_own_that_says_so(chatty: Any, run_cli: Any, tmp_path: Path) -> None:
    """The whole way: what was asked is in the record, and paths of one way are never taken for another's."""
    where = ["--problems", "2", "--n", "3", "--keep", "1", "--max-tokens", "16", "--prefix", "4", "--pruner", "jaccard"]
    where += [
        "--results",
        str(tmp_path / "r"),
        "--bank",
        str(tmp_path / "b"),
        "--task",
        "reasoning_gym:chain_sum,max_terms=2",
    ]
    for template, engine in (
        ("qwen3", "hf"), ("qwen3", "hf:thinking=false"), ("gpt-oss", "hf:effort=low"), ("gpt-oss", "hf:effort=high"),
    ):  # fmt: skip
        code, out = run_cli("bench", "--model", chatty(template), "--engine", engine, *where)
        assert code == 0 and " 0 tokens generated" not in out, out
    specs = [json.loads(p.read_text().splitlines()[0])["spec"]["engine"] for p in (tmp_path / "r").rglob("pool.jsonl")]
    assert sorted(json.dumps(s.get("chat")) for s in specs) == [
        "null", '{"effort": "high"}', '{"effort": "low"}', '{"thinking": false}',
    ]  # fmt: skip


@pytest.fixture
def variant(tiny_model: str, tmp_path: Path) -> Any:
    """The tiny model whose tokenizer is changed."""

    def made(change: Any) -> str:
        folder = tmp_path / "variant"
        shutil.copytree(tiny_model, folder)
        change(folder)
        return str(folder)

    return made


def edited(file: str, **entries: Any) -> Any:
    """A change of entries in a JSON file of a model."""

    def change(folder: Path) -> None:
        path = folder / file
        held = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(held | entries))

    return change


def opened(folder: str, **options: Any) -> Any:
    return registry.engine("hf", folder, Sampling(), device="cpu", **options)._loaded()


def test_a_list_of_end_tokens_keeps_the_tokenizers_own(variant: Any) -> None:
    assert opened(variant(edited("generation_config.json", eos_token_id=[5, 9])))._ends.tolist() == [5, 9, 256]


def test_a_tokenizer_that_ends_every_text_does_not_end_the_prompt(variant: Any) -> None:
    """An end token that stands in the problem itself is kept."""
    piece = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<eos>", "type_id": 0}}]
    tokens = {"<eos>": {"id": "<eos>", "ids": [256], "tokens": ["<eos>"]}}
    processor = {"type": "TemplateProcessing", "single": piece, "pair": piece, "special_tokens": tokens}
    engine = opened(variant(edited("tokenizer.json", post_processor=processor)))
    assert engine.tokenizer("one").input_ids[-1] == 256
    assert list(engine.ids("one")) == list(engine.encode("one")) and 256 not in engine.ids("one")
    assert engine.ids("one<eos>")[-1] == 256 and engine.ids("one<eos>").count(256) == 1


@pytest.mark.parametrize(
    "tokens", [("[THINK]", "[/THINK]"), ("<think>", "</think>"), ("<seed:think>", "</seed:think>")]
)
def test_special_tokens_around_thinking_stay_in_the_text(tokens: tuple[str, str], variant: Any) -> None:
    """What is read as thinking must be told from the answer; other special tokens are not shown."""

    def change(folder: Path) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({"additional_special_tokens": [*tokens, "[INST]"]})
        tokenizer.save_pretrained(folder)
        edited("config.json", vocab_size=300)(folder)
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)

    engine = opened(variant(change))
    text = f"[INST]{tokens[0]}two and two{tokens[1]}So 4.<eos>"
    assert engine.decode(engine.encode(text)) == f"{tokens[0]}two and two{tokens[1]}So 4."


def named(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text(TEMPLATES["qwen3"])


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (lambda folder: None, {"chat": True}, "has no chat template; leave out chat=true"),
        (lambda folder: None, {"thinking": False}, "has no switch for thinking"),
        (named, {}, "has chat templates named rag but none named default"),
        (lambda f: (f / "chat_template.jinja").write_text("{{ raise_exception('only tools') }}"), {}, "cannot be used (only tools)"),
        (lambda f: (f / "chat_template.jinja").write_text("{% for m in messages %}"), {}, "cannot be used ("),
        (lambda f: (f / "chat_template.jinja").write_text("{{ messages[3].content }}"), {}, "cannot be used ("),
        (lambda f: (f / "chat_template.jinja").write_text(" "), {}, "omits the user's message"),
    ],
    ids=["absent", "absent with a switch", "named only", "raising", "broken", "of other turns", "blank"],
)  # fmt: skip
def test_a_chat_template_that_cannot_be_meant_is_one_line(
    change: Any, options: dict[str, Any], says: str, variant: Any
) -> None:
    with pytest.raises(PathpruneError) as caught:
        opened(variant(change), **options)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture
def cached(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds ``owner/tiny`` at one commit, which ``main`` and ``v1`` name."""
    import huggingface_hub

    folder = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(tiny_model, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    for ref in ("main", "v1"):
        (folder / "refs" / ref).write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return folder


def test_the_commit_behind_a_hub_id_is_pinned(cached: Path) -> None:
    """A branch, a tag and the commit itself are one model; when the branch moves on, it is another."""
    specs = [registry.engine("hf", "owner/tiny", Sampling(), **o).spec for o in ({}, {"revision": "v1"}, {"revision": COMMIT})]  # fmt: skip
    assert all(s == specs[0] and s["revision"] == COMMIT and s["model"] == "tiny" for s in specs)
    engine = registry.engine("hf", "owner/tiny", Sampling(), device="cpu")
    assert [len(p.tokens) for p in engine.launch([PROBLEM], 2, 5, 0)[0]] == [5, 5]
    moved = COMMIT[::-1]
    (cached / "snapshots" / COMMIT).rename(cached / "snapshots" / moved)
    (cached / "refs" / "main").write_text(moved)
    newer = registry.engine("hf", "owner/tiny", Sampling()).spec
    assert newer["revision"] == moved and newer["fingerprint"] != specs[0]["fingerprint"]


@pytest.mark.parametrize(("model", "options"), [("owner/none", {}), ("owner/tiny", {"revision": "v2"})])
def test_what_is_neither_on_the_hub_nor_cached_is_one_line(cached: Path, model: str, options: dict[str, Any]) -> None:
    with pytest.raises(PathpruneError) as caught:
        registry.engine("hf", model, Sampling(), **options)
    assert str(caught.value).startswith(f"cannot load model {model}") and "\n" not in str(caught.value)


@pytest.mark.long
@pytest.mark.parametrize("options", [{"device_map": "auto"}, {"attention": "eager"}])
def test_placement_and_attention_do_not_change_paths(options: dict[str, Any], hands: Any, hands_engine: Any) -> None:
    engine = registry.engine("hf", "hands", hands.defaults.sampling, **options)
    problems = hands.problems("dev", 2)
    ours, theirs = (e.launch(problems, 4, 60, seed=3) for e in (engine, hands_engine))
    assert [[p.tokens for p in g] for g in ours] == [[p.tokens for p in g] for g in theirs]
    assert [f for f in engine_conformance(engine, hands, cuts=(22,)) if f[1]] == []
