"""lm-eval both ways: its tasks in the harness, and the harness as a model of its command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import registry
from harness.api import PathpruneError, Problem, Sampling, UnavailableError
from harness.learn import checkpoints
from harness.loop import check, prune, select
from harness.spec import RunSpec
from harness.testing import task_conformance
from harness.vote import majority
from tasks.embedded.hands import Hands
from tasks.lm_eval import PAPER, LMEval
from tasks.toy import Toy

pytest.importorskip("lm_eval")

PROBLEMS = 3
N, KEEP, PREFIX, LIMIT = 6, 3, 22, 300
LOCAL: dict[str, Any] = {
    "task": "hands-local",
    "dataset_path": "json",
    "output_type": "generate_until",
    "test_split": "test",
    "training_split": "train",
    "fewshot_split": "train",
    "doc_to_text": "{{prompt}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n\n", "Q:"], "do_sample": True, "temperature": 1.0, "max_gen_toks": 300},
    "filter_list": [
        {
            "name": "last",
            "filter": [
                {"function": "regex", "regex_pattern": "answer ([0-9]+)", "group_select": -1},
                {"function": "take_first"},
            ],
        }
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": 1.0},
}


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the local task with changes into a folder of its own; JSON is YAML."""
    data = tmp_path_factory.mktemp("data")
    files = {}
    for split, ours in (("test", "test"), ("train", "label")):
        files[split] = str(data / f"{split}.json")
        rows = [json.dumps({"prompt": p.prompt, "answer": p.answer}) for p in Hands().problems(ours, PROBLEMS)]
        Path(files[split]).write_text("\n".join(rows))

    def make(**changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("yaml")
        kwargs = {"data_files": files, "cache_dir": str(data / "cache")}
        (folder / "local.yaml").write_text(json.dumps(LOCAL | {"dataset_kwargs": kwargs} | changes))
        return folder

    return make


@pytest.fixture(scope="module")
def folder(write: Callable[..., Path]) -> Path:
    return write()


@pytest.fixture(scope="module")
def local(folder: Path) -> LMEval:
    return LMEval("hands-local", include=str(folder), trust=True)


def theirs(folder: Path, shots: int = 0) -> Any:
    """lm-eval's own task object with its requests built, as its evaluator does it."""
    from lm_eval.tasks import TaskManager

    task = TaskManager(include_path=str(folder), include_defaults=False).load(["hands-local"])["tasks"]["hands-local"]
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=1234)
    task.build_all_requests()
    return task


def test_conforms(local: LMEval) -> None:
    assert [f for f in task_conformance(local) if f[1]] == []
    assert local.defaults.sampling == Sampling(temperature=1.0) and local.defaults.max_tokens == 300
    assert local.name == "lm_eval-hands_local" and local.answer(local.defaults.closing + "7") == "7"


@pytest.mark.parametrize("shots", [0, 2])
def test_prompts_are_lm_evals(folder: Path, shots: int) -> None:
    task = LMEval(str(folder / "local.yaml"), shots=shots, trust=True)
    whole = [i.args[0] for i in theirs(folder, shots).instances]
    assert [p.prompt for p in task.problems("test")] == whole
    assert [p.prompt for p in task.problems("test", 2, start=1)] == whole[1:3]
    for problem, bare in zip(task.problems("train"), Hands().problems("label", PROBLEMS), strict=True):
        assert problem.prompt.count(bare.prompt) == 1, "a problem is never an example for itself"
        assert problem.prompt.count("?") == shots + 1


PIECES = ["answer 3 .", "answer 11", " so a = 4 . ", "\n\n", "Q:", "answer", " 7", ""]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.integers(0, PROBLEMS - 1))
def test_grades_as_lm_eval_on_the_same_response(local: LMEval, text: str, index: int) -> None:
    problem = local.problems("test")[index]
    for response in (text, f"{text} answer {problem.answer} ."):
        task = local._task  # lm-eval's object, run as its evaluator runs it
        task.build_all_requests(samples=[index])
        (request,) = task.instances
        request.resps.append(re.split("\n\n|Q:", response)[0])
        task.apply_filters()
        filtered = request.filtered_resps["last"]
        assert local.answer(response) == (None if filtered == "[invalid]" else filtered)
        graded = task.process_results(request.doc, [filtered])["exact_match"]
        assert local.correct(local.answer(response), problem) == (graded >= 1)


def test_thinking_comes_off_before_stop_strings_and_filters(local: LMEval) -> None:
    thought = "<think>answer 3 .\n\nQ: so answer 4</think>"
    assert local.answer(thought + "\n\nanswer 5") == local.answer("answer 5") == "5"
    assert local.answer("<think>answer 3") is None and local.answer(thought) is None
    assert not local.ended(thought + "answer 5") and local.ended(thought + "answer 5\n\n")


def test_a_response_to_lm_eval_has_no_thinking(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.lm_eval_model import Pathprune

    model = Pathprune("toy", pruner="shortest", n=4, keep=2, prefix=5, engine="toy", answers="toy")
    prompt = Toy().problems("test", 1)[0].prompt
    (plain,) = model.generate_until([request_of(prompt, 0, [])], disable_tqdm=True)
    toys = registry.engine

    def thinking(*args: Any, **options: Any) -> Any:
        engine = toys(*args, **options)
        resume = engine.resume
        engine.resume = lambda *a: [replace(p, text=f"<think>Q: x</think>{p.text}") for p in resume(*a)]
        return engine

    monkeypatch.setattr(registry, "engine", thinking)
    model = Pathprune("toy", pruner="shortest", n=4, keep=2, prefix=5, engine="toy", answers="toy")
    assert model.generate_until([request_of(prompt, 0, ["Q:"])], disable_tqdm=True) == [plain]


@pytest.mark.parametrize(
    ("kwargs", "sampling"),
    [
        ({"temperature": 0.7}, Sampling(0.7)),
        ({"temperature": 0.7, "top_p": 0.9, "top_k": -1}, Sampling(0.7, 0.9)),
        ({"do_sample": True}, Sampling(1.0)),
        ({"do_sample": True, "temperature": 0.0}, PAPER),
        ({"do_sample": False, "temperature": 0.7}, PAPER),
        ({"temperature": 0.0}, PAPER),
        ({"temperature": 0.7, "repetition_penalty": 1.0, "min_p": 0.0}, Sampling(0.7)),
    ],
)
def test_sampling_is_read_as_lm_eval_reads_it(
    write: Callable[..., Path], kwargs: dict[str, Any], sampling: Sampling
) -> None:
    folder = write(generation_kwargs={"until": [], **kwargs})
    assert LMEval("hands-local", include=str(folder), trust=True).defaults.sampling == sampling


@pytest.mark.parametrize(
    "option", [{"min_p": 0.1}, {"repetition_penalty": 1.1}, {"presence_penalty": 1}, {"num_beams": 4}]
)
def test_sampling_that_no_engine_has_is_refused_by_name(write: Callable[..., Path], option: dict[str, Any]) -> None:
    from harness.lm_eval_model import Pathprune

    ((name, _),) = option.items()
    with pytest.raises(PathpruneError, match=name):
        LMEval("hands-local", include=str(write(generation_kwargs={"until": [], **option})), trust=True)
    model = Pathprune("toy", pruner="shortest", n=4, keep=2, prefix=5, engine="toy", answers="toy")
    request = request_of(Toy().problems("test", 1)[0].prompt, 0, [])
    request.args[1].update(option)
    with pytest.raises(PathpruneError, match=name):
        model.generate_until([request], disable_tqdm=True)


def test_lm_evals_own_default_device_is_the_engines_choice() -> None:
    """Its command line says cuda:0 where nobody does, on machines without one too."""
    from lm_eval.config.evaluate_config import EvaluatorConfig

    from harness.lm_eval_model import DEFAULT_DEVICE, Pathprune

    assert EvaluatorConfig(model="pathprune", tasks=["x"]).device == DEFAULT_DEVICE
    toy = {"pretrained": "toy", "engine": "toy", "answers": "toy", "pruner": "shortest"}
    assert Pathprune(**toy, device=DEFAULT_DEVICE)._opening == Pathprune(**toy)._opening
    assert Pathprune(**toy, device="cpu")._opening[2] == {"device": "cpu"}


def test_version_follows_what_decides_prompts_and_grades(write: Callable[..., Path], local: LMEval) -> None:
    def version(shots: int | None = None, **changes: Any) -> str:
        return LMEval("hands-local", include=str(write(**changes)), trust=True, shots=shots).version

    assert version() == local.version, "the folder it lies in is no part of it"
    other = {
        version(shots=1),
        version(doc_to_text="Q {{prompt}}"),
        version(filter_list=None),
        version(description="Go. "),
    }
    assert len(other | {local.version}) == 5


def test_defaults_of_a_greedy_task_are_the_papers(write: Callable[..., Path]) -> None:
    folder = write(generation_kwargs={"until": [], "do_sample": False, "max_gen_toks": 4096})
    defaults = LMEval("hands-local", include=str(folder), trust=True).defaults
    assert defaults.sampling == PAPER and defaults.max_tokens == 4096 and defaults.prefixes == (512,)


def loop_outcomes(task: LMEval) -> list[tuple[str | None, bool]]:
    """(vote, is it right) of every problem by the harness' own loop."""
    engine = registry.engine("hf", "hands", task.defaults.sampling, device="cpu")
    plugin = registry.pruner("stop")
    checkpoints.attach(plugin, engine)
    spec = RunSpec.of(task, engine, N, LIMIT, [(PREFIX, KEEP)])
    voted = [prune(p, task, engine, plugin.pruner, spec).voted for p in task.problems("test")]
    return [(v, task.correct(v, p)) for v, p in zip(voted, task.problems("test"), strict=True)]


MODEL_ARGS = f"pretrained=hands,pruner=stop,n={N},keep={KEEP},prefix={PREFIX},answers=hands,engine=hf:device=cpu"


@pytest.fixture(scope="module")
def outcomes(local: LMEval) -> list[tuple[str | None, bool]]:
    return loop_outcomes(local)


@pytest.mark.long
def test_as_a_model_it_answers_what_the_loop_votes(folder: Path, outcomes: list[tuple[str | None, bool]]) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    import harness.lm_eval_model  # noqa: F401  registers the model

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    done = simple_evaluate(
        "pathprune", MODEL_ARGS, tasks=["hands-local"], task_manager=manager, bootstrap_iters=0, device="cpu"
    )
    assert done
    samples = done["samples"]["hands-local"]
    assert [s["filtered_resps"][0] for s in samples] == [voted or "[invalid]" for voted, _ in outcomes]
    accuracy = done["results"]["hands-local"]["exact_match,last"]
    assert accuracy == pytest.approx(sum(right for _, right in outcomes) / PROBLEMS) and 0 < accuracy < 1
    about = done["config"]["pathprune"]
    assert about["engine"]["model"] == "hands" and about["checkpoint"] and about["cost"]["generated"] > 0


@pytest.mark.long
def test_on_lm_evals_command_line(folder: Path, outcomes: list[tuple[str | None, bool]], tmp_path: Path) -> None:
    args = ["--model", "pathprune", "--model_args", MODEL_ARGS, "--include_path", str(folder), "--tasks", "hands-local"]
    args += ["--limit", "2", "--output_path", str(tmp_path)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "harness.lm_eval_model", *args]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = tmp_path.rglob("results_*.json")
    accuracy = json.loads(file.read_text())["results"]["hands-local"]["exact_match,last"]
    assert accuracy == pytest.approx(sum(right for _, right in outcomes[:2]) / 2)


def request_of(prompt: str, index: int, until: list[str]) -> Any:
    from lm_eval.api.instance import Instance

    kwargs = {"until": until, "do_sample": True, "temperature": 1.0, "max_gen_toks": 48}
    return Instance("generate_until", {}, (prompt, kwargs), 0, ("toy", index, 1))


def test_response_is_the_best_scored_path_among_the_winners() -> None:
    from harness.lm_eval_model import Pathprune

    model = Pathprune("toy", pruner="shortest", n=8, keep=5, prefix=5, engine="toy", answers="toy")
    requests = [request_of(p.prompt, i, []) for i, p in enumerate(Toy().problems("test", 12))]
    texts = model.generate_until(requests, disable_tqdm=True)
    engine, pruner = registry.engine("toy", "toy", Sampling()), registry.pruner("shortest").pruner

    for i, text in enumerate(texts):
        problem = Problem(f"lm_eval-toy-test-{i:05d}", requests[i].args[0], "")
        prefixes = engine.launch([problem], 8, 5, 0)[0]
        scores = check(pruner, prefixes, engine, Toy(), 0)[0]
        kept = select(scores, [p.finish == "stop" for p in prefixes], 5, "count")
        finished = dict(zip(kept, engine.resume([prefixes[k] for k in kept], 48), strict=True))
        voted = majority([Toy().answer(p.text) for p in finished.values()])
        ranked = sorted(finished, key=lambda k: (-scores[k], k))
        assert text == next(finished[k].text for k in ranked if voted in (None, Toy().answer(finished[k].text)))


def test_stop_strings_and_repeats() -> None:
    from harness.lm_eval_model import Pathprune

    model = Pathprune("toy", pruner="shortest", n=4, keep=2, prefix=5, engine="toy", answers="toy")
    prompt = Toy().problems("test", 1)[0].prompt
    whole = model.generate_until([request_of(prompt, 0, [])] * 3, disable_tqdm=True)
    assert len(set(whole)) > 1, "a repeat is another sample"
    assert "answer" not in model.generate_until([request_of(prompt, 0, ["answer"])], disable_tqdm=True)[0]
    assert whole == model.generate_until([request_of(prompt, 0, [])] * 3, disable_tqdm=True)


CHOICE = {"output_type": "multiple_choice", "doc_to_choice": ["1", "2"], "doc_to_target": 0, "generation_kwargs": None}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (CHOICE | {"filter_list": None, "metric_list": [{"metric": "acc"}]}, "multiple_choice"),
        ({"dataset_kwargs": {"data_files": {"test": "missing.json"}}}, "cannot be loaded"),
        (
            {"filter_list": [{"name": "x", "filter": [{"function": "multi_choice_regex"}]}]},
            "fails on a single response",
        ),
        (
            {"filter_list": [{"name": "x", "filter": [{"function": "take_first_k", "k": 4}]}]},
            "fails on a single response",
        ),
        ({"unsafe_code": True}, "runs the code"),
    ],
)
def test_tasks_that_are_refused(write: Callable[..., Path], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PathpruneError, match=says) as refused:
        LMEval(str(write(**changes) / "local.yaml"), trust=True)
    assert "\n" not in str(refused.value)


def test_splits(write: Callable[..., Path], local: LMEval) -> None:
    assert local.problems("dev") == local.problems("test"), "without a validation split"
    assert not {p.id for p in local.problems("label")} & {p.id for p in local.problems("test")}
    with pytest.raises(PathpruneError, match="not one of"):
        local.problems("tset")
    for training in (None, "test"):  # the evaluated split is not held out
        with pytest.raises(PathpruneError, match="no training split"):
            LMEval("hands-local", include=str(write(training_split=training)), trust=True).problems("label")


def test_names(folder: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PathpruneError, match="no lm-eval task file at"):
        LMEval(str(folder / "other.yaml"), trust=True)
    with pytest.raises(PathpruneError, match="did you mean hands-local"):
        LMEval("hands-loca", include=str(folder), trust=True)
    with pytest.raises(PathpruneError, match="is a group"):
        LMEval("many", include=str(write(tag="many")), trust=True)
    with pytest.raises(PathpruneError, match="-1 few-shot"):
        LMEval("hands-local", include=str(folder), trust=True, shots=-1)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(UnavailableError, match=r"pip install 'pathprune\[lm-eval\]'"):
        LMEval("hands-local", include=str(folder), trust=True)


def test_names_are_found_as_lm_eval_finds_them() -> None:
    """By the text of their files, of which lm-eval parses some thousands."""
    from lm_eval.tasks._index import TaskIndex

    from tasks.lm_eval_loading import _defined

    known = _defined()
    tasks = sorted(known["task"])
    for name in (*tasks[::997], "gsm8k"):
        entry = TaskIndex.entry_from_path(known["task"][name])
        assert entry is not None and entry.name == name
    for name in (*sorted(known["group"])[::97], "acp_bench", "mmlu"):
        with pytest.raises(PathpruneError, match=f"{name} is a group"):
            LMEval(name)
    with pytest.raises(PathpruneError, match=r"unknown lm-eval task 'gsm9k'; did you mean gsm8k\?"):
        LMEval("gsm9k")


def test_the_model_refuses_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    from harness.lm_eval_model import Pathprune, main

    toy = {"pretrained": "toy", "engine": "toy", "answers": "toy", "pruner": "shortest"}
    for options, says in (
        ({"keep": 9, "n": 8}, "keep must be from 1 to n = 8, not 9"),
        ({"pruner": "deepconf-online"}, "its own decision rule"),
        ({"pruner": "shortst"}, "did you mean shortest"),
    ):
        with pytest.raises(PathpruneError, match=says):
            Pathprune(**(toy | options))
    model = Pathprune(**toy, prefix=48)
    with pytest.raises(NotImplementedError, match="log-likelihood"):
        model.loglikelihood([])
    with pytest.raises(SystemExit) as stop:
        main(lambda: model.generate_until([request_of("guess test 0", 0, [])], disable_tqdm=True) and None)
    assert stop.value.code == 2 and capsys.readouterr().err.startswith("error: prefix must be from 1 to 47")
