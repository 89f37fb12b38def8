"""Methods that question another language model: scripted replies give known scores, a real reader known charges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest

from harness import loop, registry
from harness.api import PREFILL, Check, Path, PathpruneError, Problem, Sampling
from harness.reader import open_reader
from harness.testing import conformance
from pruners.external_learned.deepprune import DeepPrune
from pruners.external_learned.mav import ASPECTS, MARKER, MAV, verdict
from pruners.external_learned.thinkprm import QUESTION, ThinkPRM
from tasks.toy import Toy


@dataclass
class Scripted:
    """Writes ``reply(prompt, i)`` and gives (first word, second word) the probabilities ``odds(prompt, text)``."""

    reply: Callable[[str, int], str] = lambda prompt, i: ""
    odds: Callable[[str, str], tuple[float, float]] = lambda prompt, text: (0.5, 0.25)
    opened: list[tuple[str, Sampling, dict[str, Any]]] = field(default_factory=list)
    wrote: list[tuple[str, int, int]] = field(default_factory=list)  # prompt, max_tokens, n
    asked: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)

    def generate(self, prompts: Sequence[str], max_tokens: int, n: int = 1, then_read: bool = False) -> list[list[str]]:
        self.wrote += [(prompt, max_tokens, n) for prompt in prompts]
        return [[self.reply(prompt, i) for i in range(n)] for prompt in prompts]

    def choices(self, prompts: Sequence[str], texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
        self.asked += [(prompt, text, tuple(words)) for prompt, text in zip(prompts, texts, strict=True)]
        return np.log([self.odds(prompt, text) for prompt, text in zip(prompts, texts, strict=True)])

    def check(self) -> Check:
        def reader(model: str, sampling: Sampling, **options: Any) -> Scripted:
            self.opened.append((model, sampling, options))
            return self

        return Check(np.random.default_rng(0), reader=reader, decode=lambda tokens: "".join(map(str, tokens)))


def paths(*texts: str) -> list[Path]:
    problem = Problem("p", "What is {first} of {solution}?", "")
    return [Path(problem, i, 0, tuple(range(i, i + 5)), text) for i, text in enumerate(texts)]


def test_thinkprm_is_the_mean_share_of_yes_after_each_verification() -> None:
    odds = {"v0": (0.3, 0.1), "v1": (0.2, 0.2), "v2": (0.06, 0.24)}  # shares of yes: 3/4, 1/2, 1/5
    fake = Scripted(
        lambda prompt, i: ["v0", "v1"][i] if "good" in prompt else "v2", lambda prompt, text: odds[text.split("\n")[0]]
    )
    pruner = ThinkPRM("m", n=2, temperature=0.4, max_tokens=99, engine="other", dtype="bfloat16")
    scores = pruner.score(paths("good start", "bad start"), fake.check())
    assert scores.tolist() == pytest.approx([(0.75 + 0.5) / 2, 0.2])
    assert fake.opened == [("m", Sampling(temperature=0.4), {"engine": "other", "dtype": "bfloat16"})]
    assert [(m, n) for _, m, n in fake.wrote] == [(99, 2)] * 2
    assert all("What is {first} of {solution}?" in prompt for prompt, *_ in fake.wrote)
    assert [(text, words) for _, text, words in fake.asked] == [
        (v + "\nIs the solution correct? ", ("yes", "no")) for v in ("v0", "v1", "v2", "v2")
    ]
    assert [prompt for prompt, *_ in fake.asked] == [fake.wrote[i][0] for i in (0, 0, 1, 1)]


@pytest.mark.parametrize("verdict_of_its_own", ["</think>\nso no", "Is the solution correct? no", ""])
def test_thinkprm_asks_in_place_of_the_verifier_s_own_verdict(verdict_of_its_own: str) -> None:
    fake = Scripted(lambda prompt, i: "step 1 is fine. " + verdict_of_its_own)
    assert ThinkPRM("m").score(paths("a"), fake.check()).tolist() == pytest.approx([2 / 3])
    assert fake.asked[0][1] == "step 1 is fine. " + QUESTION


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (f"{MARKER}True", True),
        (f"fine\n**{MARKER.lower()}** `False`.", False),
        (f"{MARKER}False, or no: {MARKER} _TRUE_!", True),
        (f"{MARKER} True\nand yet {MARKER} unsure", None),
        (f"{MARKER} Truely", None),
        (f"{MARKER} not True", None),
        ("It is True.", None),
        (MARKER, None),
        ("", None),
    ],
)
def test_mav_verdicts(reply: str, expected: bool | None) -> None:
    assert verdict(reply) is expected


def test_mav_is_the_share_of_approvals_and_asks_again_where_none_was_given() -> None:
    """Path x: True, False, and True when asked again. Path y: False, True, and False when asked again."""
    checks = {"math_steps": "True", "general_edge": "False"}
    flip = {"True": "False", "False": "True"}

    def reply(prompt: str, i: int) -> str:
        verdicts = [word for aspect, word in checks.items() if ASPECTS[aspect] in prompt]
        if not verdicts:
            return "hard to say"
        return f"Hm.\n{MARKER}" + (verdicts[0] if "\nx\n" in prompt else flip[verdicts[0]])

    fake = Scripted(reply, lambda prompt, text: (0.02, 0.01) if "\nx\n" in prompt else (0.01, 0.02))
    pruner = MAV("m", aspects="math_steps+general_edge+logic_steps", max_tokens=7)
    assert pruner.score(paths("x", "y"), fake.check()).tolist() == pytest.approx([2 / 3, 1 / 3])
    assert fake.opened[0][1] == Sampling(temperature=0.0)
    assert [(m, n) for _, m, n in fake.wrote] == [(7, 1)] * 6
    assert [(text, words) for _, text, words in fake.asked] == [(f"hard to say\n\n{MARKER}", ("True", "False"))] * 2


def test_mav_has_the_published_aspects() -> None:
    steps = {f"{a}_steps" for a in ("math", "logic", "facts", "units")}
    general = {f"general_{a}" for a in ("direct", "summarize", "diff", "edge", "mistakes", "domain")}
    assert set(MAV("m").aspects) == steps | general


def judged(pruner: DeepPrune, prefixes: Sequence[Path], same: Callable[[str, str], bool]) -> tuple[list[float], int]:
    """Scores, and how many pairs were judged, by a judge that says 0.75 where ``same`` holds and 0.25 elsewhere."""

    def odds(prompt: str, text: str) -> tuple[float, float]:
        assert text == ""
        first, second = (prompt.split(f"[{n} solution]\n\n")[1].split("\n")[0] for n in ("First", "Second"))
        return (0.3, 0.1) if same(first, second) else (0.1, 0.3)

    fake = Scripted(odds=odds)
    return np.asarray(pruner.score(prefixes, fake.check())).tolist(), len(fake.asked)


def test_deepprune_by_hand() -> None:
    """Groups A {0 2 3}, B {1 5}, C {4}. Path by path: 1, 1, 1, 2 and 2 pairs, for paths 1 to 5."""
    prefixes = paths("A", "B", "A", "A", "C", "B")
    expected = [3 / 7, 2 / 7, 3 / 7 - 1, 3 / 7 - 2, 1 / 7, 2 / 7 - 1]
    scores, pairs = judged(DeepPrune("m"), prefixes, str.__eq__)
    assert scores == pytest.approx(expected)
    assert pairs == 7
    order = [4, 2, 5, 0, 3, 1]
    assert judged(DeepPrune("m"), [prefixes[i] for i in order], str.__eq__)[0] == pytest.approx(
        [expected[i] for i in order]
    )


def test_deepprune_compares_with_representatives_only() -> None:
    """A ~ B and B ~ C, but not A ~ C: C is no match for A, who stands for B, and founds a group."""
    scores, pairs = judged(DeepPrune("m"), paths("A", "B", "C"), lambda a, b: abs(ord(a) - ord(b)) == 1)
    assert scores == pytest.approx([2 / 4, 2 / 4 - 1, 1 / 4])
    assert pairs == 2


@pytest.mark.parametrize(("threshold", "pairs"), [(0.0, 3), (0.24, 3), (0.26, 6), (1.0, 6)])
def test_deepprune_threshold_decides(threshold: float, pairs: int) -> None:
    """Every pair has P = 0.25: one group of four costs N - 1 pairs, four groups of one N (N - 1) / 2."""
    assert judged(DeepPrune("m", threshold=threshold), paths(*"ABCD"), lambda a, b: False)[1] == pairs


def test_deepprune_reads_the_first_tokens() -> None:
    """Path i has tokens i, i+1, ...: the judge sees the first two of each."""
    fake = Scripted()
    DeepPrune("m", tokens=2).score(paths("A", "B"), fake.check())
    assert "01" in fake.asked[0][0] and "12" in fake.asked[0][0] and "A" not in fake.asked[0][0].replace("Answer", "")


def test_deepprune_of_one_path_judges_nothing() -> None:
    assert judged(DeepPrune("m"), paths("A"), str.__eq__) == ([0.5], 0)


METHODS = {"thinkprm": ThinkPRM, "mav": MAV, "deepprune": DeepPrune}


@pytest.mark.parametrize("name", METHODS)
def test_left_out_until_a_model_is_named(name: str) -> None:
    assert METHODS[name]("folder").on_request == ""
    assert "model=" in METHODS[name]().on_request
    assert METHODS[name].origins.fidelity.startswith("adapted")


def test_mav_without_a_model_says_what_to_name() -> None:
    with pytest.raises(PathpruneError, match="mav:model="):
        MAV().score(paths("a"), Scripted().check())
    assert MAV().identity() == {}


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ThinkPRM("m", n=0), "1 or more"),
        (lambda: ThinkPRM("m", n=4), "temperature=0.4"),
        (lambda: ThinkPRM("m", max_tokens=0), "1 or more"),
        (lambda: MAV("m", aspects="math_steps+taste"), "general_direct"),
        (lambda: MAV("m", aspects="math_steps+math_steps"), "once"),
        (lambda: MAV("m", max_tokens=0), "1 or more"),
        (lambda: DeepPrune("m", threshold=1.5), "probability"),
        (lambda: DeepPrune("m", tokens=-1), "0"),
    ],
)
def test_option_values_are_checked(make: Callable[[], Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


def test_the_wording_can_be_another(tmp_path: FilePath) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("{problem}|{solution}|{other}")
    fake = Scripted()
    ThinkPRM("m", prompt=str(file)).score(paths("a {problem} b"), fake.check())
    assert (
        fake.wrote[0][0]
        == f"What is {{first}} of {{solution}}?|a {{problem}} b|{{other}}{PREFILL}\nLet's verify step by step:"
    )
    file.write_text("{problem}")
    with pytest.raises(PathpruneError, match=r"has no \{solution\}"):
        ThinkPRM("m", prompt=str(file))
    with pytest.raises(PathpruneError, match="cannot be read"):
        MAV("m", prompt=str(tmp_path / "absent"))


def tiny(folder: FilePath, seed: int) -> str:
    """A Llama of random weights that reads bytes, with a chat template, in a folder of its own."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=False)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "max_position_embeddings": 4096}
    config = LlamaConfig(
        vocab_size=len(alphabet),
        num_hidden_layers=1,
        **shape,
        bos_token_id=None,
        eos_token_id=len(alphabet) - 1,
        initializer_range=1.0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("verifier"), seed=1)


@pytest.fixture(scope="module")
def launched() -> Iterator[tuple[Toy, Any, list[Path]]]:
    task = Toy()
    engine = registry.engine("toy", "toy", Sampling())
    yield task, engine, engine.launch(task.problems("dev", 1), 4, 5, 0)[0]


def chat(prompt: str) -> str:
    asked, _, begun = prompt.partition(PREFILL)
    return f"<user>{asked}<assistant>{begun}"


def share_of(folder: str, text: str, words: str) -> float:
    """P(first) / (P(first) + P(second)) of the byte to follow, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        p = model(**tokenizer(text, return_tensors="pt")).logits[0, -1].softmax(-1)
    first, second = (float(p[tokenizer.convert_tokens_to_ids(word)]) for word in words)
    return first / (first + second)


def greedy(folder: str, text: str, tokens: int) -> str:
    """What follows, by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    read = tokenizer(text, return_tensors="pt")
    whole = model.generate(**read, max_new_tokens=tokens, do_sample=False, pad_token_id=0)[0]
    return str(tokenizer.decode(whole[read.input_ids.shape[1] :]))


def read_once(prompts: Sequence[str]) -> int:
    """Bytes of prompts where what is worth a head of its own is read once, written without the code under test."""

    def rest(some: list[bytes], covered: int) -> int:
        if len(some) == 1:
            return len(some[0]) - covered
        common = next(i for i in count() if len({p[: i + 1] for p in some}) > 1)
        saved = common if (common - covered) * (len(some) - 1) >= 16 else covered
        groups = [[p for p in some if p[: common + 1] == start] for start in {p[: common + 1] for p in some}]
        return saved - covered + sum(rest(group, saved) for group in groups)

    return rest([p.encode() for p in prompts], 0)


def test_thinkprm_through_a_real_reader(folder: str, launched: tuple[Toy, Any, list[Path]]) -> None:
    task, engine, prefixes = launched
    pruner = ThinkPRM(folder, max_tokens=6, device="cpu")
    scores, spent = loop.check(pruner, prefixes, engine, task, 0)
    cost = spent.cost
    prompts = [chat(pruner.judge.ask(problem=p.problem.prompt, solution=p.text)) for p in prefixes]
    assert cost.verifier == 6 * 4
    # What a random model draws is no UTF-8, so that its text's bytes may not be those that it drew: they are read again.
    texts = [greedy(folder, p, 6) + QUESTION for p in prompts]
    again = sum(len(t.encode()) for t in texts)
    assert read_once(prompts) + 4 * len(QUESTION) <= cost.reread <= read_once(prompts) + again
    assert spent.cold == sum(2 * len(p.encode()) for p in prompts) + 4 * 6 + again
    assert cost.flops > 0 and cost.generated == cost.probed == 0
    expected = [share_of(folder, p + greedy(folder, p, 6) + QUESTION, "yn") for p in prompts]
    assert scores.tolist() == pytest.approx(expected, rel=1e-4)


def test_mav_through_a_real_reader(folder: str, launched: tuple[Toy, Any, list[Path]]) -> None:
    """Random weights never write the marker: every verdict is asked for, and costs the marker's bytes."""
    task, engine, prefixes = launched
    pruner = MAV(folder, aspects="math_steps+general_direct", max_tokens=4, device="cpu")
    scores, spent = loop.check(pruner, prefixes, engine, task, 0)
    cost = spent.cost
    asked = [(p, a) for p in prefixes for a in ("math_steps", "general_direct")]
    prompts = [chat(pruner.judge.ask(problem=p.problem.prompt, solution=p.text, aspect=ASPECTS[a])) for p, a in asked]
    marker = f"\n\n{MARKER}"
    assert cost.verifier == 4 * 8
    again = sum(len((greedy(folder, p, 4) + marker).encode()) for p in prompts)
    assert read_once(prompts) + 8 * len(marker) <= cost.reread <= read_once(prompts) + again
    approvals = [share_of(folder, p + greedy(folder, p, 4) + marker, "TF") > 0.5 for p in prompts]
    assert scores.tolist() == [(approvals[i] + approvals[i + 1]) / 2 for i in range(0, 8, 2)]


@pytest.mark.parametrize(("threshold", "pairs"), [(0.0, [(0, 1), (0, 2), (0, 3)]), (1.0, None)])
def test_deepprune_through_a_real_reader(
    threshold: float, pairs: list[tuple[int, int]] | None, folder: str, launched: tuple[Toy, Any, list[Path]]
) -> None:
    """P is above 0 and below 1: the two thresholds are one group, and as many groups as paths."""
    task, engine, prefixes = launched
    pruner = DeepPrune(folder, threshold=threshold, device="cpu")
    scores, spent = loop.check(pruner, prefixes, engine, task, 0)
    cost = spent.cost
    pairs = pairs or [(i, j) for i in range(4) for j in range(i + 1, 4)]
    both = [(prefixes[i], prefixes[j]) for i, j in pairs]
    prompts = {chat(pruner.judge.ask(problem=a.problem.prompt, first=a.text, second=b.text)) for a, b in both}
    assert read_once([*prompts]) <= cost.reread < spent.cold == sum(len(p.encode()) for p in prompts)
    assert cost.flops > 0 and cost.verifier == 0
    expected = [0.8, -0.2, -1.2, -2.2] if threshold == 0 else [0.2] * 4
    assert scores.tolist() == pytest.approx(expected)


def test_deepprune_threshold_between_two_probabilities(folder: str, launched: tuple[Toy, Any, list[Path]]) -> None:
    """With the threshold just below, and just above, what transformers gives the first pair."""
    task, engine, prefixes = launched
    two = prefixes[:2]
    prompt = DeepPrune(folder).judge.ask(problem=two[0].problem.prompt, first=two[0].text, second=two[1].text)
    p = share_of(folder, chat(prompt), "yn")
    for threshold, expected in ((p - 1e-4, [2 / 3, 2 / 3 - 1]), (p + 1e-4, [1 / 3, 1 / 3])):
        pruner = DeepPrune(folder, threshold=threshold, device="cpu")
        assert loop.check(pruner, two, engine, task, 0)[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", METHODS)
def test_conforms_through_a_real_reader(name: str, folder: str, launched: tuple[Toy, Any, list[Path]]) -> None:
    few: dict[str, dict[str, Any]] = {
        "thinkprm": {"max_tokens": 4, "n": 2, "temperature": 1.0},
        "mav": {"max_tokens": 4, "aspects": "math_steps+general_direct"},
        "deepprune": {"tokens": 3},
    }
    pruner = METHODS[name](folder, device="cpu", **few[name])
    task, engine, _ = launched
    prefixes = engine.launch(task.problems("dev", 1), 8, 5, 0)[0]
    assert len(set(loop.check(pruner, prefixes, engine, task, 0)[0])) > 1  # constant scores would conform anyhow
    findings = list(conformance(registry.of_object(pruner), task, engine, 5))
    assert len(findings) >= 4
    assert [f for f in findings if f[1] is not None] == []


def test_words_of_one_first_token_are_refused(folder: str, launched: tuple[Toy, Any, list[Path]]) -> None:
    task, engine, prefixes = launched
    with pytest.raises(loop.ScoringError, match="same token"):
        loop.check(ThinkPRM(folder, yes="same", no="so", max_tokens=1, device="cpu"), prefixes, engine, task, 0)


def test_one_undecided_judge_is_no_error() -> None:
    """Low precision rounds two logits to one value now and then."""
    fake = Scripted(odds=lambda prompt, text: (0.2, 0.2))
    assert ThinkPRM("m").score(paths("a"), fake.check()).tolist() == [0.5]


def test_identity_is_the_weights_and_the_wording(folder: str, tmp_path: FilePath) -> None:
    other = tiny(tmp_path / "other", seed=2)
    same, changed = DeepPrune(folder).identity(), DeepPrune(other).identity()
    assert same["fingerprint"] != changed["fingerprint"] and same["wording"] == changed["wording"]
    (tmp_path / "prompt.txt").write_text("{problem} {first} {second}")
    reworded = DeepPrune(folder, prompt=str(tmp_path / "prompt.txt")).identity()
    assert reworded["fingerprint"] == same["fingerprint"] and reworded["wording"] != same["wording"]
    assert ThinkPRM().identity()["model"] == "launch/ThinkPRM-1.5B"


def test_written_texts_leave_no_keys_and_values(tiny_model: str) -> None:
    """Where nobody reads on from their ends; a prompt that is read is the same whether they were kept or not."""
    check = Check(np.random.default_rng(0))
    reader = open_reader(check, tiny_model, Sampling(), device="cpu")
    launched = reader.engine.launch([Problem("a", "a", "")], 2, 8, seed=0)[0]
    reader.engine.store.clear()
    assert reader.generate(["a"], 8, n=2) == [[p.text for p in launched]]
    assert reader.engine.store.bytes == 0 and check.cost.verifier == sum(len(p.tokens) for p in launched)
    assert reader.generate(["a"], 8, n=2, then_read=True) == [[p.text for p in launched]] and reader.engine.store.bytes


@pytest.mark.parametrize("then_read", [False, True])
def test_reading_on_from_a_written_text_pays_what_was_not_kept(tiny_model: str, then_read: bool) -> None:
    check = Check(np.random.default_rng(0))
    reader = open_reader(check, tiny_model, Sampling(), device="cpu")
    reader.engine.store.clear()
    text = reader.generate(["a"], 8, then_read=then_read)[0][0]
    prompt, paid = reader.engine.prompt_length(Problem("a", "a", "")), check.cost.reread
    reader.choices(["a"], [text], ["y", "n"])
    length = len(reader.engine.encode(text))
    again = check.cost.reread - paid
    assert paid == prompt and (again <= length if then_read else again == prompt + length)
