"""``lm_eval:<task>``: any generate_until task of lm-eval, with its prompts, stop strings, filters and metric.

A problem's prompt is the one that lm-eval would send without ``--apply_chat_template``, including few-shot examples drawn with its
default seed. An engine wraps it in the model's chat template if there is one. Generation does not end at a stop
string: the text is cut there when it is read, which gives the same answer and costs the tokens after it. Thinking
(``<think>...</think>`` and the like) is removed first, as with lm-eval's ``think_end_token``; stop strings inside it are ignored.

The answer is the output of the task's *first* filter pipeline on one response, and ``correct`` is the task's *first* metric
on it, with values of at least 1 as right. The pipeline's output for an empty text (such as a regex filter's fallback) is not an
answer. A task whose metric parses the whole response itself (``minerva_math``) has no such pipeline: its paths are graded
as in lm-eval, but only identical texts share a vote.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harness.api import PathpruneError, Problem, Sampling, Task, TaskDefaults, UnavailableError
from tasks.lm_eval_loading import load, set_shots
from tasks.spoken import spoken

SHOTS_SEED = 1234  # lm-eval's default, which reproduces the prompts of its command line
MAX_TOKENS = 2048  # for tasks without a limit; lm-eval's default of 256 is too short for reasoning
PAPER = Sampling(temperature=0.6, top_p=0.95, top_k=40)
# Options of lm-eval's backends that affect sampling, with their neutral values.
UNKNOWN: dict[str, Any] = dict.fromkeys(
    ("repetition_penalty", "typical_p", "num_beams", "length_penalty", "num_beam_groups"), 1
)
UNKNOWN |= dict.fromkeys(
    ("min_p", "presence_penalty", "frequency_penalty", "no_repeat_ngram_size", "min_new_tokens", "min_tokens"), 0
)
UNKNOWN |= dict.fromkeys(
    ("epsilon_cutoff", "eta_cutoff", "penalty_alpha", "diversity_penalty", "dola_layers", "top_a"), 0
)
UNKNOWN |= dict.fromkeys(("logit_bias", "bad_words_ids", "force_words_ids", "suppress_tokens", "sequence_bias"))
CLOSINGS = ("\n#### ", "\nThe answer is ", "\nThe final answer is \\boxed{", "\nAnswer: ", "\nanswer ")
PROBES = ("7", "7.", "7}", "7}$.")


class LMEval(Task):
    """A task of lm-eval.

    ``task``: the name of an lm-eval task, or a YAML file; ``include``: a folder of YAML files (lm-eval's --include_path).
    ``trust``: allow the code in your own files to run; without it, only files that come with lm-eval are opened.
    """

    def __init__(self, task: str, include: str = "", shots: int | None = None, trust: bool = False) -> None:
        self._task = load(task, include, trust, shots)
        config = self._task.config
        set_shots(self._task, shots)
        self._prompts: dict[str, list[str]] = {}
        self._documents: dict[str, list[Any]] = {}
        self._pipeline = self._task._filters[0]
        self._none = self._alone("")
        if not isinstance(self._none, str | None):
            raise PathpruneError(
                f"lm-eval task {config.task}: filter {self._pipeline.name!r} returns {self._none!r} for one response, not one text"
            )
        self.name = "lm_eval-" + safe(config.task)
        refuse_unknown_sampling(config.generation_kwargs, f"lm-eval task {config.task}")
        limit = max_tokens(config.generation_kwargs)
        self.defaults = TaskDefaults(
            model="smollm2",
            sampling=sampling(config.generation_kwargs),
            max_tokens=limit,
            problems=len(self._docs("test")),
            prefixes=(max(1, limit // 8),),
            closing=self._closing(),
        )
        self.version = f"{self._task.VERSION}.{self._digest()}"

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        """Documents in order, at most all. "dev" is the validation split, or the test split if there is none; "label" and
        "train" are both the training split."""
        split = self._split(split)
        docs = self._docs(split)
        last = len(docs) if n is None else min(len(docs), start + n)
        prompts = self._render(split, last)
        ids = (problem_id(self._task.config.task, split, i) for i in range(start, last))
        return [Problem(name, prompts[i], self._gold(docs[i])) for i, name in enumerate(ids, start)]

    def answer(self, text: str) -> str | None:
        reply = replied(text, self._task.config.generation_kwargs)
        extracted = self._none if reply is None else self._pipe(reply)
        return None if extracted == self._none else str(extracted)

    def ended(self, text: str) -> bool:
        """Does the text contain a stop string, which ends it regardless of later tokens?"""
        return ends(text, self._task.config.generation_kwargs)

    def correct(self, answer: str | None, problem: Problem) -> bool:
        if answer is None:
            return False
        _, split, index = problem.id.rsplit("-", 2)
        results = self._task.process_results(self._docs(split)[int(index)], [answer])
        metric = next((m for m in self._task.aggregation() if m in results), next(iter(results)))
        if isinstance(results[metric], tuple | list | dict | str) or not self._task.higher_is_better().get(
            metric, True
        ):
            raise PathpruneError(f"lm-eval task {self._task.config.task}: metric {metric} does not grade one answer")
        return bool(results[metric] >= 1)

    def _pipe(self, text: str) -> Any:
        """Pass one response through the first filter pipeline, which may not use the document."""
        from lm_eval.api.instance import Instance

        response = Instance("generate_until", doc={}, arguments=("", {}), idx=0, resps=[text])
        self._pipeline.apply([response])
        return response.filtered_resps[self._pipeline.name]

    def _alone(self, text: str) -> Any:
        """As ``_pipe``, with an error if the pipeline fails on a single response."""
        try:
            return self._pipe(text)
        except Exception as error:
            raise PathpruneError(
                f"lm-eval task {self._task.config.task}: filter {self._pipeline.name!r} fails on a single response "
                f"({type(error).__name__}: {error}); choose a task whose first filter does"
            ) from error

    def _split(self, asked: str) -> str:
        """The lm-eval split for one of our splits. The evaluated split cannot serve as a held-out one."""
        config = self._task.config
        tested = config.test_split or config.validation_split
        if asked == "test" or (asked == "dev" and config.validation_split in (None, tested)):
            return "test"
        if asked == "dev":
            return "dev"
        if asked not in ("label", "train"):
            raise PathpruneError(f"split {asked!r} is not one of train, label, dev, test")
        if config.training_split in (None, tested):
            raise UnavailableError(
                f"lm-eval task {config.task} has no training split of its own; train on another task's problems"
            )
        return "train"

    def _docs(self, split: str) -> list[Any]:
        if split not in self._documents:
            task = self._task
            docs = {"test": lambda: task.eval_docs, "dev": task.validation_docs, "train": task.training_docs}[split]()
            self._documents[split] = list(docs)
        return self._documents[split]

    def _render(self, split: str, last: int) -> list[str]:
        """The first ``last`` prompts of a split. Few-shot examples are drawn in the order of the documents."""
        known = self._prompts.get(split, [])
        if len(known) < last:
            docs, task = self._docs(split), self._task
            task.set_fewshot_seed(SHOTS_SEED)
            with _others_as_shots(task, split != "test") as about:
                known = [_prompt(task, about(docs[i])) for i in range(last)]
            self._prompts[split] = known
        return known

    def _gold(self, doc: Mapping[str, Any]) -> str:
        target = self._task.doc_to_target(doc)
        if self._task.config.doc_to_choice is not None and isinstance(target, int):
            target = self._task.doc_to_choice(doc)[target]
        return str(target[0] if isinstance(target, list) else target)

    def _closing(self) -> str:
        """The first common answer phrase that the task's filter reads."""
        for closing in CLOSINGS:
            if any(self.answer(closing + probe) == "7" for probe in PROBES):
                return closing
        return TaskDefaults.closing

    def _digest(self) -> str:
        """Digest of all that determines prompts and grades: test prompts, gold answers, stop strings, filters and metrics."""
        config = self._task.dump_config()
        graded = [config.get(key) for key in ("generation_kwargs", "filter_list", "metric_list", "process_results")]
        asked = [(p.prompt, p.answer) for p in self.problems("test")]
        text = json.dumps(
            [asked, graded], sort_keys=True, default=lambda value: getattr(value, "__name__", repr(type(value)))
        )
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def safe(name: str) -> str:
    """A task's name, made safe for ids and file names."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)


def problem_id(task: str, split: str, index: int) -> str:
    """The id of a document of a split."""
    return f"lm_eval-{safe(task)}-{split}-{index:05d}"


def sampling(kwargs: Mapping[str, Any]) -> Sampling:
    """The task's sampling parameters, or STOP's if the task is greedy, since N greedy paths would be identical.

    As in lm-eval, a temperature alone means sampling, and ``do_sample: false`` means greedy decoding at any temperature.
    """
    given = {name: kwargs[name] for name in ("temperature", "top_p", "top_k") if kwargs.get(name) is not None}
    samples = kwargs.get("do_sample")
    if samples is None:
        samples = bool(float(given.get("temperature", 0)))
    if not samples or not float(given.get("temperature", 1)):
        return PAPER
    top_k = int(given.get("top_k", 0))
    return Sampling(float(given.get("temperature", 1)), float(given.get("top_p", 1)), max(top_k, 0))  # vLLM: -1


def refuse_unknown_sampling(kwargs: Mapping[str, Any], whose: str) -> None:
    """Refuse sampling options that no engine here supports.

    Raises:
        PathpruneError: such an option does not have its neutral value.
    """
    for name, neutral in UNKNOWN.items():
        value = kwargs.get(name)
        if value not in (None, neutral, [], {}):
            raise PathpruneError(
                f"{whose} samples with {name}={value}, which no engine here supports (only temperature, top_p and top_k); "
                f"leave {name} out, or choose another task"
            )


def max_tokens(kwargs: Mapping[str, Any]) -> int:
    """The longest path in tokens that a task's generation options allow."""
    from lm_eval.models.utils import normalize_gen_kwargs

    return int(normalize_gen_kwargs(dict(kwargs), MAX_TOKENS)["max_gen_toks"])


def ends(text: str, kwargs: Mapping[str, Any]) -> bool:
    """Does the text contain a stop string after its thinking?"""
    until, reply = kwargs.get("until") or [], spoken(text)
    return reply is not None and any(mark and mark in reply for mark in ([until] if isinstance(until, str) else until))


def replied(text: str, kwargs: Mapping[str, Any]) -> str | None:
    """The text after its thinking and before the first stop string; None if the thinking never ends."""
    from lm_eval.models.utils import postprocess_generated_text

    reply = spoken(text)
    if reply is None:
        return None
    return str(postprocess_generated_text(reply if reply == text else reply.lstrip(), kwargs.get("until"), None))


def _prompt(task: Any, doc: Any) -> str:
    prompt = task.fewshot_context(doc, num_fewshot=task.config.num_fewshot, gen_prefix=task.doc_to_prefix(doc))
    if not isinstance(prompt, str):
        raise PathpruneError(f"lm-eval task {task.config.task} has several prompts per problem; choose another task")
    return prompt


@contextmanager
def _others_as_shots(task: Any, needed: bool) -> Iterator[Any]:
    """Keep a document out of its own few-shot examples; lm-eval does so only for the evaluated split."""
    if not needed or not hasattr(task, "sampler"):
        yield lambda doc: doc
        return
    theirs = task.sampler
    asked: list[Any] = []

    class Others:
        def sample(self, n: int, **_: Any) -> Sequence[Any]:
            return list(theirs.sample(n=n, eval_doc=asked[-1]))

    def about(doc: Any) -> Any:
        asked.append(doc)
        return doc

    task.sampler = Others()
    try:
        yield about
    finally:
        task.sampler = theirs
