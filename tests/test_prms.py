"""Frozen reward models against forward passes by hand, one text at a time, on tiny models in the published layouts."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
    Qwen2Model,
)

from harness.api import Check, Path, PathpruneError, Problem
from pruners.external_learned.labor import LaBoR
from pruners.external_learned.math_shepherd import MathShepherd
from pruners.external_learned.prm import ProcessReward, aggregate, steps_of
from pruners.external_learned.qwen_prm import QwenPRM
from pruners.external_learned.sequence_reward import SequenceReward
from pruners.external_learned.skywork_prm import SkyworkPRM

CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<extra_0>"]
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
CONTEXT = 400
TEXTS = [
    "2+2=4\n\nso 5\n\nno",
    "",
    "one line only, a longer one than any other here",
    "x\n\n\n\ny",
    "2+2=4\nso 4\n\nyes",
]


def paths(texts: Sequence[str] = TEXTS, prompt: str = "What is 2+2?") -> list[Path]:
    return [Path(Problem("p", prompt, ""), i, 0, (1,), text) for i, text in enumerate(texts)]


def new_check() -> Check:
    return Check(np.random.default_rng(0))


def byte_tokenizer(special: Sequence[str] = SPECIAL, template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """One token a byte, as Qwen's without its merges; it adds no token of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True) for s in special])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    wrapped.chat_template = template
    return wrapped


def mistral_tokenizer(*more: str) -> PreTrainedTokenizerFast:
    """Characters behind a Metaspace and a <s>, with the merges that the published tags rest on."""
    merged = ["ки", "▁+", "▁-", *more]
    letters = sorted(set("".join(TEXTS)) | set("What is 2+2?суткиABab▁-") - {" "})
    vocab = {c: i for i, c in enumerate(["<unk>", "<s>", *letters, *merged])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[(w[:-1], w[-1]) for w in merged], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def qwen_config(**more: Any) -> Qwen2Config:
    vocabulary = 256 + len(SPECIAL)
    sizes: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "vocab_size": vocabulary}
    return Qwen2Config(**sizes, max_position_embeddings=CONTEXT, initializer_range=0.3, **more)


class Written:
    """A checkpoint in the published state-dict layout, written without the classes under test, and its pieces."""

    def __init__(self, folder: FilePath, head: dict[str, torch.Tensor], tokenizer: Any = None) -> None:
        torch.manual_seed(1)
        config = qwen_config()
        self.folder, self.tokenizer, self.head = folder, tokenizer or byte_tokenizer(), head
        self.model = Qwen2Model(config).eval()
        folder.mkdir()
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()} | head
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(folder)
        card = json.loads((folder / "config.json").read_text())
        card |= {"architectures": ["Qwen2ForX"], "auto_map": {"AutoModel": "absent.Qwen2ForX"}}  # as on the hub
        (folder / "config.json").write_text(json.dumps(card))
        self.tokenizer.save_pretrained(folder)

    @torch.no_grad()
    def states(self, text: str, mark: str) -> torch.Tensor:
        ids = self.tokenizer(text, add_special_tokens=False).input_ids
        wanted = self.tokenizer(mark, add_special_tokens=False).input_ids[-1]
        states = self.model(torch.tensor([ids])).last_hidden_state[0]
        return states[[i for i, token in enumerate(ids) if token == wanted]]


@pytest.fixture
def qwen(tmp_path: FilePath) -> Written:
    torch.manual_seed(2)
    shapes = {"score.0.weight": (32, 32), "score.0.bias": (32,), "score.2.weight": (2, 32), "score.2.bias": (2,)}
    return Written(tmp_path / "qwen", {name: torch.randn(shape) * 0.4 for name, shape in shapes.items()})


@pytest.fixture
def skywork(tmp_path: FilePath) -> Written:
    torch.manual_seed(2)
    head = {"v_head.summary.weight": torch.randn(1, 32) * 0.4, "v_head.summary.bias": torch.randn(1)}
    return Written(tmp_path / "skywork", head | {"lm_head.weight": torch.zeros(260, 32)})


@pytest.fixture
def shepherd(tmp_path: FilePath) -> FilePath:
    torch.manual_seed(3)
    tokenizer = mistral_tokenizer()
    sizes: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    config = MistralConfig(**sizes, max_position_embeddings=CONTEXT, initializer_range=0.3)
    MistralForCausalLM(config).save_pretrained(tmp_path / "shepherd")
    tokenizer.save_pretrained(tmp_path / "shepherd")
    return tmp_path / "shepherd"


def qwen_chat(steps: Sequence[str], prompt: str = "What is 2+2?") -> str:
    return (
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{''.join(s + '<extra_0>' for s in steps)}<|im_end|>\n"
    )


def by_hand_qwen(written: Written, steps: Sequence[str]) -> list[float]:
    head = written.head
    middle = torch.relu(written.states(qwen_chat(steps), "<extra_0>") @ head["score.0.weight"].T + head["score.0.bias"])
    logits = (middle @ head["score.2.weight"].T + head["score.2.bias"]).double()
    return (1 / (1 + (logits[:, 0] - logits[:, 1]).exp())).tolist()


def differ(scores: Sequence[Sequence[float]]) -> bool:
    """Are there scores apart enough that comparing them says something?"""
    flat = [s for row in scores for s in row]
    return max(flat) - min(flat) > 0.05


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_qwen_steps_are_those_of_one_text_at_a_time(qwen: Written, batch: int) -> None:
    steps = [["2+2=4", "so 5", "no"], [""], [TEXTS[2]], ["x", "", "y"], ["2+2=4\nso 4", "yes"]]
    expected = [by_hand_qwen(qwen, s) for s in steps]
    assert differ(expected)
    check = new_check()
    for scores, hand in zip(QwenPRM(str(qwen.folder), batch=batch).step_scores(paths(), check), expected, strict=True):
        assert scores.tolist() == pytest.approx(hand, abs=1e-5)
    lengths = [len(qwen.tokenizer(qwen_chat(s)).input_ids) for s in steps]
    head = len(qwen.tokenizer(qwen_chat([""])).input_ids) - len(["<extra_0>", "<|im_end|>", "\n"])
    body = sum(p.numel() for n, p in qwen.model.named_parameters() if "embed" not in n)
    per_token = 2 * (body + sum(v.numel() for v in qwen.head.values()))
    attention = 4 * 2 * 4 * 8
    assert check.cost.reread == check.cost.tokens == sum(lengths) - (len(steps) - 1) * head
    assert check.cold == sum(lengths)

    def flops(n: int) -> float:
        return per_token * n + attention * n * (n + 1) / 2

    assert check.cost.flops == pytest.approx(sum(map(flops, lengths)) - (len(steps) - 1) * flops(head))


def test_skywork_steps_are_those_of_one_text_at_a_time(skywork: Written) -> None:
    """Every newline behind the problem's own ends a step, an empty line's too: as the published code flags them."""
    expected = []
    for text in TEXTS:
        states = skywork.states(f"<|endoftext|>What is 2+2?\n{text}\n", "\n")[1:]
        values = states @ skywork.head["v_head.summary.weight"][0] + skywork.head["v_head.summary.bias"]
        expected.append((1 / (1 + (-values.double()).exp())).tolist())
    assert differ(expected) and [len(e) for e in expected] == [5, 1, 1, 5, 4]
    check = new_check()
    for scores, hand in zip(SkyworkPRM(str(skywork.folder)).step_scores(paths(), check), expected, strict=True):
        assert scores.tolist() == pytest.approx(hand, abs=1e-5)
    head = 1 + len("What is 2+2?\n")
    assert check.cost.reread == head + sum(len(f"{t}\n") for t in TEXTS)


@torch.no_grad()
def test_shepherd_steps_are_those_of_one_text_at_a_time(shepherd: FilePath) -> None:
    """The syllable "ки" of the problem is the tag's token and no step."""
    model, tokenizer = MistralForCausalLM.from_pretrained(shepherd).eval(), mistral_tokenizer()
    tag, plus, minus = (tokenizer.convert_tokens_to_ids(t) for t in ("ки", "▁+", "▁-"))
    expected, read = [], 0
    for steps in (["2+2=4", "so 5", "no"], [""], [TEXTS[2]], ["x", "y"], ["2+2=4", "so 4", "yes"]):
        ids = tokenizer("сутки " + "\n".join(f"Step {i}: {s} ки" for i, s in enumerate(steps, 1))).input_ids
        marks = [i for i, token in enumerate(ids) if token == tag]
        assert len(marks) == len(steps) + 1 and ids[0] == tokenizer.bos_token_id
        logits = model(torch.tensor([ids])).logits[0].double()
        expected.append([1 / (1 + math.exp(logits[i, minus] - logits[i, plus])) for i in marks[1:]])
        read += len(ids)
    assert differ(expected)
    check = new_check()
    scores = MathShepherd(str(shepherd)).step_scores(paths(prompt="сутки"), check)
    assert [s.tolist() for s in scores] == [pytest.approx(hand, abs=1e-5) for hand in expected]
    head = len(tokenizer("сутки Step 1: ").input_ids)  # what all texts begin with
    assert check.cost.reread == read - 4 * head and check.cold == read
    swapped = MathShepherd(str(shepherd), good="-", bad="+").step_scores(paths(prompt="сутки"), check)
    assert [f.tolist() for f in swapped] == [pytest.approx([1 - s for s in hand], abs=1e-5) for hand in expected]


def test_a_line_break_at_the_cut_ends_a_step_of_skywork(skywork: Written, shepherd: FilePath) -> None:
    """SkyworkAI/skywork-o1-prm-inference at 719b56b flags as many steps of these texts (``prepare_input``)."""
    texts = ("2+2=4\n", "2+2=4", "\n2+2=4\n\n", "")
    check = new_check()
    got = SkyworkPRM(str(skywork.folder)).step_scores([replace(paths()[0], text=t) for t in texts], check)
    assert [len(scores) for scores in got] == [2, 1, 4, 1]
    own = MathShepherd(str(shepherd))
    assert own.aggregation == "min" and QwenPRM("x").aggregation == SkyworkPRM("x").aggregation == "mean"
    step = [own.encode("q", ["Step 1: a", "b"])[0], own.encode("q", ["a", "Step 2: b"])[0]]
    assert step[0] == step[1] != MathShepherd(str(shepherd), numbered=False).encode("q", ["a", "b"])[0]


def test_aggregations_by_hand(qwen: Written) -> None:
    scores = np.array([0.5, 0.25, 1.0])
    by_hand = {"mean": 1.75 / 3, "min": 0.25, "max": 1.0, "prod": 0.125, "last": 1.0}
    assert {how: aggregate(scores, how) for how in by_hand} == pytest.approx(by_hand)
    first = by_hand_qwen(qwen, ["2+2=4", "so 5", "no"])
    expected = {"mean": sum(first) / 3, "min": min(first), "prod": math.prod(first), "last": first[-1]}
    for how, value in expected.items():
        pruner = QwenPRM(str(qwen.folder), aggregation=how)
        assert pruner.score(paths()[:1], new_check()).tolist() == pytest.approx([value], abs=1e-5)


def test_splitting() -> None:
    assert steps_of(" a\nb\n\nc\n\n", "\n\n") == ["a\nb", "c"]
    assert steps_of("", "\n\n") == [""]
    assert steps_of("a\n\nb", "\n") == ["a", "", "b"]


def test_a_step_whose_probability_underflows_is_counted(qwen: Written) -> None:
    """A mask of non-zero probabilities, as on the model card, would drop it and raise the mean."""
    pruner = QwenPRM(str(qwen.folder))
    pruner.frozen.model.score[2].weight.mul_(1e4)
    texts = ["\n\n".join("abcdefgh"[: n + 2]) for n in range(6)]
    steps = pruner.step_scores(paths(texts), new_check())
    assert [len(s) for s in steps] == [n + 2 for n in range(6)]
    mixed = [i for i, s in enumerate(steps) if (s == 0).any() and (s == 1).any()]
    assert mixed
    means = pruner.score(paths(texts), new_check())
    for i in mixed:
        assert means[i] == pytest.approx(steps[i].sum() / (i + 2))
        assert means[i] < steps[i][steps[i] != 0].mean()


def pruner_of(kind: str, request: Any) -> Any:
    written = request.getfixturevalue("qwen" if kind in ("labor", "sequence") else kind)
    folder = str(getattr(written, "folder", written))
    if kind == "labor":
        return LaBoR(model=folder, tokens=12, batch=2)
    return {"qwen": QwenPRM, "skywork": SkyworkPRM, "shepherd": MathShepherd}[kind](folder, batch=2)


@pytest.mark.parametrize("kind", ["qwen", "skywork", "shepherd", "labor"])
def test_order_and_company_of_the_prefixes_change_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    pruner = pruner_of(kind, request)
    scores = pruner.score(paths(), new_check())
    assert np.isfinite(scores).all() and np.ptp(scores) > 1e-3
    order = [3, 0, 4, 2, 1]
    assert pruner.score([paths()[i] for i in order], new_check()).tolist() == scores[order].tolist()
    alone = [pruner.score([p], new_check())[0] for p in paths()]
    assert alone == pytest.approx(scores.tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", ["qwen", "skywork", "shepherd"])
def test_a_text_beyond_the_context_is_one_line(kind: str, request: pytest.FixtureRequest) -> None:
    check = new_check()
    with pytest.raises(
        PathpruneError, match=rf"\d+ tokens for .*context is {CONTEXT}; use a shorter --prefix"
    ) as error:
        pruner_of(kind, request).score(paths(["ok", "x" * CONTEXT]), check)
    assert "\n" not in str(error.value) and check.cost.tokens == 0


def one_line(call: Callable[[], Any], *said: str) -> None:
    with pytest.raises(PathpruneError) as error:
        call()
    assert "\n" not in str(error.value)
    for words in said:
        assert words in str(error.value)


def scored(pruner: Any) -> Callable[[], Any]:
    return lambda: pruner.score(paths(), new_check())


def test_a_checkpoint_without_its_head_is_refused(tmp_path: FilePath) -> None:
    """Loaded all the same, a random head would score."""
    Qwen2ForCausalLM(qwen_config()).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    one_line(scored(QwenPRM(str(tmp_path))), str(tmp_path), "score.0.weight", "score.2.bias")
    one_line(scored(SkyworkPRM(str(tmp_path))), str(tmp_path), "v_head.summary.weight")
    one_line(scored(SequenceReward(str(tmp_path))), str(tmp_path), "score.weight")


def test_a_checkpoint_of_other_shapes_or_none_is_refused(skywork: Written, tmp_path: FilePath) -> None:
    narrow = json.loads((skywork.folder / "config.json").read_text()) | {"intermediate_size": 40}
    (skywork.folder / "config.json").write_text(json.dumps(narrow))
    one_line(scored(SkyworkPRM(str(skywork.folder))), str(skywork.folder))
    one_line(scored(QwenPRM(str(tmp_path / "absent"))), "no model folder")
    one_line(scored(MathShepherd(str(tmp_path))), "config.json")


def test_a_tokenizer_without_the_marks_is_refused(qwen: Written, skywork: Written, shepherd: FilePath) -> None:
    byte_tokenizer(template=None).save_pretrained(qwen.folder)
    (qwen.folder / "chat_template.jinja").unlink(missing_ok=True)
    one_line(scored(QwenPRM(str(qwen.folder))), "no chat template")
    byte_tokenizer(SPECIAL[:3]).save_pretrained(qwen.folder)
    one_line(scored(QwenPRM(str(qwen.folder))), "<extra_0>", str(qwen.folder))
    nameless = byte_tokenizer()
    nameless.bos_token = None
    nameless.save_pretrained(skywork.folder)
    one_line(scored(SkyworkPRM(str(skywork.folder))), "beginning-of-sequence", str(skywork.folder))
    one_line(scored(MathShepherd(str(shepherd), good="++")), "makes 3 tokens of '++ -'")
    mistral_tokenizer("ки\n").save_pretrained(shepherd)
    one_line(scored(MathShepherd(str(shepherd))), "'ки'", str(shepherd))


def test_a_literal_mark_in_a_path_is_no_step(qwen: Written) -> None:
    scores = QwenPRM(str(qwen.folder)).step_scores(paths(["a<extra_0>b\n\nc"]), new_check())
    assert scores[0].tolist() == pytest.approx(by_hand_qwen(qwen, ["a b", "c"]), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ab\n\ncd\n\nefghijk", "ab\n\ncd"),  # 11 bytes are "ab\n\ncd\n\nefg": the cut paragraph goes
        ("ab\n\ncd", "ab"),  # a text shorter than the cut loses its last paragraph too
        ("abcdefghijklmnop", "abcdefghijk"),  # published: the empty string
        ("  \n\nabcdef", "abcdef"),
        ("ab\n\ncdefghi\n\nj", "ab"),  # the separator at the cut is stripped before the last paragraph is dropped
        ("", ""),
    ],
)
def test_labor_truncation(qwen: Written, text: str, kept: str) -> None:
    """tokens=12 without a beginning-of-sequence token: 11 tokens, here bytes."""
    pruner = LaBoR(model=str(qwen.folder), tokens=12)
    assert pruner.first_reasoning(text) == kept
    expected = np.mean(by_hand_qwen(qwen, kept.split("\n\n")))
    assert pruner.score(paths([text]), new_check())[0] == pytest.approx(expected, abs=1e-5)


def test_labor_leaves_out_the_first_token_only_where_it_is_no_text(qwen: Written, shepherd: FilePath) -> None:
    """The published slice [1:12] of <s>, the leading ▁ and characters: 10 characters; the proxy alone decides."""
    whats, there = "What is What is What is", str(shepherd)
    own = LaBoR(kind="shepherd", model=there, tokens=12)
    proxy = LaBoR(model=str(qwen.folder), tokenizer=there, tokens=12)
    assert own.first_reasoning(whats) == proxy.first_reasoning(whats) == "What is Wh"
    ids = mistral_tokenizer()(whats).input_ids
    assert mistral_tokenizer().decode(ids[1:12]).strip() == "What is Wh"
    assert proxy.identity()["tokenizer"] == own.identity()["fingerprint"] != proxy.identity()["fingerprint"]


def saved_reward(folder: FilePath, template: str | None, **config: Any) -> Any:
    torch.manual_seed(4)
    model = Qwen2ForSequenceClassification(qwen_config(**{"num_labels": 1, **config})).eval()
    model.save_pretrained(folder)
    byte_tokenizer(template=template).save_pretrained(folder)
    return model


@torch.no_grad()
@pytest.mark.parametrize("pad", [256, None])
@pytest.mark.parametrize("template", [CHATML, None])
def test_sequence_rewards_are_those_of_one_text_at_a_time(tmp_path: FilePath, template: Any, pad: Any) -> None:
    model = saved_reward(tmp_path, template, pad_token_id=pad)
    chats = [
        f"<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n{t}<|im_end|>\n"
        if template
        else f"What is 2+2?\n{t}"
        for t in TEXTS
    ]
    ids = [byte_tokenizer()(c).input_ids for c in chats]
    states = [model.model(torch.tensor([row])).last_hidden_state[0, -1] for row in ids]
    expected = [float(model.score(state)) for state in states]
    assert np.ptp(expected) > 0.05
    check = new_check()
    pruner = SequenceReward(str(tmp_path), batch=3)
    scores = pruner.score(paths(), check)
    assert scores.tolist() == pytest.approx(expected, abs=1e-5)
    head = len(byte_tokenizer()(chats[1]).input_ids) - 2 * bool(template)
    assert check.cost.reread == sum(map(len, ids)) - 4 * head + (not template) and check.cold == sum(map(len, ids))
    assert pruner.score(paths()[::-1], new_check()).tolist() == scores[::-1].tolist()


def test_sequence_reward_wants_one_label_and_a_name(tmp_path: FilePath) -> None:
    saved_reward(tmp_path, None, num_labels=2)
    one_line(scored(SequenceReward(str(tmp_path))), "2 labels", str(tmp_path))
    one_line(scored(SequenceReward()), "model=")
    one_line(SequenceReward().identity, "model=")


@pytest.mark.parametrize("made", [QwenPRM, SkyworkPRM, MathShepherd, LaBoR, SequenceReward])
def test_only_a_local_folder_is_read_unasked(made: Any, tmp_path: FilePath) -> None:
    assert made().on_request and made(model="owner/name").on_request
    assert made(model=str(tmp_path)).on_request == ""
    assert made.cost_class == "re-read" and made.needs == {"text"} and made.quadrant == "external-learned"


def test_weights_are_named_by_their_content(qwen: Written, tmp_path: FilePath) -> None:
    shutil.copytree(qwen.folder, tmp_path / "copy")
    first = QwenPRM(str(qwen.folder)).identity()["fingerprint"]
    assert QwenPRM(str(tmp_path / "copy")).identity()["fingerprint"] == first
    head = tmp_path / "copy" / "model.safetensors"
    data = bytearray(head.read_bytes())
    data[-1] ^= 1
    head.write_bytes(bytes(data))
    assert QwenPRM(str(tmp_path / "copy")).identity()["fingerprint"] != first


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (QwenPRM, {"aggregation": "median"}),
        (QwenPRM, {"batch": 0}),
        (SkyworkPRM, {"split": "sentence"}),
        (LaBoR, {"kind": "other"}),
        (LaBoR, {"tokens": 1}),
        (SequenceReward, {"batch": 0}),
    ],
)
def test_bad_options_are_refused(made: type[ProcessReward], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        made(**options)


def test_importing_the_pruners_does_not_import_torch() -> None:
    names = "labor, math_shepherd, prm, qwen_prm, sequence_reward, skywork_prm"
    code = f"from pruners.external_learned import {names}; import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
