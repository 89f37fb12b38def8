"""Add a Python tool to any engine: a path stops at a call, reads its output, and continues.

The inner engine samples a path in strides, and the path is cut at the token that completes a call. Tokens sampled after it
are dropped: they are neither recorded nor charged, and show only as seconds. An engine that can pause after chosen tokens
samples few of them. The call's output is appended as given tokens; limits count sampled tokens only. If the last token
completes a call, the call is run when the path is resumed.
Every step depends only on the path's tokens, so an interrupted path continues as if uninterrupted, in any process: its
interpreter is rebuilt from its calls, whose recorded output is used.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from harness.api import Path, PathpruneError, Problem, Signal
from harness.tools import bubble
from harness.tools.formats import Format, Malformed, Written, named
from harness.tools.interpreter import UNDONE, Ran
from harness.tools.limits import MIB, Limits
from harness.tools.sandbox import PATHS, SPARES, Call, Sandbox

STRIDE = 64  # tokens sampled between two searches for a call


class ToolEngine:
    """See ``harness.api.Engine``; other attributes are forwarded to the inner engine.

    Args:
        inner: samples the tokens; its limits count all tokens of a path.
        options: those of ``harness.engines.options.TOOLS``.
        sandbox: runs the calls; None for a new one with these options.
        stride: tokens sampled between two searches for a call.

    Raises:
        PathpruneError: if the engine does not provide text, or no tool format is known.
    """

    def __init__(
        self, inner: Any, options: Mapping[str, Any], sandbox: Sandbox | None = None, stride: int = STRIDE
    ) -> None:
        self.inner, self.stride, self.options = inner, stride, dict(options)
        if "text" not in inner.provides:
            raise PathpruneError(
                f"engine {inner.spec['engine']} does not provide text, which tools=python needs; leave out tools"
            )
        asked = options.get("tool_format")
        self._format = named(asked) if asked and not inner.spec.get("chat", {}).get("tools") else None
        limits = Limits(
            **{field: options[option] for option, field in FIELDS.items() if option in options},
            **({"memory": options["tool_memory"] * MIB} if "tool_memory" in options else {}),
        )
        unsafe = bool(options.get("unsafe_tools"))
        self._at_once = int(options.get("tool_paths", PATHS))
        self.sandbox = sandbox or Sandbox(limits, most=self._at_once + SPARES, unsafe=unsafe)
        self.provides = inner.provides
        about = {"limits": asdict(limits), "versions": bubble.versions()} | ({"unsafe": True} if unsafe else {})
        self.spec: Mapping[str, Any] = dict(inner.spec) | {"tools": about | ({"format": asked} if asked else {})}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        return getattr(self.inner, name)

    def without(self, signals: frozenset[Signal]) -> ToolEngine:
        """See ``harness.api.Engine``."""
        inner = self.inner.without(signals) if hasattr(type(self.inner), "without") else self.inner
        if inner is self.inner:
            return self
        lean = copy.copy(self)  # shares the sandbox
        lean.inner, lean.provides = inner, inner.provides
        return lean

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the weights, which tools do not change."""
        return str(self.inner.fingerprint)

    @property
    def rows(self) -> int:
        """Preferred number of concurrent paths: those whose interpreters can all stay alive."""
        return min(int(getattr(self.inner, "rows", self._at_once)), self._at_once)

    @property
    def tool_seconds(self) -> float:
        """Seconds spent in calls so far, including calls that restored a state; concurrent calls are summed."""
        return self.sandbox.seconds

    @property
    def format(self) -> Format:
        """The model's format of tool calls."""
        if self._format is None:
            known: Format | None = getattr(self.inner, "tools", None)
            if known is None:
                raise PathpruneError(
                    f"engine {self.inner.spec['engine']} has no known tool format; name one, such as tool_format=fenced"
                )
            self._format = known
        return self._format

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        """See ``harness.api.Engine``."""
        started = [Path(problem, i, seed) for problem in problems for i in range(n)]
        paths = self._continue(started, max_tokens, store=True)
        return [paths[i : i + n] for i in range(0, len(paths), n)]

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        """See ``harness.api.Engine``; ``max_tokens`` counts sampled tokens."""
        return self._continue(paths, max_tokens, store=False)

    def _draw(self, paths: Sequence[Path], max_tokens: int, store: bool) -> list[Path]:
        """Sample with the inner engine, whose limits count all tokens. ``store`` keeps what a later stride can reuse."""
        if not hasattr(self.inner, "stride"):
            return list(self.inner.resume(paths, max_tokens))
        return list(self.inner.stride(paths, max_tokens, self._rests, store))

    @cached_property
    def _rests(self) -> tuple[int, ...]:
        """Tokens that end a call by themselves. A call that ends with several tokens is found at the end of a stride."""
        words = self.inner.tokenizer.get_vocab()
        return tuple(sorted(i for word, i in words.items() if self.format.closing in word))

    def _continue(self, paths: Sequence[Path], max_tokens: int, store: bool) -> list[Path]:
        """Continue all paths, in groups whose interpreters can all stay alive."""
        self.sandbox.open()  # detects before sampling that a sandbox cannot start
        size = self.rows
        groups = [paths[i : i + size] for i in range(0, len(paths), size)]
        return [longer for group in groups for longer in self._together(group, max_tokens, store)]

    def _together(self, paths: Sequence[Path], max_tokens: int, store: bool) -> list[Path]:
        """Sample and answer calls alternately until all paths have ended."""
        longer = dict(enumerate(paths))
        going = [i for i, p in longer.items() if p.finish == "length" and p.drawn < max_tokens]
        for i in going if hasattr(self.inner, "fits") else ():
            self.inner.fits(paths[i], max_tokens)
        going = self._answered(longer, going)
        while going:
            ends = {i: self._next_look(longer[i], max_tokens) for i in going}
            first = min(ends.values())  # the shortest paths go first, until they have caught up
            group = [i for i in going if ends[i] == first]
            drawn = self._draw([longer[i] for i in group], first, store)
            for i, path in zip(group, drawn, strict=True):
                longer[i] = self._cut(replace(path, given=longer[i].given), len(longer[i].tokens))
            going = [i for i in going if longer[i].finish == "length" and longer[i].drawn < max_tokens]
            going = self._answered(longer, going)
        return [longer[i] for i in range(len(paths))]

    def share(self, problems: Sequence[Problem], known: Sequence[tuple[int, ...]] = ()) -> Any:
        """See ``harness.api.Engine``."""
        return self.inner.share(problems, known)

    def _next_look(self, path: Path, max_tokens: int) -> int:
        """The length at which a path is next searched for calls, in tokens including given ones."""
        stride = (len(path.tokens) // self.stride + 1) * self.stride
        return min(stride, len(path.tokens) + max_tokens - path.drawn, self._room(path.problem))

    def _room(self, problem: Problem) -> int:
        """Tokens left in the model's context after the prompt."""
        context = getattr(self.inner, "context", None)
        return 1 << 40 if context is None else int(context) - int(self.inner.prompt_length(problem))

    def _cut(self, path: Path, before: int) -> Path:
        """A path up to the first call completed after its first ``before`` tokens; the whole path if there is none."""
        found = self._call(path, before)
        if found is None:
            return path
        end = found[0]
        if end == len(path.tokens):
            return replace(path, finish="length")  # its last token may end both a call and a path
        return path.cut(path.drawn - (len(path.tokens) - end), self.inner.decode)

    def _call(self, path: Path, beyond: int) -> tuple[int, Written] | None:
        """The first call completed by a token after the first ``beyond`` tokens, and the end of that token."""
        start = path.given[-1][1] if path.given else 0
        calls = list(self.format.calls(self._spelled(path.tokens[start:])))
        for number, call in enumerate(calls, 1):
            ends = range(start, len(path.tokens) + 1)
            end = ends[bisect_left(ends, number, key=lambda t: self._count(path.tokens[start:t]))]
            if end > beyond:
                return end, call
        return None

    def _count(self, tokens: Sequence[int]) -> int:
        return sum(1 for _ in self.format.calls(self._spelled(tokens)))

    def _spelled(self, tokens: Sequence[int]) -> str:
        """The text, including the special tokens that mark calls."""
        spell = getattr(self.inner, "spell", self.inner.decode)
        return str(spell(tokens))

    def _answered(self, longer: dict[int, Path], going: Sequence[int]) -> list[int]:
        """Run the calls that paths wait for, concurrently. Returns the calls' paths that can continue."""
        waiting = {i: call for i in going if (call := self._call(longer[i], len(longer[i].tokens) - 1)) is not None}
        asked = {
            i: self._asked(longer[i], call[1].code) for i, call in waiting.items() if isinstance(call[1].code, str)
        }
        printed: dict[int, Ran] = dict(zip(asked, self.sandbox.run(list(asked.values())), strict=True))
        printed |= {i: Ran(call[1].code.says) for i, call in waiting.items() if isinstance(call[1].code, Malformed)}
        stuck = set()
        for i, ran in printed.items():
            path = self._given(longer[i], ran.text)
            stuck |= {i} if path is longer[i] else set()
            longer[i] = path
        return [i for i in going if i not in stuck and len(longer[i].tokens) < self._room(longer[i].problem)]

    def _asked(self, path: Path, code: str) -> Call:
        """A call of a path with its earlier calls. Only the recorded outputs show which of their effects were undone."""
        earlier = tuple(
            (n, code) for n, code, output in self._made(path) if isinstance(code, str) and UNDONE not in output
        )
        return Call((path.problem.id, path.seed, path.index), len(path.given) + 1, code, earlier)

    def _made(self, path: Path) -> Iterator[tuple[int, str | Malformed, str]]:
        """Number, code and output of every call of a path."""
        begin = 0
        for number, (start, stop) in enumerate(path.given, 1):
            calls = list(self.format.calls(self._spelled(path.tokens[begin:start])))
            if not calls:
                raise PathpruneError(
                    f"path {path.index} of {path.problem.id} was given tokens behind no call in the format {self.format.name}; "
                    "another format drew it"
                )
            yield number, calls[-1].code, self._spelled(path.tokens[start:stop])
            begin = stop

    def _given(self, path: Path, output: str) -> Path:
        """A path with an output after its call; unchanged if the context has no room for it."""
        text = self._spelled(path.tokens[path.given[-1][1] if path.given else 0 :])
        before, body, after = self.format.given(text, output)
        added = (*self.inner.encode(before), *self.inner.encode(self._plain(body)), *self.inner.encode(after))
        tokens = path.tokens + added
        if len(tokens) >= self._room(path.problem):
            return path
        given = (*path.given, (len(path.tokens), len(tokens)))
        return replace(path, tokens=tokens, text=self.inner.decode(tokens), given=given)

    def _plain(self, text: str) -> str:
        """A text without special tokens, so that printed text can neither end nor begin a turn."""
        tokenizer = getattr(self.inner, "tokenizer", None)
        for token in getattr(tokenizer, "added_tokens_decoder", {}).values():
            if (content := str(token)).strip():
                text = text.replace(content, f"{content[0]} {content[1:]}")
        return text


FIELDS = {"tool_seconds": "seconds", "tool_output": "output"}  # options that set a limit of another name
