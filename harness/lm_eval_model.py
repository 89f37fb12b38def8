"""``pathprune`` as an lm-eval model: answers any generate_until task by pruning and voting.

lm-eval does not discover models outside its own package, so this module starts its command line, with its own arguments::

    python -m harness.lm_eval_model --model pathprune \\
        --model_args pretrained=DIR,pruner=stop,n=64,keep=8,prefix=2048,max_tokens=16384 --tasks gsm8k

Every request runs Launch -> Check -> Resume -> Vote. The response is the text of the highest-scoring kept path whose answer
won the vote; ties go to the lowest index, and between answers to the one seen first. If no kept path has an answer, the
response is the highest-scoring complete text, or empty if the token limit cut off all paths. A response excludes the
thinking. Problem ids, and therefore random streams and paths, equal those of ``TASK=lm_eval:<task>``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, NoReturn

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models import MODEL_MAPPING  # noqa: F401  importing it registers lm-eval's own models beside ours
from tqdm import tqdm

from harness import registry
from harness.api import Cost, PathpruneError, Problem, Sampling, Task, TaskDefaults
from harness.learn import checkpoints
from harness.loop import ScoringError, prune, representative
from harness.runners.bench import check_signals
from harness.spec import RunSpec, Stage
from harness.streams import unfailing
from tasks.answers import usual
from tasks.lm_eval import ends, max_tokens, problem_id, refuse_unknown_sampling, replied, sampling

DEFAULT_DEVICE = "cuda:0"  # lm-eval's default; ignored, because an engine chooses its device


@register_model("pathprune")
class Pathprune(LM):
    """Arguments as in ``pathprune bench``; write ``;`` for ``,`` inside ``pruner``, ``engine`` and ``answers``.

    ``pretrained``: embedded model, folder or hub id. ``answers``: the pathprune task whose parser extracts the answers for
    the vote, e.g. ``lm_eval:gsm8k`` [default: boxed and other common forms]. ``prefix``, ``max_tokens``, ``temperature``,
    ``top_p`` and ``top_k`` default to those of ``tasks.lm_eval``.
    """

    def __init__(
        self, pretrained: str, pruner: str = "stop", n: int = 64, keep: int = 8, prefix: int = 0, max_tokens: int = 0,
        engine: str = "hf", answers: str = "", seed: int = 0, vote: str = "majority", ended: Any = "count",
        temperature: float | None = None, top_p: float | None = None, top_k: int | None = None,
        device: str | None = None, batch_size: Any = None, max_batch_size: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 1 <= keep <= n:
            raise PathpruneError(f"keep must be from 1 to n = {n}, not {keep}")
        self._plugin = registry.pruner(pruner.replace(";", ","))
        if self._plugin.traits.decides:
            raise PathpruneError(
                f"{self._plugin.name} has its own decision rule, which can only be replayed; use pathprune bench"
            )
        self._n, self._keep = n, n if self._plugin.traits.keeps_all else keep
        self._prefix, self._limit = prefix, max_tokens
        self._rest: dict[str, Any] = {"seed": seed, "ended": ended, "vote": vote}
        self._drawn: dict[str, Any] = {
            k: v for k, v in (("temperature", temperature), ("top_p", top_p), ("top_k", top_k)) if v is not None
        }
        name, options = registry.options_of(engine.replace(";", ","))
        self._opening = (
            name,
            pretrained,
            ({"device": device} if device not in (None, "", DEFAULT_DEVICE) else {}) | options,
        )
        self._reader = registry.task(answers.replace(";", ",")) if answers else None
        self._engine: Any = None
        self._identity: dict[str, Any] = {}
        self._cost = Cost()

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        texts: list[str] = []
        asked: Counter[str] = Counter()
        for request in tqdm(requests, disable=disable_tqdm, desc="Running generate_until requests"):
            prompt, kwargs = request.args
            name = problem_id(str(request.task_name), "test", request.doc_id)
            repeat = f"-{request.idx}-{asked[name]}" if request.idx or asked[name] else ""
            asked[name] += 1
            texts.append(self._respond(Problem(name + repeat, prompt, ""), kwargs))
            self.cache_hook.add_partial("generate_until", request.args, texts[-1])
        return texts

    def loglikelihood(self, requests: list[Any]) -> NoReturn:
        raise NotImplementedError(
            "pathprune samples paths and votes over their answers, so it has no log-likelihood; choose generate_until tasks"
        )

    def loglikelihood_rolling(self, requests: list[Any]) -> NoReturn:
        self.loglikelihood(requests)

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> NoReturn:
        raise NotImplementedError("pathprune always applies the model's chat template; leave out --apply_chat_template")

    @property
    def tokenizer_name(self) -> str:
        return self._opening[1]

    def get_model_info(self) -> dict[str, Any]:
        """The entry in lm-eval's results: engine, plan and pruner, and the cost so far."""
        pruner = {
            "pruner": self._plugin.name,
            "code": self._plugin.code,
            "source": self._plugin.source,
        } | self._identity
        spec = dict(self._engine.spec) if self._engine else {}
        plan = {"n": self._n, "keep": self._keep, "prefix": self._prefix, "max_tokens": self._limit} | self._rest
        return {"pathprune": {"engine": spec, "plan": plan, **pruner, "cost": asdict(self._cost)}}

    def _respond(self, problem: Problem, kwargs: Mapping[str, Any]) -> str:
        refuse_unknown_sampling(kwargs, f"the task of {problem.id}")
        limit = self._limit or max_tokens(kwargs)
        prefix = self._prefix or max(1, limit // 8)
        if prefix >= limit:
            raise PathpruneError(
                f"prefix must be from 1 to {limit - 1}, below the token limit of {limit}, not {prefix}"
            )
        engine = self._open(replace(sampling(kwargs), **self._drawn))
        reader = _Reader(self._reader, kwargs, engine.spec["model"])
        spec = RunSpec.of(reader, engine, self._n, limit, [Stage(prefix, self._keep)], **self._rest)
        try:
            outcome = prune(problem, reader, engine, self._plugin.pruner, spec)
        except ScoringError as error:
            raise PathpruneError(f"{self._plugin.name} failed on {problem.id}: {error}") from error
        self._cost += outcome.cost
        best = representative(outcome, reader)
        return "" if best is None else replied(best.text, kwargs) or ""

    def _open(self, drawn: Sampling) -> Any:
        """The engine for this sampling; only one is kept open."""
        if self._engine is None or self._engine.spec["sampling"] != asdict(drawn):
            name, model, options = self._opening
            self._engine = registry.engine(name, model, drawn, **options)
            check_signals(self._plugin, self._engine)
            self._identity = checkpoints.attach(self._plugin, self._engine)
        return self._engine


class _Reader(Task):
    """A minimal task for a single request: it cuts texts at the stop strings and parses answers."""

    name, version = "lm_eval", "1"

    def __init__(self, task: Task | None, kwargs: Mapping[str, Any], model: str) -> None:
        self._kwargs, self._parse = kwargs, task.answer if task else usual
        self.defaults = task.defaults if task else TaskDefaults(model, Sampling(), 1, 1, (1,))

    def answer(self, text: str) -> str | None:
        reply = replied(text, self._kwargs)
        return None if reply is None else self._parse(reply)

    def ended(self, text: str) -> bool:
        return ends(text, self._kwargs)

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        return []

    def correct(self, answer: str | None, problem: Problem) -> bool:
        return False


def main(run: Callable[[], None] = cli_evaluate) -> None:
    """Run lm-eval's command line; a PathpruneError is shown as one line, with exit code 2."""
    try:
        run()
    except PathpruneError as error:
        print(f"error: {error}", file=unfailing(sys.stderr))
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
