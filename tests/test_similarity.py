"""Methods that compare paths with each other, against numbers by hand and against slow, literal versions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.api import Check, Path, PathpruneError, Problem
from pruners.external_fixed import slimsc_online
from pruners.external_fixed.jaccard import mean_similarity
from pruners.external_fixed.setwise import Central, Diverse
from pruners.external_fixed.similarity import Space, cosines, farthest_first, mean_cosine
from pruners.external_fixed.slimsc import SlimSC
from pruners.external_fixed.slimsc_online import SlimSCOnline
from pruners.external_fixed.thoughts import STRIDE, Stream, Thought, thoughts

WORDS = ["wait", "so", "a", "b", "c", "d", "e", "f", "g", "h"]
PROBLEM = Problem("p", "q", "0")


def decode(tokens: Sequence[int]) -> str:
    return " ".join(WORDS[t] for t in tokens)


def path(text: str, index: int = 0) -> Path:
    return Path(PROBLEM, index, 0, tuple(WORDS.index(w) for w in text.split()), text, finish="stop")


def pool(*texts: str) -> list[Path]:
    return [path(text, index) for index, text in enumerate(texts)]


def fresh(seed: int = 0) -> Check:
    return Check(np.random.default_rng(seed), decode=decode)


def cosine(a: str, b: str) -> float:
    one, other = set(a.split()), set(b.split())
    return len(one & other) / (len(one) * len(other)) ** 0.5


chains = st.lists(st.lists(st.integers(0, len(WORDS) - 1), min_size=1, max_size=24), min_size=1, max_size=5)
as_pool = chains.map(lambda rows: pool(*(decode(row) for row in rows)))


# Similarities


def test_word_cosines_by_hand() -> None:
    rows, costs = Space("words").embed(["a B", "b c D d", "", " \n"])
    expected = [[1, 1 / 6**0.5, 0, 0], [1 / 6**0.5, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert cosines(rows).tolist() == [pytest.approx(row) for row in expected]
    assert sum(c.tokens for c in costs) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sets(st.sampled_from(WORDS)), min_size=2, max_size=8))
def test_mean_jaccard_is_its_definition(sets: list[set[str]]) -> None:
    def jaccard(a: set[str], b: set[str]) -> float:
        return len(a & b) / len(a | b) if a | b else 1.0

    expected = [np.mean([jaccard(a, b) for j, b in enumerate(sets) if j != i]) for i, a in enumerate(sets)]
    assert mean_similarity(sets).tolist() == pytest.approx(expected)


def test_central_by_hand() -> None:
    """{a b} {a c} {d}: cosines 1/2, 0, 0."""
    assert Central().score(pool("a b", "a c", "d"), fresh()).tolist() == pytest.approx([0.25, 0.25, 0])
    assert Central().score(pool("a"), fresh()).tolist() == [0]


def test_diverse_by_hand() -> None:
    """Path 0 is most central; d is unlike it; then a b (nearest chosen 0.816) goes before a b c a (1)."""
    paths = pool("a b c", "a b c a", "d", "a b")
    assert Diverse().score(paths, fresh()).tolist() == [0, -3, -1, -2]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10**6))
def test_every_choice_is_the_farthest_from_those_before_it(n: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors.T
    order = np.argsort(farthest_first(similarity))
    others = [[similarity[i, j] for j in range(n) if j != i] for i in range(n)]
    assert n == 1 or np.mean(others[order[0]]) == pytest.approx(max(map(np.mean, others)))
    for turn in range(1, n):
        gap = {i: min(1 - similarity[i, j] for j in order[:turn]) for i in order[turn:]}
        assert gap[order[turn]] == pytest.approx(max(gap.values()))


# Thoughts


def test_thoughts_by_hand() -> None:
    tokens = path("a b c wait d so e f g wait h").tokens
    found = thoughts(tokens, decode, ["wait", "SO"], minimum=3)
    assert found == [
        Thought("a b c ", 3, 4),  # ends when "wait", the 4th token, is there
        Thought("wait d so e f g ", 6, 10),  # "wait d" has 2 of 3 tokens and goes on behind "so"
        Thought("wait h", 2, 11),
    ]
    assert [t.text for t in thoughts(tokens, decode, ["ait"], 1)] == [decode(tokens)]  # no beginning of a word
    assert thoughts((), decode, ["wait"], 1) == [Thought("", 0, 0)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 4))
@example([3, 0, 1, 2, 3], 1)  # "wait so a", which is complete after the "so" within it
def test_later_tokens_move_no_border(tokens: list[int], minimum: int) -> None:
    phrases = ["so", "wait so a", "a b", "a b c"]
    whole = thoughts(tokens, decode, phrases, minimum)[:-1]
    for cut in range(len(tokens)):
        assert thoughts(tokens[:cut], decode, phrases, minimum)[:-1] == [t for t in whole if t.completed <= cut]


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"]), max_size=3 * STRIDE))
@example("\u20ac" * STRIDE)  # three bytes each: no anchor but the third falls between two characters
def test_a_stream_of_bytes_shows_whole_characters(text: str) -> None:
    tokens = text.encode()
    stream = Stream(tokens, lambda part: bytes(part).decode(errors="replace"))
    assert stream.text == text
    assert [stream.length(n) for n in range(len(tokens) + 1)] == [
        len(tokens[:n].decode(errors="ignore")) for n in range(len(tokens) + 1)
    ]


def test_a_stream_decodes_in_time_proportional_to_its_length() -> None:
    decoded = 0

    def counting(tokens: Sequence[int]) -> str:
        nonlocal decoded
        decoded += len(tokens)
        return decode(tokens)

    tokens = [2 + i % 8 for i in range(20_000)]
    assert Stream(tokens, counting).text == decode(tokens)
    assert decoded < 2 * len(tokens)


# Slim-SC at the prefix


def test_own_cosine_by_hand() -> None:
    rows, _ = Space("words").embed(["a b", "a c", "d"])
    assert mean_cosine(rows) == pytest.approx(0.5 / 3)
    assert mean_cosine(rows[:1]) == 1


def test_slimsc_by_hand() -> None:
    """0 and 1 share the thought "wait a b" (cosine 1); own cosines 0, 2/3 and (one thought) 1.

    So 1 goes first, and then 2, whose "a c d e f" is nearest to 0's "wait a b".
    """
    paths = pool("c d wait a b", "wait a d wait a b", "a c d e f")
    method = SlimSC(phrases="wait", min_tokens=2)
    assert [t.text for t in method.split(paths[1], fresh())] == ["wait a d ", "wait a b"]
    assert method.score(paths, fresh()).tolist() == [2, 0, 1]


def test_diversity_ties_go_to_more_thoughts_then_to_the_lower_index() -> None:
    method = SlimSC(phrases="wait", min_tokens=2)
    assert method.score(pool("a b", "a b wait a b wait"), fresh()).tolist() == [0, 1]  # 1 has two, less alike
    rows, _ = Space("words").embed(["a", "b", "c"])
    assert method.loser((3, 7), (rows[:2], rows), fresh()) == 3  # both 0: 7 has more thoughts
    assert method.loser((3, 7), (rows[:2], rows[1:]), fresh()) == 7


def test_random_rule_tosses_a_fair_coin() -> None:
    method = SlimSC(rule="random")
    kept = np.array([method.score(pool("a b", "a b"), fresh(seed)) for seed in range(200)])
    assert kept.sum(1).tolist() == [1.0] * 200
    assert 70 < kept[:, 0].sum() < 130


def test_a_short_running_thought_counts_only_where_there_is_no_other() -> None:
    """With "wait f" in play, path 0 would be the one like path 2; without it, it is like path 1."""
    paths = pool("a b c wait f", "a b d", "f")
    places = SlimSC(phrases="wait", min_tokens=3).score(paths, fresh())
    assert places.tolist() == [2, 0, 1]


# Slim-SC online


def online(*texts: str, **options: Any) -> tuple[list[int], list[float]]:
    given = {"phrases": "wait", "min_tokens": 2, "threshold": 0.9} | options
    decision = SlimSCOnline(**given).decide(pool(*texts), fresh())
    return decision.spent.tolist(), decision.weights.tolist()


def test_online_by_hand() -> None:
    """ "a b" of path 1 repeats that of path 0 when "wait" is its 4th token; "d d a b" of path 2 does not (0.816)."""
    texts = "a b wait c d e f g", "b a b wait e f g h", "d d a b wait h h h"
    assert online(*texts) == ([8, 4, 8], [1, 0, 1])
    assert online(*texts, threshold=0.8) == ([8, 4, 5], [1, 0, 0])
    assert online(*texts, threshold=1.0) == ([8, 8, 8], [1, 1, 1])
    assert online(*texts, delay=1) == ([8, 8, 8], [1, 1, 1])


def test_online_compares_with_live_chains_only() -> None:
    ended = "a b wait c", "a b c d wait e f", "b a h wait a h"
    assert online("a b wait", "a b c wait d b a wait e")[0] == [3, 9]
    assert online(*ended, threshold=0.8)[0] == [4, 7, 6]  # at 4, chain 0 has ended; at 5, {a b h} is at 0.577
    assert online("a b wait", "c a b wait")[0] == [3, 4]  # nothing is saved by aborting at the last token


def test_online_diversity_is_judged_by_thoughts_so_far() -> None:
    """At token 7 path 0 has one thought, path 1 two unlike ones: 0 goes. Over all thoughts they tie, and 1 would go."""
    assert online("a b c d e wait f g wait h h", "g h wait a b c wait a d", threshold=0.6)[0] == [7, 9]


def literal(paths: list[Path], threshold: float, delay: int, minimum: int) -> list[int]:
    """The rule token by token, splitting every prefix anew; diversity, ties to the thought completed first."""
    spent = [len(p.tokens) for p in paths]
    known: list[list[tuple[int, str]]] = [[] for _ in paths]

    def alike(i: int) -> tuple[float, int]:
        texts = [text for _, text in known[i]]
        pairs = [cosine(a, b) for n, a in enumerate(texts) for b in texts[:n]]
        return (round(float(np.mean(pairs)), 9) if pairs else 1.0), -len(texts)

    for now in range(1, max(spent) + 1):
        for i, p in enumerate(paths):
            complete = [t.text for t in thoughts(p.tokens[:now], decode, ["wait", "so"], minimum)[:-1]]
            if now >= spent[i] or len(complete) == len(known[i]):
                continue
            known[i].append((now, complete[-1]))
            live = [j for j in range(len(paths)) if j != i and spent[j] > now]
            rivals = [(-cosine(text, complete[-1]), time, j) for j in live for time, text in known[j]]
            if rivals and len(complete) > delay and -min(rivals)[0] > threshold:
                low, high = sorted((i, min(rivals)[2]))
                spent[low if alike(low) > alike(high) else high] = now
    return spent


@pytest.mark.parametrize("block", [2, 256])
def test_online_is_the_rule_applied_token_by_token(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slimsc_online, "BLOCK", block)
    draw = np.random.default_rng(0)
    aborted = 0
    for _ in range(60):
        paths = pool(*(decode(draw.integers(0, 6, draw.integers(1, 25)).tolist()) for _ in range(5)))
        threshold, delay, minimum = float(draw.choice([0.5, 0.75])), int(draw.integers(2)), int(draw.integers(1, 4))
        method = SlimSCOnline(threshold, delay, phrases="wait|so", min_tokens=minimum)
        decision = method.decide(paths, fresh())
        assert decision.spent.tolist() == literal(paths, threshold, delay, minimum)
        assert decision.weights.any()
        aborted += int((decision.weights == 0).sum())
    assert aborted > 40


@pytest.mark.parametrize("rule", ["random", "diversity"])
@settings(max_examples=100, deadline=None)
@given(as_pool, as_pool, st.integers(0, 24))
def test_online_is_causal(rule: str, one: list[Path], other: list[Path], cut: int) -> None:
    """Two futures of the same first ``cut`` tokens: what was aborted by then is the same."""
    heads = [decode(p.tokens[:cut]) for p in one if len(p.tokens) > cut]
    futures = [[f"{h} {p.text}".strip() for h, p in zip(heads, tail * 5, strict=False)] for tail in (one, other)]
    method = SlimSCOnline(0.5, phrases="wait|so", min_tokens=2, rule=rule)
    first, second = (method.decide(pool(*texts), fresh()).spent for texts in futures)
    assert np.where(first <= cut, first, -1).tolist() == np.where(second <= cut, second, -1).tolist()


METHODS = (
    Central(),
    Diverse(),
    *(SlimSC(rule, phrases="wait|so", min_tokens=2) for rule in ("random", "diversity")),
    *(SlimSCOnline(0.5, rule=rule, phrases="wait|so", min_tokens=2) for rule in ("random", "diversity")),
)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{type(m).__name__}-{getattr(m, 'rule', '')}")
@settings(max_examples=40, deadline=None)
@given(as_pool, st.randoms(use_true_random=False))
def test_order_of_the_paths_is_nothing(method: Any, paths: list[Path], random: Any) -> None:
    def run(given: Sequence[Path]) -> np.ndarray:
        return method.decide(given, fresh()).spent if hasattr(method, "decide") else method.score(given, fresh())

    order = random.sample(range(len(paths)), len(paths))
    assert run([paths[i] for i in order]).tolist() == run(paths)[order].tolist()


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (SlimSC, {"rule": "best"}),
        (SlimSC, {"phrases": "wait||so"}),
        (SlimSC, {"min_tokens": 0}),
        (SlimSCOnline, {"threshold": 1.5}),
        (SlimSCOnline, {"delay": -1}),
        (Central, {"encoder": 3}),
    ],
)
def test_bad_options_are_refused(make: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        make(**options)


def test_nothing_here_imports_torch() -> None:
    modules = "setwise", "slimsc", "slimsc_online", "jaccard", "encoder"
    code = "".join(f"import pruners.external_fixed.{m}; " for m in modules)
    code += "import sys; assert not {'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


# Encoder


TEXTS = ["a b c", "d", "", "a b c d e f g h a b c d", "Wait so"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    """A random BERT and a WordPiece tokenizer over ``WORDS``; inputs of 12 tokens at most."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=12).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def one_at_a_time(folder: FilePath, texts: Sequence[str], pooling: str = "mean", limit: int = 12) -> np.ndarray:
    """States of each text on its own, without padding, from ids written by hand."""
    import torch
    from transformers import BertModel

    model = BertModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        ids = [*[2, *(5 + WORDS.index(w) for w in text.lower().split())][: limit - 1], 3]
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0].double().numpy()
        row = states[0] if pooling == "cls" else states.mean(0)
        rows.append(row / np.linalg.norm(row))
    return np.stack(rows)


def test_encoder_is_the_mean_of_each_text_on_its_own(encoder_folder: FilePath) -> None:
    rows, costs = Space(str(encoder_folder)).embed(TEXTS)
    expected = one_at_a_time(encoder_folder, TEXTS)
    assert np.allclose(rows, expected, atol=1e-5)
    assert np.abs(expected @ expected.T - 1).max() > 0.1  # texts differ
    assert [c.reread for c in costs] == [5, 3, 2, 12, 4]  # [CLS] and [SEP] are read; 14 are cut to 12
    body = 12 * 16 + 2 * 16 + 2 * 16  # positions, types, norm
    body += 2 * (4 * (16 * 16 + 16) + 16 * 32 + 32 + 32 * 16 + 16 + 4 * 16) + 16 * 16 + 16  # layers, pooler
    assert costs[1].flops == 2 * body * 3 + 4 * 2 * 16 * 3**2
    assert (rows == Space(str(encoder_folder)).embed(TEXTS[::-1])[0][::-1]).all()


def test_encoder_follows_sentence_transformers_files(encoder_folder: FilePath, tmp_path: FilePath) -> None:
    for file in encoder_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    def modules(*kinds: str, **mode: bool | str) -> None:
        listed = [{"type": f"sentence_transformers.models.{k}", "path": "" if k == "Transformer" else k} for k in kinds]
        (tmp_path / "modules.json").write_text(json.dumps(listed))
        (tmp_path / "Pooling").mkdir(exist_ok=True)
        (tmp_path / "Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 16, **mode}))

    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 6}')
    modules("Transformer", "Pooling", pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    space = Space(str(tmp_path))
    rows, costs = space.embed(TEXTS)
    assert np.allclose(rows, one_at_a_time(tmp_path, TEXTS, "cls", 6), atol=1e-5)
    assert [c.reread for c in costs] == [5, 3, 2, 6, 4]
    assert space.identity()["pooling"] == "cls"
    assert space.identity()["fingerprint"] != Space(str(encoder_folder)).identity()["fingerprint"]

    modules("Transformer", "Pooling", "Normalize", pooling_mode_mean_tokens=True)
    assert np.allclose(Space(str(tmp_path)).embed(TEXTS)[0], one_at_a_time(tmp_path, TEXTS, "mean", 6), atol=1e-5)
    modules("Transformer", "Pooling", pooling_mode_max_tokens=True)
    with pytest.raises(PathpruneError, match="pools by max_tokens"):
        Space(str(tmp_path)).embed(TEXTS)
    modules("Transformer", "Pooling", "Dense", pooling_mode="mean")
    with pytest.raises(PathpruneError, match="Dense layer"):
        Space(str(tmp_path)).embed(TEXTS)


def test_positions_behind_the_padding_index_are_not_read(encoder_folder: FilePath, tmp_path: FilePath) -> None:
    """MPNet and RoBERTa number positions from padding index + 1: a table of 12 rows holds 10 tokens."""
    from transformers import AutoTokenizer, MPNetConfig, MPNetModel

    AutoTokenizer.from_pretrained(encoder_folder, model_max_length=10**6).save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    MPNetModel(MPNetConfig(vocab_size=20, max_position_embeddings=12, **sizes)).save_pretrained(tmp_path)
    rows, costs = Space(str(tmp_path)).embed(["a b", "a " * 50])
    assert [c.reread for c in costs] == [4, 10]
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1])


def test_encoder_that_cannot_be_loaded_is_one_line(encoder_folder: FilePath, tmp_path: FilePath) -> None:
    from safetensors.numpy import load_file, save_file

    with pytest.raises(PathpruneError, match="no model folder at"):
        Central(encoder="./nowhere").score(pool("a", "b"), fresh())
    for file in encoder_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "layer.1" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(PathpruneError, match=r"lack encoder\.layer\.1") as caught:
        Central(encoder=str(tmp_path)).score(pool("a", "b"), fresh())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(PathpruneError, match="cannot load the encoder") as caught:
        Central(encoder=str(tmp_path)).score(pool("a", "b"), fresh())
    assert "\n" not in str(caught.value)


def test_methods_read_with_the_encoder_and_pay_for_it(encoder_folder: FilePath) -> None:
    folder = str(encoder_folder)
    texts = "a b wait c d e f", "c d", "a b wait d"
    units = one_at_a_time(encoder_folder, texts)
    check = fresh()
    similarity = units @ units.T
    expected = [(similarity[i].sum() - 1) / 2 for i in range(3)]
    assert Central(encoder=folder).score(pool(*texts), check) == pytest.approx(expected, abs=1e-5)
    assert check.cost.reread == 9 + 4 + 6 and check.cost.flops > 0
    assert (Central(encoder=folder).cost_class, Central().cost_class) == ("re-read", "free")

    check = fresh()
    SlimSC(encoder=folder, phrases="wait", min_tokens=2).score(pool(*texts), check)
    assert check.cost.reread == (4 + 7) + 4 + 4  # every thought by itself, "a b" once
    assert check.cold == (4 + 7) + 4 + (4 + 4)

    check = fresh()
    online = SlimSCOnline(0.99, encoder=folder, phrases="wait", min_tokens=2)
    assert online.decide(pool(*texts), check).spent.tolist() == [7, 2, 3]  # "a b" again; [1] had ended
    assert check.cost.reread == 4 and check.cold == 4 + 4
    rest = pool("a b wait c d wait e f", "a b wait e f wait g", "h")
    check = fresh()
    assert online.decide(rest, check).spent.tolist() == [8, 3, 1]
    assert (
        check.cost.reread == 4 + 5 and check.cold == 4 + 4 + 5
    )  # what path 1 would have thought after token 3 is not read
