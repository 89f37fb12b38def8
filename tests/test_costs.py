"""What a method feeds is what it is charged: token positions that go through any model are counted, padding left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    LlamaForCausalLM,
    LlamaForTokenClassification,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2ForSequenceClassification,
)

from harness import loop, registry
from harness.api import Check, Cost, Heads, Path, Problem, Sampling
from harness.engines.heads import heads_of
from harness.engines.hf import kv
from harness.reader import Known
from harness.stopping import is_rule
from pruners.external_learned import shared
from tasks.toy import Toy
from tests.test_generative_verifiers import tiny
from tests.test_prms import Written, byte_tokenizer, mistral_tokenizer, qwen_config
from tests.test_similarity import encoder_folder  # noqa: F401  (a fixture)

N, PREFIX = 4, 12
# What each method that reads text reads with: a folder of ``readers``.
READS = {
    "verifier": "classes", "reward-model": "classes", "sequence-reward": "reward", "qwen-prm": "qwen", "skywork-prm": "skywork",
    "math-shepherd": "shepherd", "labor": "qwen", "thinkprm": "judge", "mav": "judge", "deepprune": "judge",
}  # fmt: skip
SHORT = {
    "thinkprm": ",max_tokens=5", "mav": ",max_tokens=5", "labor": ",kind=qwen", "consensus": ":max_tokens=5",
    "parallel-probe": ":max_tokens=5,step=4",
}  # fmt: skip
ENCODERS = ("central", "diverse", "slimsc", "slimsc-online")


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> dict[str, str]:
    """A folder of every kind of reader."""
    root = tmp_path_factory.mktemp("readers")
    torch.manual_seed(2)
    wide = {"score.0.weight": (32, 32), "score.0.bias": (32,), "score.2.weight": (2, 32), "score.2.bias": (2,)}
    Written(root / "qwen", {name: torch.randn(shape) * 0.4 for name, shape in wide.items()})
    value = {"v_head.summary.weight": torch.randn(1, 32) * 0.4, "v_head.summary.bias": torch.randn(1)}
    Written(root / "skywork", value)
    tokenizer = mistral_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MistralConfig(
        **sizes, num_key_value_heads=2, vocab_size=len(tokenizer), sliding_window=8, initializer_range=0.3
    )  # type: ignore[arg-type]
    MistralForCausalLM(config).save_pretrained(root / "shepherd")
    tokenizer.save_pretrained(root / "shepherd")
    Qwen2ForSequenceClassification(qwen_config(num_labels=1, pad_token_id=256)).save_pretrained(root / "reward")
    byte_tokenizer().save_pretrained(root / "reward")
    (root / "judge").mkdir()
    tiny(root / "judge", seed=1)
    LlamaForTokenClassification.from_pretrained(tiny_model, num_labels=1).save_pretrained(root / "classes")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(root / "classes")
    return {name: str(root / name) for name in set(READS.values())}


@pytest.fixture(scope="module")
def engine(tiny_model: str) -> Any:
    return registry.engine("hf", tiny_model, Sampling(), device="cpu")


class Fed:
    """Positions that went through a model: of its input, what its mask does not leave out."""

    def __init__(self) -> None:
        self.positions, self.depth = 0, 0

    def note(self, ids: Any, mask: Any) -> None:
        rows, width = ids.shape[:2]
        self.positions += rows * width if mask is None else int(mask[:, -width:].sum())


@contextmanager
def counting() -> Iterator[Fed]:
    """Counts at every model of transformers; one inside another (a decoder in its causal model) is not counted again."""
    fed, plain = Fed(), torch.nn.Module.__call__

    def counted(self: Any, *args: Any, **given: Any) -> Any:
        if not fed.depth:
            ids = given.get("input_ids", args[0] if args else None)
            fed.note(given["inputs_embeds"] if ids is None else ids, given.get("attention_mask"))
        fed.depth += 1
        try:
            return plain(self, *args, **given)
        finally:
            fed.depth -= 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreTrainedModel, "__call__", counted, raising=False)
        yield fed


def spec_of(name: str, readers: dict[str, str]) -> str:
    if name in ("verifier",):
        return name
    return f"{name}:model={readers[READS[name]]}{SHORT.get(name, '')}" if name in READS else name + SHORT.get(name, "")


def ready(name: str, engine: Any, readers: dict[str, str], width: int = 32, layers: int = 3) -> Any:
    """A method with made-up weights, by default for the tiny model."""
    pruner: Any = registry.pruner(spec_of(name, readers)).pruner
    rng = np.random.default_rng(0)
    if name in ("stop", "otv"):
        pruner.adapter = engine.new_adapter(None, tokens=pruner.shape["tokens"], rank=2)
        pruner.head = {"weight": rng.normal(size=(1, 32)), "bias": np.zeros(1)}
    if name in ("linear-probe", "mlp-probe", "step"):
        hidden = pruner.head.hidden
        weights: dict[str, Any] = {"mean": np.zeros(width), "std": np.ones(width), "last.bias": np.zeros(1)}
        weights["last.weight"] = rng.normal(size=(1, hidden or width))
        weights |= {"first.weight": rng.normal(size=(hidden, width)), "first.bias": np.zeros(hidden)} if hidden else {}
        pruner.head.weights = weights
    if name == "clue":
        pruner.centroids = {k: rng.normal(size=(layers, width)).astype(np.float32) for k in ("success", "failure")}
    if name == "verifier":
        pruner.where = readers["classes"]
    return pruner


def pool(engine: Any, prefix: int = PREFIX) -> list[Path]:
    paths: list[Path] = engine.launch([Problem("p", "A question of the day, " * 4, "7")], N, prefix, 0)[0]
    return paths


class Talkative(Toy):
    """A task that reads an answer in whatever a model of random weights says."""

    def answer(self, text: str) -> str | None:
        return text


# But for those that read what was recorded, which feed nothing, and rules that ask a scorer (``test_watch.py``).
FEEDING = [
    n
    for n in registry.names("pruners")
    if "rewards" not in (plugin := registry.pruner(n)).traits.needs and plugin.scorer is None
]


def spent_by(pruner: Any, paths: Sequence[Path], engine: Any) -> tuple[int, loop.Spent]:
    """(positions fed, what was charged) by a Check of paths that were launched just now.

    A text's last token is charged as drawn, and fed by nobody where the text does not go on: it counts as fed here.
    """
    task, known = Talkative(), {}  # type: ignore[var-annotated]
    loop.prepare(pruner, engine, task)
    with counting() as fed:
        if hasattr(pruner, "decide") or is_rule(pruner):
            spent = loop.decide(pruner, paths, engine, task, 0)[1]
        else:
            spent = loop.check(pruner, paths, engine, task, 0, None, known)[1]
    texts = [texts for read in known.values() if isinstance(read, Known) for texts in read.texts.values()]
    ends = (
        sum(not any(more[: len(drawn)] == drawn for more in rest) for drawn, *rest in texts)
        if spent.cost.verifier
        else 0
    )
    return fed.positions + ends, spent


@pytest.mark.parametrize("name", [n for n in FEEDING if n != "mars"])  # which probes whom has answered
def test_what_a_method_feeds_is_what_it_is_charged(name: str, engine: Any, readers: dict[str, str]) -> None:
    engine.store.clear()
    paths = pool(engine)
    pruner = ready(name, engine, readers)
    fed, spent = spent_by(pruner, paths, engine)
    if (
        name == "parallel-probe"
    ):  # it cuts each path once, at 8: live, a cut's last token has to be fed; here what follows it was
        fed += N
    assert fed == spent.cost.tokens
    assert (fed > 0) == (spent.cost.flops > 0) == (getattr(pruner, "cost_class", "free") != "free")
    assert (spent.cold is not None) == (name in READS)


@pytest.mark.parametrize("name", [n for n in FEEDING if n not in ("stop", "otv")])  # it has no weights
def test_what_a_method_feeds_on_the_toy_engine(name: str, readers: dict[str, str]) -> None:
    """Which computes no positions: those of readers are all there are, and the rest is charged by what it asks for."""
    toy = registry.engine("toy", "toy", Sampling())
    paths = toy.launch(Toy().problems("dev", 1), N, PREFIX, 0)[0]
    fed, spent = spent_by(ready(name, toy, readers, width=8, layers=2), paths, toy)
    assert fed == spent.cost.reread + spent.cost.verifier
    whole = dict.fromkeys(("step", "clue"), sum(len(p.tokens) for p in paths))
    whole["st-bon"] = sum(1 + len(p.tokens) for p in paths)  # from the prompt's last token on
    if name not in ("consensus", "parallel-probe", "st-bon-online"):  # how far that reads depends on the tokens
        assert spent.cost.probed == (whole | {"linear-probe": N, "mlp-probe": N}).get(name, 0)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_fed_every_text_once(name: str, encoder_folder: FilePath) -> None:  # noqa: F811
    """It looks ahead, so nothing is shared between two texts; equal ones are read once, and a dead chain's are not read."""
    options = ",phrases=wait,min_tokens=2" if name.startswith("slimsc") else ""
    pruner = registry.pruner(f"{name}:encoder={encoder_folder}{options}").pruner
    texts = ["a b wait c d wait e f", "a b wait e f wait g", "c d wait a b", "a b"]
    paths = [Path(Problem("p", "", ""), i, 0, tuple(range(len(t.split()))), t) for i, t in enumerate(texts)]
    words = {p.tokens: p.text.split() for p in paths}

    class Spoken:
        spec, fingerprint = {"engine": "x"}, "x"

        def decode(self, tokens: Sequence[int]) -> str:
            longest = max(words, key=len)
            return " ".join(words[longest][t] for t in tokens)

    fed, spent = spent_by(pruner, paths, Spoken())
    assert fed == spent.cost.reread > 0
    assert spent.cold is not None and spent.cold >= spent.cost.reread


@pytest.mark.parametrize("name", [n for n in READS if n not in ("mav", "deepprune")])
def test_a_problems_prompt_is_read_once_and_changes_no_score(
    name: str, engine: Any, readers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a reader that shares nothing: equal scores, and the tokens that cold reads cost."""
    paths, task = pool(engine), Toy()
    pruner = ready(name, engine, readers)
    scores, spent = loop.check(pruner, paths, engine, task, 0)
    monkeypatch.setattr(shared, "shares", lambda where, body: False)
    monkeypatch.setattr("harness.engines.hf.engine.heads_of", lambda ids, known: Heads(of=((),) * len(ids)))
    cold = ready(name, engine, readers)
    expected, alone = loop.check(cold, paths, engine, task, 0)
    assert np.allclose(scores, expected, atol=1e-5)
    assert spent.cold == alone.cold
    if name != "thinkprm":  # which reads its own verdict over its own text
        assert spent.cold == alone.cost.tokens
    assert spent.cost.tokens < alone.cost.tokens
    if registry.pruner(spec_of(name, readers)).traits.pointwise:
        assert sum(c.tokens for c in spent.each.values()) + spent.once.tokens == spent.cost.tokens


def test_a_border_that_a_tokenizer_merges_is_split_by_ids(readers: dict[str, str]) -> None:
    """A row begins otherwise than its head where a text merges with it; it is read over what both begin with."""
    model: Any = LlamaForTokenClassification.from_pretrained(readers["classes"]).eval()
    from pruners.external_learned.text_model import flops_of

    reading = shared.SharedReading("classes", model, flops_of(model), torch.device("cpu"))
    assert reading.shares
    head = [5, 6, 7, 8]
    rows = [[5, 6, 7, 8, 9], [5, 6, 7, 44, 9, 3], [5], [99, 6, 7], [5, 6, 7, 8]]
    paths = [Path(Problem("p", "q", ""), i, 0) for i in range(len(rows))]
    check = Check(np.random.default_rng(0))

    def states(inputs: Any, members: list[int], out: list[int]) -> list[np.ndarray]:
        last = model.base_model(**inputs).last_hidden_state
        return [last[n, len(rows[i]) - 1 - o].numpy() for n, (i, o) in enumerate(zip(members, out, strict=True))]

    read = reading.read([shared.Row(ids, len(ids) - 1) for ids in rows], {"q": head}, paths, 3, check, states)
    with torch.no_grad():
        plain = [model.base_model(torch.tensor([ids])).last_hidden_state[0, -1].numpy() for ids in rows]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(read, plain, strict=True))
    assert check.cost.reread == 4 + 1 + 3 + 1 + 3 + 1 and check.once.reread == 4
    assert [check.each[i].reread for i in range(5)] == [1, 3, 1, 3, 1] and check.cold == sum(map(len, rows))


def test_an_encoder_that_looks_ahead_shares_nothing(encoder_folder: FilePath) -> None:  # noqa: F811
    from transformers import BertModel

    assert not shared.shares("bert", BertModel.from_pretrained(encoder_folder).eval())


def test_later_checks_of_a_problem_do_not_pay_for_its_prompt_again(engine: Any, readers: dict[str, str]) -> None:
    """As in a live run of two stages; a check of another problem pays for its own."""
    known: dict[Any, Any] = {}
    pruner = ready("reward-model", engine, readers)
    paths, task = pool(engine), Toy()
    loop.prepare(pruner, engine, task)
    first = loop.check(pruner, paths, engine, task, 0, None, known)[1]
    longer = engine.resume(paths[:2], 2 * PREFIX)
    with counting() as fed:
        second = loop.check(pruner, longer, engine, task, 0, None, known)[1]
    assert first.once.reread > 0 and second.once == Cost() and fed.positions == second.cost.tokens
    alone = loop.check(pruner, longer, engine, task, 0)[1]
    assert alone.cost.reread == second.cost.reread + first.once.reread


def test_forced_answers_feed_what_follows_the_stored_prefix(engine: Any) -> None:
    """The answers are those of an engine that has nothing stored."""
    from harness.ledger import MeteredProbe

    paths = pool(engine)
    check = Check(np.random.default_rng(0))
    with counting() as fed:
        texts = MeteredProbe(engine, check).force(paths, " so it is ", 6)
    assert fed.positions == check.cost.probed <= N * (len(" so it is ") + 6)
    engine.store.clear()
    assert MeteredProbe(engine, Check(np.random.default_rng(0))).force(paths, " so it is ", 6) == texts


def test_forced_answers_of_a_served_model_are_charged_what_the_server_computes() -> None:
    """By its own count of cached prompt tokens; of what it draws it feeds all but the last."""
    from harness.ledger import MeteredProbe
    from tests.test_served_engine import TableEngine

    served = TableEngine()
    problems = registry.task("hands").problems("dev", 1)
    paths = [p for p in served.launch(problems, N, PREFIX, 0)[0] if p.finish == "length"]
    before, check = served.counters.computed, Check(np.random.default_rng(0))
    drawn = 0

    def noted(asked: Any, plain: Any = served.ask) -> Any:
        nonlocal drawn
        replies = plain(asked)
        drawn += sum(len(r.tokens) - 1 for r in replies)
        return replies

    served.ask = noted  # type: ignore[method-assign]
    MeteredProbe(served, check).force(paths, "The answer is", 6)
    assert paths and check.cost.probed == served.counters.computed - before + drawn


@pytest.mark.parametrize("seed", range(5))
def test_heads_cover_what_sequences_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trunk = tuple(rng.integers(50, size=40).tolist())
    sequences = [
        trunk[: rng.integers(20, 40)] + tuple(rng.integers(50, size=rng.integers(1, 30)).tolist()) for _ in range(12)
    ]
    plan = heads_of(sequences)
    assert plan.new and all(0 <= covered < len(ids) for ids, covered in plan.new)
    assert all(ids[: len(head)] == head and len(head) < len(ids) for ids, head in zip(sequences, plan.of, strict=True))
    total = sum(len(i) - c for i, c in plan.new) + sum(len(s) - len(h) for s, h in zip(sequences, plan.of, strict=True))
    assert total < sum(map(len, sequences)) - 15
    assert not heads_of(sequences, [head for head, _ in plan.new]).new


def test_the_store_finds_what_shares_most() -> None:
    """Also after rows of it were evicted."""
    rng, store = np.random.default_rng(0), kv.PrefixStore(4 * 64)
    stored: list[tuple[int, ...]] = []
    for _ in range(40):
        tokens = tuple(rng.integers(3, size=rng.integers(1, 8)).tolist())
        store.put([("p", tokens)], kv.Block(((torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)),)))
        stored.append(tokens)
        wanted = tuple(rng.integers(3, size=6).tolist())
        alive = {t for t in stored if store.get(("p", t))}
        common: Callable[[Any], int] = lambda t, w=wanted: kv.shared(t, w)  # noqa: E731
        nearest = store.nearest(("p", wanted))
        assert nearest in alive and common(nearest) == max(map(common, alive))


def test_dropping_a_prompt_frees_its_blocks_and_no_others() -> None:
    """Blocks hold rows of several prompts; one goes when no prompt needs a row of it, and later blocks may name a key again."""
    rng, store = np.random.default_rng(1), kv.PrefixStore(1 << 20)
    blocks: list[tuple[set[str], int]] = []
    for number in range(30):
        keys: list[kv.Key] = [
            (str(p), (int(p), number % 7)) for p in rng.choice(5, size=rng.integers(1, 4), replace=False)
        ]
        block = kv.Block(((torch.full((len(keys), 1, 2, 4), float(number)), torch.zeros(len(keys), 1, 2, 4)),))
        store.put(keys, block)
        blocks.append(({str(prompt) for prompt, _ in keys}, block.bytes))
    left = {str(p) for p in range(5)}
    while left:
        prompt = min(left)
        held = {
            (other, (int(other), i)): store.get((other, (int(other), i))) for other in left - {prompt} for i in range(7)
        }
        store.drop(prompt)
        left -= {prompt}
        assert store.last(prompt) == () and store.nearest((prompt, (1,))) is None
        assert {key: store.get(key) for key in held} == held
        assert store.bytes <= sum(size for prompts, size in blocks if prompts & left)
        assert store.bytes == sum(block.bytes for block, _ in store._blocks.values())
    assert store.bytes == 0 and not store._blocks and not store._locations and not store._sorted
    store.drop("nobody")


def test_what_a_method_scores_with_is_loaded_before_the_clock_starts(
    engine: Any, readers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stopwatch runs no loading of adapters and readers."""
    from harness.spec import RunSpec

    task, running, loaded = Toy(), [False], []
    time_of = loop.Stopwatch.time

    def timed(self: Any, stage: str, work: Any) -> Any:
        running[0] = True
        try:
            return time_of(self, stage, work)
        finally:
            running[0] = False

    def watched(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def load(*args: Any, **given: Any) -> Any:
            loaded.append(running[0])
            return plain(*args, **given)

        monkeypatch.setattr(owner, name, load)

    monkeypatch.setattr(loop.Stopwatch, "time", timed)
    watched(LlamaForTokenClassification, "from_pretrained")
    watched(Qwen2ForSequenceClassification, "from_pretrained")
    watched(LlamaForCausalLM, "from_pretrained")
    watched(type(engine._loaded()), "new_adapter")
    problem = Problem("p", "A question", "7")
    for name in ("verifier", "sequence-reward", "deepprune", "stop"):
        from harness import reader

        reader._engine.cache_clear()
        pruner = ready(name, engine, readers)
        if name == "stop":
            pruner.adapter = None
        before = len(loaded)
        spec = RunSpec.of(task, engine, 2, 8, [(5, 1)])
        loop.prune(problem, task, engine, pruner, spec)
        assert loaded[before:] and not any(loaded)


def test_readers_are_where_the_engine_is(tiny_model: str, readers: dict[str, str]) -> None:
    """A device that a run asks for is known without loading the engine, and is where a reader opens its weights."""
    ledgers = [Check(np.random.default_rng(0)) for _ in range(2)]
    for ledger, device in zip(ledgers, ("cuda:5", "cpu"), strict=True):
        lazy = registry.engine("hf", tiny_model, Sampling(), device=device)
        loop.grant(ledger, registry.pruner("verifier").pruner, lazy, Toy())
        assert ledger.device == device and lazy._engine is None
    for name in ("verifier", "reward-model"):
        pruner = ready(name, None, readers)
        assert pruner.opened(ledgers[1]).device == torch.device("cpu")
        pruner.text_model = None
        with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="moved to cuda:5"):
            patch.setattr(torch.nn.Module, "to", moved)
            pruner.opened(ledgers[0])


def moved(module: Any, device: Any) -> Any:
    raise RuntimeError(f"moved to {device}")


class Reads:
    """A method that reads text: a prompt of 7 tokens once, 2 for each path."""

    quadrant, needs, pointwise, cost_class = "external-learned", frozenset({"text"}), True, "re-read"

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        if "prompt" not in check.known:
            check.known["prompt"] = True
            check.charge(Cost(reread=7), cold=0, once=True)
        for path in prefixes:
            check.charge(Cost(reread=2), path, cold=9)
        return np.array([float(len(p.text)) for p in prefixes])


@pytest.mark.parametrize("packed", [False, True])
def test_cold_tokens_are_a_column_that_old_rows_leave_empty(packed: bool, toy_run: Callable[..., Any]) -> None:
    """In every form; what the rows lack is an empty cell, never zero."""
    from harness.report import groups, latex, page, sheet, tables
    from harness.report.rows import rows
    from harness.runners.bench import bench
    from harness.store import records

    run = toy_run(n=8, prefix=5, keep=3)
    bench(run, [registry.of_object(Reads()), registry.pruner("shortest")], lambda done, note: None)
    if packed:
        records.pack(run.folder)
    (group,) = groups(run.results)
    by_name = {r.name: r for r in rows(group, 3)}
    line = by_name["Reads"]
    assert line.cold_tokens is not None and by_name["shortest"].cold_tokens is None
    assert line.cold_tokens.mean - line.tokens.mean == 8 * 9 - (7 + 8 * 2)
    frame = sheet.sheet([(group, list(by_name.values()))], 3).set_index("name")
    assert frame.loc["Reads", "cold_tokens_mean"] == pytest.approx(line.cold_tokens.mean)
    assert np.isnan(frame.loc["shortest", "cold_tokens_mean"])
    at = tables.columns(8, 3).index("cold tokens")
    assert tables.cells(line)[at] and tables.cells(by_name["shortest"])[at] == ""
    assert len(tables.cells(line)) == len(tables.columns(8, 3)) == len(page.COLUMNS)
    assert f"{line.cold_tokens.mean:,.0f} &" in latex.table(group, [line], 3)


def test_live_and_replayed_schedules_pay_for_a_prompt_once(toy_run: Callable[..., Any]) -> None:
    from harness.replay.stages import from_rows, replay_stages
    from harness.report import groups, judged_records
    from harness.runners.bench import bench

    run = toy_run(n=8, stages=[(3, 4), (5, 2)])
    bench(run, [registry.of_object(Reads())], lambda done, note: None)
    group = next(groups(run.results))
    cuts = [from_rows([r.lines[p] for p in group.pool.problems], 8) for r in judged_records(run.folder)]
    result, _ = replay_stages(group.pool, cuts, run.spec.stages)
    for problem, tokens, cold, generated in zip(
        run.chosen(),
        result.tokens,
        result.cold,
        result.generated,
        strict=True,  # type: ignore[arg-type]
    ):
        live = loop.prune(problem, run.task, run.engine, Reads(), run.spec)
        assert live.cost.tokens == tokens and live.cost.reread == 7 + 2 * (8 + 4) == tokens - generated
        assert cold - generated == 9 * (8 + 4)


def test_a_smaller_launch_pays_a_prompt_in_full(toy_run: Callable[..., Any]) -> None:
    from harness.replay.sweep import sweep
    from harness.report import groups
    from harness.runners.bench import bench

    run = toy_run(n=8, prefix=5, keep=3)
    bench(run, [registry.of_object(Reads())], lambda done, note: None)
    (group,) = groups(run.results)
    (method,) = group.judged
    swept = [
        sweep(method.pool, method.values, 5, [(4, 2)], checks, 0, shared=method.shared if checks else None).tokens[0]
        for checks in (method.checks, None)
    ]
    assert (swept[0] - swept[1]).tolist() == pytest.approx([7 + 2 * 4] * 6)
    (half,) = groups(run.results, n=4)
    assert [c.reread for c in half.judged[0].checks] == [7 + 2 * 4] * 6
    assert half.judged[0].cold is not None and half.judged[0].cold.tolist() == [4 * 9] * 6
