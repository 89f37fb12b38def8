"""Text input and output of a model: prompts, chat templates, suffixes and context limits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from harness.api import TURN, Path, PathpruneError, Problem
from harness.engines.identity import first_line
from harness.tools import formats
from harness.tools.formats import Format

# Names of switches in chat templates: Qwen3 and SmolLM3, DeepSeek-V3.1 and Granite; gpt-oss.
SWITCHES = {"thinking": ("enable_thinking", "thinking"), "effort": ("reasoning_effort",)}
THINKING = re.compile(
    r"[<\[|]+/?[\w:]*think\w*[|\]>]+", re.IGNORECASE
)  # special tokens around thinking, as Magistral's [THINK]
OPENING = re.compile(r"[<\[|]+[\w:]*think\w*[|\]>]+", re.IGNORECASE)
TURNS = re.compile(rf"{TURN}(system|user|assistant){TURN}")
TAG = 16  # maximum tokens of such a tag and the white space after it at the end of a prompt
CLOSING = re.compile(r"[<\[◁|]+/(?:\w{1,12}:)?think\w*[|\]>▷]+|<\|end_of_(?:thought|thinking)\|>", re.IGNORECASE)
HARMONY = "<|end|><|start|>assistant<|channel|>final<|message|>"  # gpt-oss: from thinking to the answer


class Prompts:
    """The base of every engine with a Hugging Face tokenizer.

    Args:
        tokenizer: Hugging Face's.
        context: the model's context length in tokens.
        spec: the engine's. Its ``chat`` entry holds the prompt options: ``chat`` False omits the model's chat template, the
            others are switches of the template.

    Raises:
        PathpruneError: the template lacks a switch or cannot be used.
    """

    bound = ""  # why the usable context is shorter than the model's

    def __init__(self, tokenizer: Any, context: int, spec: Mapping[str, Any]) -> None:
        options = dict(spec.get("chat", {}))
        self.tokenizer, self.context, self.name = tokenizer, context, str(spec["model"])
        wanted = options.pop("chat", None)
        wants_tools, tool_format = options.pop("tools", None), options.pop("tool_format", None)
        template = _template(tokenizer.chat_template, self.name) if wanted is not False else ""
        if wanted and not template:
            raise PathpruneError(f"model {self.name} has no chat template; leave out chat=true")
        self.chat = bool(template)
        self.switches = _switches(template, options, self.name)
        self.closing = _closing(template)
        self.tools: Format | None = None  # the format of tool calls, if there are tools
        if wants_tools:
            self.tools = formats.named(tool_format) if tool_format else formats.of_template(template, self.name)
            self.switches |= formats.variables(self.tools, template, self.name)
            self.tools = self._as_rendered(self.tools)
        self._hidden = _hidden(tokenizer)
        self.ids = lru_cache(maxsize=65536)(
            self._encode
        )  # a problem's prompt to its token ids, as the model reads them
        self._encode("1 + 1")  # refuse a failing template before sampling
        if self.chat and self._turn("1 + 1", tokenize=False) == self._turn("2 * 3", tokenize=False):
            raise PathpruneError(
                f"the chat template of {self.name} omits the user's message; fix the model's chat_template.jinja, or use "
                "chat=false to omit the template"
            )

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens, without special tokens except those that enclose thinking."""
        if self._hidden is None:
            return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))
        return str(self.tokenizer.decode([t for t in tokens if t not in self._hidden], skip_special_tokens=False))

    def spell(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special ones included, because these delimit tool calls."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=False))

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text that continues others, without special tokens."""
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def prompt_length(self, problem: Problem) -> int:
        """Number of tokens of a problem's prompt, chat template included."""
        return len(self.ids(problem.prompt))

    def thinking(self, problem: Problem) -> int:
        """See ``harness.api.Engine``."""
        ids = self.ids(problem.prompt)
        ends = (str(self.tokenizer.decode(list(ids[-n:]), skip_special_tokens=False)) for n in range(1, TAG + 1))
        return next((n for n, text in enumerate(ends, 1) if OPENING.fullmatch(text.strip())), 0) if self.chat else 0

    def sequence(self, path: Path) -> tuple[int, ...]:
        """Token ids of a path's prompt and generated tokens."""
        return self.ids(path.problem.prompt) + path.tokens

    def fits(self, path: Path, tokens: int) -> None:
        """Refuse a path whose prompt leaves no room for this many generated tokens.

        Raises:
            PathpruneError: names the problem, shortened to 80 characters.
        """
        needed = self.prompt_length(path.problem) + tokens
        if needed > self.context:
            name = path.problem.id if len(path.problem.id) < 80 else path.problem.id[:77] + "..."
            raise PathpruneError(
                f"problem {name}: prompt and {tokens} new tokens need {needed} positions, the model "
                f"has {self.context}{' ' * bool(self.bound)}{self.bound}; choose a model with a longer context"
            )

    def forget(self) -> None:
        """Clear the cache of prompts, for long-running processes."""
        self.ids.cache_clear()

    def _turn(self, prompt: str, **options: Any) -> Any:
        """Apply the model's chat template, which transformers runs in Jinja's sandbox."""
        turns = turns_of(prompt)
        if self.tools is not None and self.tools.name == formats.FENCED.name:
            own = f"\n\n{turns.pop(0)['content']}" if turns[0]["role"] == "system" else ""
            turns.insert(0, {"role": "system", "content": formats.TIR + own})
        return self._templated(turns, **options)

    def _as_rendered(self, tools: Format) -> Format:
        """A tool format with the delimiters that the model's template puts around tool output."""
        if tools.name != formats.HERMES_FORMAT.name or not self.chat:
            return tools
        call = "<tool_call>CALL</tool_call>"
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": call}]
        told = str(
            self._templated([*turns, {"role": "tool", "name": formats.NAME, "content": formats.MARK}], tokenize=False)
        )
        called, found, after = told.rpartition(formats.MARK)
        if not found or call not in called:
            raise PathpruneError(
                f"the chat template of {self.name} does not support tool output; use tool_format=fenced or leave out tools"
            )
        return replace(tools, before=called.rpartition(call)[2], after=after)

    def _templated(self, turns: Sequence[Mapping[str, str]], **options: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, **self.switches, **options)
        except Exception as error:  # any error is the template's fault
            raise PathpruneError(
                f"the chat template of {self.name} cannot be used ({first_line(error)}); fix the model's chat_template.jinja or "
                "tokenizer_config.json, or use chat=false to omit the template"
            ) from error

    def _bare(self, prompt: str) -> list[int]:
        """Ids of a prompt without a template. An end token that the tokenizer appends is dropped: it would end the path."""
        ids = list(self.tokenizer(prompt).input_ids)
        added = len(ids) - len(self.tokenizer(prompt, add_special_tokens=False).input_ids)
        ends = {self.tokenizer.eos_token_id, self.tokenizer.sep_token_id} - {None}
        while added > 0 and len(ids) > 1 and ids[-1] in ends:
            ids, added = ids[:-1], added - 1
        return ids

    def _encode(self, prompt: str) -> tuple[int, ...]:
        """The ids of a prompt, followed by those of the prefilled start of its answer."""
        asked, begun = begun_of(prompt)
        ids = list(self._turn(asked, return_dict=False) if self.chat else self._bare(asked))
        ids += self.encode(begun) if begun else ()
        if not ids:
            raise PathpruneError(
                f"model {self.name} produces no tokens for the prompt {prompt[:40]!r}; fix its chat template or tokenizer"
            )
        return tuple(ids)


def turns_of(prompt: str) -> list[dict[str, str]]:
    """The turns of a prompt, in the format of chat templates."""
    first, *rest = TURNS.split(prompt)
    turns = [{"role": role, "content": text} for role, text in zip(rest[::2], rest[1::2], strict=True)]
    return [{"role": "user", "content": first}, *turns] if first or not turns else turns


def begun_of(prompt: str) -> tuple[str, str]:
    """(a prompt without a final assistant turn, the text of that turn, with which the answer starts)."""
    last = next(reversed(list(TURNS.finditer(prompt))), None)
    if last is None or last[1] != "assistant":
        return prompt, ""
    return prompt[: last.start()], prompt[last.end() :]


def _template(template: Any, model: str) -> str:
    """A tokenizer's chat template, the default one if it has several; "" if it has none.

    Raises:
        PathpruneError: it has several, and none is named default.
    """
    if isinstance(template, Mapping):
        if "default" not in template:
            raise PathpruneError(
                f"model {model} has chat templates named {', '.join(sorted(template))} but none named default; use chat=false to "
                "omit them, or write the right one to chat_template.jinja"
            )
        template = template["default"]
    return str(template or "")


def _closing(template: str) -> str:
    """The text that ends a model's thinking in its chat template; "" if there is none."""
    if "<|channel|>" in template:
        return HARMONY
    tag = CLOSING.search(template)
    return f"\n{tag[0]}\n\n" if tag else ""


def _hidden(tokenizer: Any) -> frozenset[int] | None:
    """Ids of the special tokens to hide if some are shown; None if none is shown (the tokenizer then skips them itself)."""
    special = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    shown = {i for i, token in special.items() if THINKING.fullmatch(token)}
    return frozenset(special) - shown if shown else None


def _switches(template: str, options: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Values for the template's variables. A switch that the template lacks would have no effect, so it is refused."""
    variables: dict[str, Any] = {}
    for option, value in options.items():
        present = [name for name in SWITCHES[option] if re.search(rf"\b{name}\b", template)]
        if not present:
            raise PathpruneError(
                f"the chat template of {model} has no switch for {option} ({' or '.join(SWITCHES[option])}); leave out {option}={value}"
            )
        variables |= dict.fromkeys(present, value)
    return variables


def end_tokens(generation: Any, tokenizer: Any, vocabulary: int, name: str) -> list[int]:
    """Ids that end a path: the generation configuration's and the tokenizer's.

    Args:
        generation: the model's generation configuration.
        tokenizer: Hugging Face's.
        vocabulary: size of the model's vocabulary.
        name: the model's, for errors.

    Raises:
        PathpruneError: there is none, or one is outside the vocabulary, so paths would never end.
    """
    ends = generation.eos_token_id
    own = tokenizer.eos_token_id
    ends = [*ends, *([own] if own is not None and own < vocabulary else [])] if isinstance(ends, list) else [ends, own]
    known = {e for e in ends if e is not None}
    if not known:
        raise PathpruneError(
            f"model {name} names no end-of-sequence token, so no path would end; set eos_token_id in generation_config.json"
        )
    if wrong := [e for e in known if isinstance(e, bool) or not isinstance(e, int) or not 0 <= e < vocabulary]:
        raise PathpruneError(
            f"model {name}: eos_token_id {wrong[0]} is not one of its {vocabulary} tokens; fix generation_config.json or "
            "config.json"
        )
    return sorted(known)
