"""Learned pruners: the base never changes, a planted signal is found, what is saved is what is loaded."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file

from harness import registry
from harness.api import Check, LabelledPrefix, PathpruneError, Problem
from harness.api import Path as ApiPath
from harness.engines.prefix_reader import sharing
from harness.learn import checkpoints
from harness.learn import fitting as learning
from harness.learn.labels import LabelRecipe, Labels, held_out
from harness.learn.training import train_pruner
from harness.pools.bank import Bank
from harness.replay.stats import auroc, soft_auroc
from harness.rng import derive
from harness.spec import bank_spec
from harness.studies.official import adopt
from tasks.embedded.hands import Hands

SMALL = {
    "stop": "stop:epochs=4,rank=4,lr=0.01,batch=32",
    "linear-probe": "linear-probe:epochs=40,lr=0.01",
    "verifier": "verifier:epochs=4,batch=16,lr=0.004",
    "reward-model": "reward-model:epochs=3,batch=16,lr=0.004",
}


def weights_hash(model: Any) -> str:
    digest = hashlib.sha256()
    for name, value in model.named_parameters():
        digest.update(name.encode() + value.detach().float().numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def planted(hands: Hands, hands_engine: Any) -> list[LabelledPrefix]:
    """Prefixes whose "success" is whether the last token is a digit below 7: plain to any reader."""
    groups = hands_engine.launch(hands.problems("dev", 24), 16, 11, seed=3)
    paths = [p for g in groups for p in g if p.finish == "length"]
    labels = [float(3 <= p.tokens[-1] < 10) for p in paths]
    return [LabelledPrefix(p, s, 1, validation=i % 5 == 0) for i, (p, s) in enumerate(zip(paths, labels, strict=True))]


@pytest.mark.parametrize("name", SMALL)
def test_training_finds_a_planted_signal_and_survives_saving(
    name: str, planted: list[LabelledPrefix], hands_engine: Any, tiny_model: str, tmp_path: Path
) -> None:
    """Those that read the text with all weights of a model of their own train a tiny one."""
    if name == "reward-model":  # learns at every position, so its signal has to be there from the first token on
        said = [("yes " if i % 3 == 0 else "no ") * 4 for i in range(len(planted))]
        planted = [
            replace(e, success=float(text[0] == "y"), prefix=replace(e.prefix, text=text))
            for e, text in zip(planted, said, strict=True)
        ]
    if name != "linear-probe":
        planted = planted[:192]
    pruner: Any = registry.pruner(SMALL[name]).pruner
    engine = hands_engine
    if name in ("verifier", "reward-model"):
        engine = registry.engine("hf", tiny_model, Hands().defaults.sampling, device="cpu")
    before = weights_hash(engine.model)
    metrics = pruner.fit(planted, Check(np.random.default_rng(0), engine), lambda line: None)
    assert min(h["validation"] for h in metrics["history"]) < 0.8 * metrics["prior"]
    prefixes = [e.prefix for e in planted if e.validation][:20]
    check = Check(np.random.default_rng(0), hands_engine)
    scores = np.asarray(pruner.score(prefixes, check))
    pruner.save(tmp_path)
    again: Any = registry.pruner(name).pruner
    again.load(tmp_path)
    # Text models are stored in bfloat16.
    assert np.asarray(again.score(prefixes, check)) == pytest.approx(scores, abs=0.05 if "stop" not in name else 1e-6)
    assert weights_hash(engine.model) == before


def test_greedy_continuation_is_the_same_after_a_check(
    hands: Hands, planted: list[LabelledPrefix], hands_engine: Any
) -> None:
    prefixes = [e.prefix for e in planted[:6]]
    before = [p.tokens for p in hands_engine.resume(prefixes, 60)]
    adapter = hands_engine.new_adapter(tokens=4, rank=16)
    read = hands_engine.reader(prefixes, adapter)
    read(torch.arange(6)).sum().backward()
    assert adapter.embeddings.grad is not None and adapter.embeddings.grad.abs().sum() > 0
    assert all(p.grad is None for p in hands_engine.model.parameters())
    hands_engine.probe(prefixes, adapter)
    assert [p.tokens for p in hands_engine.resume(prefixes, 60)] == before


def test_training_reads_what_probing_reads(planted: list[LabelledPrefix], hands_engine: Any) -> None:
    """The prefix KV of training, shared by prefixes of one path, against the engine's own probe."""
    whole = [e.prefix for e in planted[:10]]
    prefixes = [replace(p, tokens=p.tokens[:length], text="") for p in whole for length in (11, 4, 8)]
    adapter = hands_engine.new_adapter(tokens=4, rank=4)
    probed = hands_engine.probe(prefixes, adapter)
    read = hands_engine.reader(prefixes, adapter)
    assert len(read.longest) == len({(p.problem.id, p.tokens) for p in whole})
    with torch.no_grad():
        assert np.abs(read(torch.arange(30)).numpy() - probed).max() < 1e-4
        read.held = None  # as where it does not fit
        assert np.abs(read(torch.arange(30)).numpy() - probed).max() < 1e-4


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 1), max_size=5)), min_size=1, max_size=20))
def test_every_prefix_finds_a_path_that_goes_on_from_it(contents: list[tuple[str, list[int]]]) -> None:
    paths = [ApiPath(Problem(prompt, prompt, ""), i, 0, tuple(tokens)) for i, (prompt, tokens) in enumerate(contents)]
    longest, rows = sharing(paths)

    def goes_on(path: ApiPath, other: ApiPath) -> bool:
        return other.problem.prompt == path.problem.prompt and other.tokens[: len(path.tokens)] == path.tokens

    assert all(goes_on(path, longest[row]) for path, row in zip(paths, rows.tolist(), strict=True))
    assert not any(goes_on(one, other) for one in longest for other in longest if one is not other)


@pytest.fixture
def open_labels(tmp_path: Path, hands: Hands) -> Any:
    task, engine = registry.task("toy"), registry.engine("toy", "toy", registry.task("toy").defaults.sampling)

    def make(group: int = 4, **given: Any) -> Labels:
        shape = {"problems": 10, "n": 12, "continuations": 5, "prefixes": (4, 7), "max_tokens": 48} | given
        return Labels(tmp_path, task, engine, LabelRecipe(**shape), group)

    return make


def test_labels_are_success_rates_split_by_problem(open_labels: Any) -> None:
    labels = open_labels()
    assert labels.make(lambda done, tokens: None) > 0
    examples = labels.examples("monte-carlo")
    assert {len(e.prefix.tokens) for e in examples} == {4, 7}
    assert all(0 <= e.success <= 1 and e.success * 5 == pytest.approx(round(e.success * 5)) for e in examples)
    sides: dict[str, set[bool]] = {}
    for e in examples:
        sides.setdefault(e.prefix.problem.id, set()).add(e.validation)
    assert all(len(s) == 1 for s in sides.values())
    assert all(e.success in (0.0, 1.0) for e in labels.examples("outcome"))


@pytest.mark.parametrize("damage", [b"", b"PAR1nonsense", None])
def test_a_damaged_part_does_not_count_as_done(damage: bytes | None, open_labels: Any) -> None:
    """None: a file of other columns. Moved away, as the error says, it is made again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = open_labels()
    labels.make(lambda done, tokens: None)
    digest, (_, _, part) = labels.digest("monte-carlo"), labels.parts()[1]
    if damage is None:
        pq.write_table(pa.table({"problem": ["p"]}), part)
    else:
        part.write_bytes(damage)
    with pytest.raises(PathpruneError, match=f"{part.name} is damaged.*move it away and run the same command"):
        open_labels().make(lambda done, tokens: None)
    part.rename(part.with_suffix(".away"))
    assert open_labels().make(lambda done, tokens: None) > 0 and open_labels().digest("monte-carlo") == digest


@pytest.mark.parametrize(
    ("index", "given", "seen"),
    [
        (1, None, "1"),
        (1, "4,5,6", "5"),
        (3, "4,5,6", "4"),
        (1, " GPU-ab , GPU-cd ", "GPU-cd"),
        (2, "", ""),
        (2, "-1", "-1"),
        (1, "3", "3"),
    ],
)
def test_a_helper_takes_one_of_the_gpus_that_were_given(index: int, given: str | None, seen: str) -> None:
    from harness.cli.learn import device_of

    assert device_of(index, given) == seen


def test_labels_predict_success(open_labels: Any) -> None:
    """The label is an unbiased success rate: many fresh continuations agree with it on average."""
    from harness.learn.labels import continue_often

    labels = open_labels()
    labels.make(lambda done, tokens: None)
    examples = labels.examples("monte-carlo")
    prefixes = [e.prefix for e in examples]
    fresh = continue_often(labels.task, labels.engine, prefixes, 16, 48)[0] / 16
    labelled = np.array([e.success for e in examples])
    assert np.corrcoef(labelled, fresh)[0, 1] > 0.5
    assert labelled.mean() == pytest.approx(fresh.mean(), abs=0.05)


def test_a_killed_label_run_continues_to_the_same_files(open_labels: Any) -> None:
    whole = open_labels()
    whole.make(lambda done, tokens: None)
    expected = {file.name: pq.read_table(file) for _, _, file in whole.parts()}
    for _, _, lost in whole.parts()[1:]:
        lost.unlink()
    labels = open_labels()
    labels.make(lambda done, tokens: None)
    assert {file.name: pq.read_table(file) for _, _, file in labels.parts()} == expected
    assert labels.make(lambda done, tokens: None) == 0


def test_missing_labels_are_one_line_that_says_what_they_take(open_labels: Any) -> None:
    """Nothing is sampled unasked: how many problems, in which folder, at what cost, and the ways to get them."""
    labels = open_labels(group=4)
    with pytest.raises(PathpruneError) as error:
        labels.require()
    line = str(error.value)
    assert f"labels of 10 of 10 problems are missing in {labels.folder}" in line and "\n" not in line
    assert "120 paths and up to 960 continuations" in line  # 10 x 12; as many prefixes at 2 lengths x (5 - 1)
    assert all(way in line for way in ("LABELS=DIR", "LABELS=hf://OWNER/NAME", "MAKE_LABELS=1", "make label"))
    labels.make(lambda done, tokens: None)
    labels.require()
    labels.parts()[-1][2].unlink()
    with pytest.raises(PathpruneError) as error:
        labels.require()
    about = float(f"{2 * labels.cost().tokens / 8:.2g}")  # of 8 problems that are there, for 2 more
    assert f"labels of 2 of 10 problems are missing in {labels.folder}; making them takes about {about:,.0f}" in str(
        error.value
    )


def test_labels_of_no_use_are_one_line(open_labels: Any, hands_engine: Any, tmp_path: Path) -> None:
    """Where every problem is too easy or too hard there is nothing to learn from."""
    labels = open_labels(bounds=(1.0, 1.0))
    labels.make(lambda done, tokens: None)
    assert not labels.examples("single")
    with pytest.raises(
        PathpruneError, match=r"has no \S+ label of a problem with 100\.0% to 100\.0% right paths; label more problems"
    ):
        train_pruner(registry.pruner("linear-probe"), hands_engine, labels, tmp_path, print, lambda *_: None)


def test_a_label_folder_of_any_name_is_read_and_another_recipes_is_refused(open_labels: Any, tmp_path: Path) -> None:
    labels = open_labels()
    labels.make(lambda done, tokens: None)
    downloaded = tmp_path / "downloaded"
    shutil.copytree(labels.folder, downloaded)
    task, engine = labels.task, labels.engine
    copied = Labels(downloaded, task, engine, labels.recipe)
    copied.require()
    assert copied.folder == downloaded and copied.digest("monte-carlo") == labels.digest("monte-carlo")
    assert Labels(downloaded, task, engine, replace(labels.recipe, problems=5)).digest("outcome")
    with pytest.raises(
        PathpruneError, match=r"made with n 12, continuations 5, and n 16, continuations 8 is asked for"
    ):
        Labels(downloaded, task, engine, replace(labels.recipe, continuations=8, n=16))
    with pytest.raises(PathpruneError, match="another task, model or sampling"):
        Labels(downloaded, task, registry.engine("toy", "toy", task.defaults.sampling, skill=0.1), labels.recipe)


@settings(deadline=None)  # it makes files, which a busy machine delays
@given(st.lists(st.tuples(st.integers(1, 24), st.integers(1, 9)), min_size=1, max_size=6))
def test_parts_of_any_sizes_cover_every_problem_once(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int]]
) -> None:
    """However often another number of problems or another group was asked for."""
    folder = tmp_path_factory.mktemp("labels")
    task, engine = registry.task("toy"), registry.engine("toy", "toy", registry.task("toy").defaults.sampling)
    for problems, group in runs:
        labels = Labels(folder, task, engine, LabelRecipe(problems=problems, n=1, prefixes=(2,), max_tokens=4), group)
        for start, stop in labels.missing():
            file = labels.folder / f"problems-{start:06d}-{stop - 1:06d}.parquet"
            file.parent.mkdir(exist_ok=True)
            file.touch()
            assert stop - start <= group
        covered = [i for start, stop, _ in labels.parts() for i in range(start, stop)]
        assert len(covered) == len(set(covered)) and set(range(problems)) <= set(covered)
        assert not list(labels.missing())


@pytest.mark.parametrize("groups", [(2, 2), (2, 3), (1, 10, 4)])
def test_labels_made_side_by_side_are_those_of_one(groups: tuple[int, ...], open_labels: Any) -> None:
    """Makers that take turns, whatever their groups, and one whose neighbour died with a claim in hand."""
    one = open_labels(group=2)
    one.make(lambda done, tokens: None)
    expected = sorted_rows(one)
    for _, _, file in one.parts():
        file.unlink()
    makers = [open_labels(group=group) for group in groups]
    (one.folder / ".claim-0123456789ab").touch()  # what a killed process leaves: nobody holds it
    with ThreadPoolExecutor(len(groups)) as pool:
        spent = list(pool.map(lambda labels: labels.make(lambda done, tokens: None), makers))
    assert sorted_rows(one) == expected
    assert sum(spent) == one.tokens("monte-carlo")  # nothing was done twice
    assert not list(one.folder.glob(".*"))


def sorted_rows(labels: Any) -> list[Any]:
    """Rows of all parts, whichever part they lie in."""
    rows = [row for _, _, file in labels.parts() for row in pq.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: (row["problem"], row["kind"], row["index"], row["tokens"]))


def test_fewer_problems_cost_their_share_of_a_part(open_labels: Any) -> None:
    whole = open_labels(group=10)
    whole.make(lambda done, tokens: None)
    few = open_labels(group=10, problems=5)
    assert few.folder == whole.folder and not list(few.missing())
    assert few.cost().problems == 5 and few.tokens("outcome") == pytest.approx(whole.tokens("outcome") / 2, abs=1)
    assert whole.cost().problems == 10


def test_labels_do_not_depend_on_the_group(open_labels: Any, tmp_path: Path) -> None:
    def rows(labels: Labels) -> list[tuple[Any, ...]]:
        return [(e.prefix.problem.id, e.prefix.tokens, e.success) for e in labels.examples("monte-carlo")]

    one = open_labels()
    one.make(lambda done, tokens: None)
    for _, _, file in one.parts():
        pq.read_table(file)
    expected = rows(one)
    for _, _, file in one.parts():
        file.unlink()
    other = open_labels(group=1)
    other.make(lambda done, tokens: None)
    assert len(other.parts()) == 10
    assert rows(other) == expected


def test_single_labels_are_the_paths_own_outcomes(open_labels: Any) -> None:
    labels = open_labels()
    labels.make(lambda done, tokens: None)
    outcome = {(e.prefix.problem.id, e.prefix.index): e.success for e in labels.examples("outcome")}
    single = labels.examples("single")
    assert [e.prefix.tokens for e in single] == [e.prefix.tokens for e in labels.examples("monte-carlo")]
    assert all(e.success == outcome[e.prefix.problem.id, e.prefix.index] for e in single)
    assert labels.tokens("single") == labels.tokens("outcome") < labels.tokens("monte-carlo")


def test_labels_are_harvested_from_the_bank_without_a_token(open_labels: Any, tmp_path: Path) -> None:
    fresh = open_labels()
    pool = bank_spec(fresh.task, fresh.engine, 0, 48)
    bank = Bank(tmp_path / "bank", pool)
    with pytest.raises(PathpruneError, match="0 of 12 paths"):
        open_labels(harvest=3, continuations=1, seed=0).make(lambda done, tokens: None, bank)
    for problem in fresh.task.problems("test", 10, 3):
        bank.put(problem, fresh.engine.launch([problem], 12, 48, 0)[0])
    labels = open_labels(harvest=3, continuations=1, seed=0)
    assert labels.make(lambda done, tokens: None, bank) == 0
    assert labels.cost().launched_tokens == 0
    examples = labels.examples("monte-carlo")
    assert examples and {e.success for e in examples} == {0.0, 1.0}
    assert {e.prefix.problem.id for e in examples} <= {p.id for p in fresh.task.problems("test", 10, 3)}


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from("abc")), min_size=2, max_size=40),
)
def test_soft_auroc_of_hard_labels_is_the_usual_one(rows: list[tuple[int, bool, str]]) -> None:
    scores, right, groups = (np.array(column) for column in zip(*rows, strict=True))
    within, pooled = soft_auroc(scores.astype(float), right.astype(float), groups)
    assert pooled == pytest.approx(auroc(scores, right), nan_ok=True)
    each = [auroc(scores[groups == g], right[groups == g]) for g in set(groups.tolist())]
    told = [value for value in each if not np.isnan(value)]
    assert within == pytest.approx(np.mean(told) if told else np.nan, nan_ok=True)


class Killed(BaseException):
    """Not an Exception: nothing on the way may catch it."""


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_killed_training_goes_on_to_the_same_weights(accumulate: int, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(learning, "SAVE_SECONDS", 0)  # after every step
    problems = [Problem(f"p{i}", "", "") for i in range(8)]
    draw = np.random.default_rng(0)
    x = torch.tensor(draw.normal(size=(64, 5)), dtype=torch.float32)
    examples = [LabelledPrefix(ApiPath(problems[i % 8], i, 0), float(x[i, 0] > 0), 1, i % 8 == 0) for i in range(64)]

    def trained(scratch: Path, kills: set[int]) -> tuple[dict[str, Any], torch.Tensor]:
        steps = iter(range(10_000))

        def progress(done: int, total: int, note: str) -> None:
            if next(steps) in kills:
                raise Killed

        while True:
            torch.manual_seed(0)
            layers = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Dropout(0.2), torch.nn.Linear(4, 1))
            check = Check(np.random.default_rng(0), scratch=scratch, progress=progress)
            schedule = learning.Schedule(epochs=4, batch=10, learning_rate=0.02, accumulate=accumulate, patience=4)
            try:
                metrics = learning.fit(
                    [layers], lambda i, net=layers: net(x[i]).squeeze(-1), examples, schedule, check, lambda line: None
                )
                return metrics, torch.cat([p.detach().flatten() for p in layers.parameters()])
            except Killed:
                pass

    expected, weights = trained(tmp_path / "whole", set())
    again, same = trained(tmp_path / "killed", {0, 3, 4, 5, 11, 12, 17, 23})
    assert again == expected
    assert torch.equal(same, weights)


def test_an_adapter_is_written_to_the_same_bytes_by_every_process(hands_engine: Any, tmp_path: Path) -> None:
    """Its hash stands in records; PEFT holds the modules' names in a set, whose order is the process' own."""
    adapter = hands_engine.new_adapter(tokens=1, rank=2)
    names = sorted(adapter.branch.peft_config["default"].target_modules)
    digests = set()
    for number, order in enumerate((names, names[::-1])):
        adapter.branch.peft_config["default"].target_modules = order
        adapter.save(tmp_path / str(number))
        digests.add(checkpoints.digest_of(tmp_path / str(number)))
    assert len(names) == 7 and len(digests) == 1


def test_reading_the_prefix_is_pefts_activated_lora(
    planted: list[LabelledPrefix], hands_engine: Any, tmp_path: Path
) -> None:
    """PEFT's own forward of the whole sequence, with the [STOP] tokens as invocation, gives the same states.

    aLoRA (arXiv 2504.12397): weights act from the invocation tokens on."""
    adapter = hands_engine.new_adapter(tokens=2, rank=4, alpha=8.0).eval()
    torch.manual_seed(1)
    for name, value in adapter.branch.named_parameters():
        if "lora_B" in name:  # zero at the start, when the adapter would change nothing
            value.data.normal_(std=0.1)
    adapter.save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    vocabulary = hands_engine.model.get_input_embeddings().weight.shape[0]
    invocation = [vocabulary, vocabulary + 1]
    (tmp_path / "adapter_config.json").write_text(
        json.dumps(config | {"task_type": "CAUSAL_LM", "alora_invocation_tokens": invocation})
    )
    base = copy.deepcopy(hands_engine.model)
    base.resize_token_embeddings(vocabulary + 2, mean_resizing=False)
    base.get_input_embeddings().weight.data[-2:] = adapter.embeddings.detach()
    theirs = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    prefixes = [e.prefix for e in planted[:5]]
    ours = hands_engine.probe(prefixes, adapter)
    for prefix, states in zip(prefixes, ours, strict=True):
        ids = torch.tensor([[*hands_engine.sequence(prefix), *invocation]])
        with torch.no_grad():
            expected = theirs(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        assert np.abs(expected[0, -2:].numpy() - states).max() < 1e-4
    plain = hands_engine.new_adapter(tokens=2, rank=0)
    plain.embeddings.data.copy_(adapter.embeddings)
    assert np.abs(hands_engine.probe(prefixes, plain) - ours).max() > 0.01


def official(folder: Path, engine: Any, **replaced: Any) -> Path:
    """A checkpoint as bijiaxihh/STOP writes it: PEFT's .bin in a subfolder, two logits, one vector."""
    adapter = engine.new_adapter(tokens=1, rank=2)
    for name, value in adapter.branch.named_parameters():
        if "lora_B" in name:
            value.data.normal_(std=0.1)
    adapter.branch.save_pretrained(folder / "plain")
    (folder / "adapter" / "classifier").mkdir(parents=True)
    tensors = load_file(folder / "plain" / "adapter_model.safetensors")
    torch.save(tensors, folder / "adapter" / "classifier" / "adapter_model.bin")
    shutil.copy(folder / "plain" / "adapter_config.json", folder / "adapter" / "classifier")
    width = adapter.embeddings.shape[1]
    head = {"weight": torch.randn(2, width), "bias": torch.randn(2)}
    vector = {"assess_token": "[ASSESS]", "special_token_id": 7, "input_embedding": torch.randn(width)}
    torch.save(head, folder / "classifier_head.pth")
    torch.save(replaced.get("embedding", vector), folder / "assess_token_embedding.pth")
    config = {"assess_token": "[ASSESS]", "special_token_id": 7, "num_assess_tokens": 3}
    (folder / "assess_token_config.json").write_text(json.dumps(config))
    return folder


def test_an_official_checkpoint_scores_as_its_softmax_does(
    planted: list[LabelledPrefix], hands_engine: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    source = official(tmp_path / "official", hands_engine)
    checkpoint = adopt(source, hands_engine, tmp_path / "ours")
    plugin = registry.pruner(f"stop:checkpoint={checkpoint}")
    checkpoints.attach(plugin, hands_engine)
    prefixes = [e.prefix for e in planted[:6]]
    scores = np.asarray(plugin.pruner.score(prefixes, Check(np.random.default_rng(0), hands_engine)))
    states = hands_engine.probe(prefixes, hands_engine.new_adapter(checkpoint))[:, -1]
    head = torch.load(source / "classifier_head.pth", weights_only=True)
    logits = torch.from_numpy(states) @ head["weight"].T + head["bias"]
    assert scores == pytest.approx(logits.softmax(-1)[:, 1].numpy(), abs=1e-5)
    vector = torch.load(source / "assess_token_embedding.pth", weights_only=True)["input_embedding"]
    assert torch.equal(plugin.pruner.adapter.embeddings, vector.expand(3, -1))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        ({"input_embedding": torch.zeros(8)}, "belongs to another model"),
        ({"other": torch.zeros(8)}, "no tensor 'input_embedding'"),
        ({"input_embedding": Path("code")}, "would run code"),
    ],
)
def test_another_models_or_an_unsafe_official_checkpoint_is_refused(
    embedding: Any, message: str, hands_engine: Any, tmp_path: Path
) -> None:
    source = official(tmp_path / "official", hands_engine, embedding=embedding)
    with pytest.raises(PathpruneError, match=message):
        adopt(source, hands_engine, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_checkpoint_of_another_precision_is_refused(hands: Hands, hands_engine: Any, tmp_path: Path) -> None:
    checkpoint = adopt(official(tmp_path / "official", hands_engine), hands_engine, tmp_path / "ours")
    other = registry.engine("hf", "hands", hands.defaults.sampling, device="cpu", dtype="bfloat16")
    with pytest.raises(PathpruneError, match="trained on float32 states and this engine computes bfloat16"):
        checkpoints.attach(registry.pruner(f"stop:checkpoint={checkpoint}"), other)


@given(st.sets(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=200))
def test_some_problems_are_held_out_however_few_there_are(problems: set[str]) -> None:
    """And of many, those of the hash alone: more labels never move a problem from one side to the other."""
    held = held_out(problems)
    assert held <= problems and len(held) >= min(4, len(problems) // 4)
    by_hash = {p for p in problems if derive("validation", p) % 10 == 0}
    assert by_hash <= held and (held == by_hash or len(held) == min(4, len(problems) // 4))
