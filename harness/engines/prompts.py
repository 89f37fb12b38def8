"""Text in and out of a model: prompts, chat templates, suffixes, and whether they fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from harness.api import Path, PathpruneError, Problem

# What chat templates call a switch: Qwen3 and SmolLM3, DeepSeek-V3.1 and Granite; gpt-oss.
SWITCHES = {"thinking": ("enable_thinking", "thinking"), "effort": ("reasoning_effort",)}


class Prompts:
    """What every engine with a Hugging Face tokenizer shares; ``context`` is its longest sequence in tokens.

    ``chat`` False asks the bare prompt of a model that has a chat template; ``switches`` are the template's variables.
    """

    def __init__(self, tokenizer: Any, context: int, spec: Mapping[str, Any]) -> None:
        asked = dict(spec.get("chat", {}))
        self.tokenizer, self.context = tokenizer, context
        self.chat = bool(asked.pop("chat", True)) and bool(tokenizer.chat_template)
        self.switches = _switches(str(tokenizer.chat_template) if self.chat else "", asked, str(spec["model"]))
        self.ids = lru_cache(maxsize=65536)(self._encode)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def prompt_length(self, problem: Problem) -> int:
        return len(self.ids(problem.prompt))

    def sequence(self, path: Path) -> tuple[int, ...]:
        """Prompt and generated tokens."""
        return self.ids(path.problem.prompt) + path.tokens

    def fits(self, path: Path, tokens: int) -> None:
        """Refuse a prompt that leaves no room for this many generated tokens."""
        need = self.prompt_length(path.problem) + tokens
        if need > self.context:
            name = path.problem.id if len(path.problem.id) < 80 else path.problem.id[:77] + "..."
            raise PathpruneError(
                f"problem {name}: prompt and {tokens} new tokens need {need} positions, the model "
                f"has {self.context}; choose a model with a longer context"
            )

    def _encode(self, prompt: str) -> tuple[int, ...]:
        if not self.chat:
            return tuple(self.tokenizer(prompt).input_ids)
        turns = [{"role": "user", "content": prompt}]
        ids = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False, **self.switches)
        return tuple(ids)


def _switches(template: str, asked: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Values for the template's own variables; a switch that it does not have would change nothing, so is refused."""
    out: dict[str, Any] = {}
    for option, value in asked.items():
        known = [name for name in SWITCHES[option] if re.search(rf"\b{name}\b", template)]
        if not known:
            raise PathpruneError(
                f"the chat template of {model} has no switch for {option} ({' or '.join(SWITCHES[option])}); leave out {option}={value}"
            )
        out |= dict.fromkeys(known, value)
    return out


def end_tokens(generation: Any, tokenizer: Any) -> list[int]:
    """Tokens that end a path: the generation configuration's, and the tokenizer's where that names a single one."""
    ends = generation.eos_token_id
    ends = ends if isinstance(ends, list) else [ends, tokenizer.eos_token_id]
    return sorted({e for e in ends if e is not None})
