"""Pruned rollouts for reinforcement learning: launch more paths than a group needs, and finish only the selected ones.

``Rollouts`` is a ``rollout_func`` for TRL's ``GRPOTrainer``. The group of each prompt is sampled by Launch up to a prefix,
Check by a pruner, and Resume of the paths that ``pick`` selects, with the trainer's current weights. The pruner's
checkpoint belongs to the weights before training and is not trained further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np

from harness import registry
from harness.api import Check, Cost, Path, PathpruneError, Problem, Sampling, Task
from harness.engines import identity
from harness.ledger import Metered
from harness.loop import check, prepare, select
from harness.rng import derive, generator
from harness.text import unknown

Pick = Literal["best", "ends"]
Prompt = str | list[dict[str, Any]]


def best(scores: np.ndarray, keep: int) -> tuple[int, ...]:
    """The ``keep`` highest scores, ties to the lower index."""
    return select(scores, [False] * len(scores), keep, "count")


def ends(scores: np.ndarray, keep: int) -> tuple[int, ...]:
    """Half of ``keep`` from the highest scores and half from the lowest; an odd one from the highest.

    A group of right paths only has zero advantage, so nothing can be learned from it.
    """
    order = np.argsort(-scores, kind="stable")
    low = keep // 2
    return tuple(sorted(int(i) for i in (*order[: keep - low], *order[len(order) - low :])))


PICKS: dict[str, Callable[[np.ndarray, int], tuple[int, ...]]] = {"best": best, "ends": ends}


@dataclass(frozen=True)
class Spent:
    """The cost of one call by the trainer: its ``step``, and the numbers of groups, ``launched`` and ``kept`` paths."""

    step: int
    groups: int
    launched: int
    kept: int
    cost: Cost

    def row(self) -> dict[str, float]:
        """The values as one flat row of a table."""
        counts = {name: value for name, value in vars(self).items() if name != "cost"}
        return counts | asdict(self.cost)


class Rollouts:
    """A ``rollout_func`` that prunes.

    Args:
        pruner: spec of a method that scores prefixes (``stop``, ``random``); None: no pruning.
        launch: paths launched per group; the trainer's ``num_generations`` of them are finished.
        prefix: prefix length in generated tokens.
        pick: ``best`` finishes the highest scores, ``ends`` half of the highest and half of the lowest.
        model: the model before training, for which a learned method has a checkpoint; None: the name of the trainer's model.
        task: parses answers for methods that need text; None: such methods cannot be used.
        seed: of all random streams.

    Raises:
        PathpruneError: the pruner has its own decision rule, ``pick`` is unknown, or a number is out of range.
    """

    def __init__(
        self,
        pruner: str | None = None,
        launch: int | None = None,
        prefix: int | None = None,
        pick: Pick = "best",
        model: str | None = None,
        task: Task | str | None = None,
        seed: int = 0,
    ) -> None:
        self.plugin = registry.pruner(pruner) if pruner else None
        if self.plugin is not None and self.plugin.traits.decides:
            raise PathpruneError(
                f"{pruner} decides by a rule of its own; choose a pruner that scores prefixes, such as stop"
            )
        if pick not in PICKS:
            raise PathpruneError(unknown("pick", pick, list(PICKS)))
        if pruner and (launch is None or prefix is None or launch < 1 or prefix < 1):
            raise PathpruneError(f"{pruner} needs launch (paths per group) and prefix (tokens), each 1 or more")
        self.launch, self.prefix, self.pick = launch, prefix, PICKS[pick]
        self.model, self.seed = model, seed
        self.task = registry.task(task) if isinstance(task, str) else task
        self.ledger: list[Spent] = []
        self._engine: Any = None
        self._attached = False

    def __call__(self, prompts: Sequence[Prompt], trainer: Any) -> dict[str, Any]:
        """Sample one path per prompt, in order; TRL repeats a prompt once for each path of its group.

        Returns:
            ``prompt_ids`` and ``completion_ids``, lists of token ids, and ``logprobs``, the log-probability of each generated
            token, or None if the trainer samples with a temperature or filters.

        Raises:
            PathpruneError: a group is larger than ``launch``, or the pruner has no checkpoint for the model.
        """
        engine = self._engine_of(trainer)
        engine.forget()
        groups = [(prompt, len([*same])) for prompt, same in groupby(prompts)]
        ledger = Check(generator(self.seed, "rollouts", len(self.ledger)))
        with _sampling(engine.model):
            if not self._attached:
                self._attach(engine)
                self._attached = True
            paths, launched = self._sampled(engine, ledger, groups, trainer)
        self.ledger.append(Spent(trainer.state.global_step, len(groups), launched, len(paths), ledger.cost))
        return {
            "prompt_ids": [list(engine.ids(p.problem.prompt)) for p in paths],
            "completion_ids": [list(p.tokens) for p in paths],
            "logprobs": [_logprobs(p) for p in paths] if _is_plain(engine.sampling) else None,
        }

    def sample(self, problems: Sequence[Problem], n: int, trainer: Any) -> list[Path]:
        """Sample n whole paths per problem from the current policy, to evaluate it. They are neither pruned nor charged."""
        engine = self._engine_of(trainer)
        engine.forget()
        with _sampling(engine.model):
            for problem in problems:
                engine.register(problem.prompt)
            groups = engine.launch(problems, n, trainer.args.max_completion_length, derive(self.seed, "sample"))
        return [path for paths in groups for path in paths]

    def _sampled(
        self, engine: Any, ledger: Check, groups: Sequence[tuple[Prompt, int]], trainer: Any
    ) -> tuple[list[Path], int]:
        """Finished paths of all groups, in order, and the number of launched paths."""
        meter = Metered(engine, ledger)
        limit, call = trainer.args.max_completion_length, len(self.ledger)
        problems = [Problem(f"rollout-{call}-{i}", engine.register(prompt), "") for i, (prompt, _) in enumerate(groups)]
        seed = derive(self.seed, "rollouts", trainer.accelerator.process_index, call)
        if self.plugin is None:
            whole = [Path(q, i, seed) for q, (_, size) in zip(problems, groups, strict=True) for i in range(size)]
            return meter.resume(whole, limit), len(whole)
        counts = [self._launches(size, trainer) for _, size in groups]
        prefixes: dict[str, list[Path]] = {}
        for count in set(counts):
            alike = [q for q, n in zip(problems, counts, strict=True) if n == count]
            launched = meter.launch(alike, count, min(self.prefix or limit, limit), seed)
            prefixes |= {q.id: paths for q, paths in zip(alike, launched, strict=True)}
        kept = [
            path
            for problem, (_, size) in zip(problems, groups, strict=True)
            for path in self._picked(engine, ledger, prefixes[problem.id], size)
        ]
        return meter.resume(kept, limit), sum(counts)

    def _launches(self, size: int, trainer: Any) -> int:
        """Paths to launch for ``size`` paths of a group; a process with part of a group launches its share."""
        model = trainer.model
        whole = trainer.num_generations if model.training else trainer.num_generations_eval
        assert self.launch is not None
        count = -(-self.launch * size // whole)
        if count < size:
            raise PathpruneError(
                f"a group has {whole} paths but only launch={self.launch} are launched; set launch to {whole} or more"
            )
        return count

    def _picked(self, engine: Any, ledger: Check, prefixes: Sequence[Path], size: int) -> list[Path]:
        """The paths of a group that go on."""
        assert self.plugin is not None
        scores, spent = check(self.plugin.pruner, prefixes, engine, self.task, self.seed)  # type: ignore[arg-type]
        ledger.charge(spent.cost)
        return [prefixes[i] for i in self.pick(scores, size)]

    def _engine_of(self, trainer: Any) -> Any:
        """The engine over the trainer's weights, created at the first call."""
        base = _base(trainer)
        if self._engine is None or self._engine.model is not base:
            self._engine, self._attached = _engine(trainer, base, self.model), False
        return self._engine

    def _attach(self, engine: Any) -> None:
        """Load the pruner's weights, at the first call."""
        from harness.learn import checkpoints

        if (plugin := self.plugin) is None:
            return
        if "text" in plugin.traits.needs and self.task is None:
            raise PathpruneError(f"{plugin.name} reads text; give the task that parses its answers: task=...")
        if lacking := checkpoints.lacking_signals(plugin, engine):
            raise PathpruneError(f"pruner {plugin.name} {lacking}")
        checkpoints.attach(plugin, engine)
        prepare(plugin.pruner, engine, self.task)  # type: ignore[arg-type]


@contextmanager
def _sampling(model: Any) -> Iterator[None]:
    """Put the model in evaluation mode. Afterwards its mode and the trainable parameters, which an adapter freezes, are restored."""
    training, learned = model.training, [p for p in model.parameters() if p.requires_grad]
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        for parameter in learned:
            parameter.requires_grad_(True)


def _logprobs(path: Path) -> list[float]:
    assert path.stats is not None
    return [float(value) for value in path.stats.logprob]


def _is_plain(sampling: Sampling) -> bool:
    """Whether paths are sampled from the model's own distribution, whose log-probabilities are recorded."""
    return sampling == replace(sampling, temperature=1.0, top_p=1.0, top_k=0)


def _base(trainer: Any) -> Any:
    """The trainer's model without its distribution wrapper, PEFT layers included."""
    unwrapped = trainer.accelerator.unwrap_model(trainer.model)
    return unwrapped.get_base_model() if hasattr(unwrapped, "get_base_model") else unwrapped


def _engine(trainer: Any, base: Any, model: str | None) -> Any:
    """An engine over the trainer's model that tokenizes prompts like the trainer."""
    from harness.engines.hf.engine import HFEngine

    class Policy(HFEngine):
        """The policy in training; its prompts are texts or chat turns."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self._registered: dict[str, Prompt] = {}
            super().__init__(*args, **options)

        def register(self, prompt: Prompt) -> str:
            """Register a prompt; returns the name by which the engine looks up its ids."""
            name = prompt if isinstance(prompt, str) else repr(prompt)
            self._registered[name] = prompt
            return name

        def _encode(self, prompt: str) -> tuple[int, ...]:
            known = self._registered.get(prompt, prompt)
            if isinstance(known, str):
                return tuple(self.tokenizer(text=known)["input_ids"])
            chat = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
            return tuple(self.tokenizer.apply_chat_template(known, **chat, **trainer.chat_template_kwargs)["input_ids"])

    args = trainer.args
    sampling = Sampling(float(args.temperature), float(args.top_p), int(args.top_k or 0))
    where = identity.locate(model or str(base.config._name_or_path))
    spec = {
        "engine": "hf",
        "model": where,
        "fingerprint": identity.fingerprint(where, identity.commit(where, None)),
        "dtype": str(base.dtype).removeprefix("torch."),
        "chat": {"chat": False},
    }
    return Policy(where, spec, sampling, device=str(base.device), loaded=(base, trainer.processing_class))
