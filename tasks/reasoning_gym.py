"""``reasoning_gym:<dataset>``: unlimited procedural problems, graded by the package's own scorers (arXiv 2505.24760)."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import fields
from functools import cached_property, partial
from importlib import metadata
from typing import Any, TypeVar

from harness.api import PathpruneError, Problem, Sampling, Task, TaskDefaults, UnavailableError
from harness.rng import derive
from harness.text import reason, unknown
from tasks.answers import extract
from tasks.isolated import client
from tasks.isolated.lock import unsupported
from tasks.isolated.server import Request, evaluators_of
from tasks.limits import LateError, within

Made = TypeVar("Made")

SPLITS = ("train", "label", "dev", "test")
SECONDS = 20  # CPU time for generating one problem
MOST, TIMES = 10_000, 1000  # bounds of an option: absolute, and as a multiple of the package's default
BLOCK = 64  # problems that share a generator, so that a late problem does not need all earlier ones
ASK = "Please reason step by step, and put your final answer within \\boxed{}."
NUMBER = re.compile(r"\$?[-+]?(0|[1-9]\d*|[1-9]\d{0,2}(,\d{3})+)(\.\d+)?\$?")  # 0110 is not a number
EXAMPLES = ("example_answer", "possible_answer", "example_correct_answer")  # metadata where many answers are right
_ROWS = re.compile(r"\\begin\{(\w*matrix|array|aligned|gathered)\}(?:\{[clr|]*\})?(.*?)\\end\{\1\}", re.DOTALL)
_TEXT = re.compile(r"\\(?:text|texttt|textbf|mathrm|mathtt|mathbf|verb)\s*\{([^{}]*)\}")
_ESCAPED = re.compile(r"\\([_%&#{}$ ])")


class ReasoningGym(Task):
    """A dataset of reasoning-gym. Options other than ``seed`` are the dataset's own, e.g. ``max_terms=2``.

    The answer is the content of the last \\boxed{} (or the text after "the answer is"). Only a score of 1 by the dataset's scorer
    is right; partial credit is wrong. Numbers vote in a canonical form, any other answer (an expression, a list, a grid) as written,
    line by line, without surrounding LaTeX. A number that equals the package's answer is graded in the package's notation. If
    the package gives only an example answer, that is the gold answer; two datasets (boxnet, rush_hour) give neither.
    Each split has its own seeds, so splits share no problems, unless a dataset has few distinct problems at all.

    Some scorers evaluate an answer as Python, others raise on unexpected answers or never finish. All of them run
    in a process that can only compute (``tasks.isolated``). An answer is wrong if it raises there, needs more than 5 seconds of CPU
    time or 1 GiB, exceeds 100,000 characters, or ends the process. Scorers can evaluate only literals and formulas. On systems
    without such a process (other than Linux), datasets with an evaluating scorer are refused.
    """

    def __init__(self, dataset: str, seed: int = 0, **config: Any) -> None:
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise PathpruneError(f"reasoning_gym:{dataset}: seed is a whole number, not {seed!r}")
        self.dataset, self.seed, self.config = dataset, seed, config
        self.name = f"reasoning_gym-{dataset}"
        recipe = json.dumps([dataset, seed, config, self._package[1]], sort_keys=True)
        first = self._made("test", 0, 1)[0]  # detects invalid options early
        # Version 2 changed how answers other than whole numbers are read.
        grading = 1 if str(first["answer"]).lstrip("-").isdigit() else 2
        self.version = f"{grading}.{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
        self.defaults = TaskDefaults(
            model="smollm2",
            sampling=Sampling(temperature=0.6, top_p=0.95, top_k=40),
            max_tokens=512,
            problems=100,
            prefixes=(32, 64),
        )

    @cached_property
    def _package(self) -> tuple[Any, str]:
        """(module, version): the version decides the problems."""
        try:
            import reasoning_gym
        except ImportError as error:
            raise UnavailableError(
                "tasks of reasoning_gym need their package: pip install 'pathprune[reasoning-gym]'"
            ) from error
        return reasoning_gym, metadata.version("reasoning-gym")

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        if split not in SPLITS:
            raise PathpruneError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        last = start + (self.defaults.problems if n is None else n)
        return [self._problem(split, i) for i in range(start, last)]

    def answer(self, text: str) -> str | None:
        extracted = extract(text)
        if extracted is None:
            return None
        written = as_text(extracted)
        return decimal(written) if NUMBER.fullmatch(written) else written or None

    def correct(self, answer: str | None, problem: Problem) -> bool:
        if answer is None:
            return False
        if (problem.id, answer) not in self._judged:
            split, index = problem.id.rsplit("-", 2)[1:]
            self._judged[problem.id, answer] = self._judge(split, int(index), answer)
        return self._judged[problem.id, answer]

    def _judge(self, split: str, index: int, answer: str) -> bool:
        entry = self._block(split, index)[index % BLOCK]
        gold = self._gold(entry)
        if NUMBER.fullmatch(answer) and NUMBER.fullmatch(gold) and decimal(answer) == decimal(gold):
            answer = gold
        if unsupported() is None:
            options = self._options(split, index // BLOCK, BLOCK)
            return client.right(Request(self.dataset, options, entry, answer))
        try:
            return bool(self._dataset(split, index // BLOCK, BLOCK).score_answer(answer, entry) >= 1)
        except Exception:  # as in the isolated process
            return False

    @cached_property
    def _judged(self) -> dict[tuple[str, str], bool]:
        return {}

    def _problem(self, split: str, index: int) -> Problem:
        entry = self._block(split, index)[index % BLOCK]
        question = f"{entry['question'].strip()}\n\n{ASK}"
        return Problem(f"{self.name}-{split}-{index:06d}", question, self._gold(entry))

    @staticmethod
    def _gold(entry: dict[str, Any]) -> str:
        """The package's answer, or its example answer, as text; "" if it has neither."""
        metadata = entry.get("metadata") or {}
        given = next((v for v in (entry["answer"], *map(metadata.get, EXAMPLES)) if v is not None), "")
        return given if isinstance(given, str) else json.dumps(given)

    def _block(self, split: str, index: int) -> list[dict[str, Any]]:
        key = (split, index // BLOCK)
        if key not in self._blocks:
            self._blocks[key] = self._made(*key, BLOCK)
        return self._blocks[key]

    @cached_property
    def _blocks(self) -> dict[tuple[str, int], list[dict[str, Any]]]:
        return {}

    def _made(self, split: str, block: int, size: int) -> list[dict[str, Any]]:
        """Generate a block of problems; the package's errors are reported together with its options."""
        dataset = self._dataset(split, block, size)
        try:
            return [self._in_time(SECONDS, partial(dataset.__getitem__, i)) for i in range(size)]
        except Exception as error:
            raise self._unfit(error) from error

    def _in_time(self, seconds: float, make: Callable[[], Made]) -> Made:
        """Call ``make`` with a limit on CPU time, since some options never finish."""
        try:
            with within(seconds):
                return make()
        except LateError:
            raise TimeoutError(f"more than {seconds} seconds of CPU time") from None

    def _dataset(self, split: str, block: int, size: int) -> Any:
        module = self._package[0]
        if self.dataset not in module.factory.DATASETS:
            from difflib import get_close_matches

            near = get_close_matches(self.dataset, module.factory.DATASETS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise PathpruneError(f"reasoning_gym has no dataset {self.dataset!r}{hint}")
        scorer, options = module.factory.DATASETS[self.dataset]
        known = [field.name for field in fields(options) if field.name not in ("seed", "size")]
        for name, value in self.config.items():
            if name not in known:
                raise PathpruneError(unknown(f"option of reasoning_gym:{self.dataset}", name, ["seed", *known]))
            self._hold(name, value, getattr(options, name, None))
        why = unsupported()
        if why and evaluators_of(scorer):
            raise PathpruneError(
                f"reasoning_gym:{self.dataset} evaluates answers as Python and needs an unprivileged process for grading; {why}"
            )
        try:
            made = partial(module.create_dataset, self.dataset, **self._options(split, block, size))
            return self._in_time(size * SECONDS, made)
        except Exception as error:
            raise self._unfit(error) from error

    def _hold(self, name: str, value: Any, usual: Any) -> None:
        """Check that an option is a number for which problems can be generated in reasonable time. The package does not
        check this."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return
        if isinstance(value, float) and not math.isfinite(value):
            raise PathpruneError(f"reasoning_gym:{self.dataset}: {name} is {value}, not a number")
        most = max(MOST, TIMES * abs(usual)) if isinstance(usual, int | float) else MOST
        if abs(value) > most:
            raise PathpruneError(
                f"reasoning_gym:{self.dataset}: problems with {name}={value} take too long to generate; give {most:,} or less"
            )

    def _unfit(self, error: Exception) -> PathpruneError:
        given = ", ".join(f"{name}={value}" for name, value in self.config.items()) or "no options"
        return PathpruneError(f"reasoning_gym:{self.dataset} cannot be made with {given} ({reason(error)})")

    def _options(self, split: str, block: int, size: int) -> dict[str, Any]:
        """The package's options for a block of problems."""
        seed = derive("reasoning_gym", self.dataset, self.seed, split, block) % 2**31
        return {"seed": seed, "size": size, **self.config}


def as_text(written: str) -> str:
    """An answer without surrounding LaTeX and with one line per row, as scorers expect it."""
    text = _ROWS.sub(lambda rows: re.sub(r"[ \t]*&[ \t]*", " ", rows[2]), written)
    text = _ESCAPED.sub(r"\1", _TEXT.sub(r"\1", re.sub(r"[ \t]*\\\\[ \t]*\n?", "\n", text)))
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def decimal(number: str) -> str:
    """The canonical decimal notation of a number."""
    plain = number.replace("$", "").replace(",", "").removeprefix("+")
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if plain == "-0" else plain
