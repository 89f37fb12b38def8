"""A page for every registered pruner, from its docstring, its declaration and its published rows."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

from docs.website import values
from harness import registry

QUADRANTS = {
    "internal-learned": "Internal and learned (Type IV)",
    "internal-fixed": "Internal and fixed (Type III)",
    "external-learned": "External and learned (Type II)",
    "external-fixed": "External and fixed (Type I)",
    "control": "Controls and stopping rules",
}
COSTS = {
    "free": "nothing beyond sampling",
    "probe": "a few tokens per prefix, over its cached KV",
    "re-read": "every token of the text, read by another model",
    "generate": "text that another model reads and writes",
}
PARTS = {
    "code": "as the authors' code does, held to its numbers by a test",
    "paper": "as the paper says",
    "adapted": "changed, or not verifiable",
    "ours": "ours",
}
RESULT = ("name", "prefix", "accuracy", "gain", "voted", "saved", "serial")


@dataclass(frozen=True)
class Method:
    """A registered pruner, with what its page says of it."""

    name: str
    plugin: Any

    @property
    def traits(self) -> Any:
        """What it declares."""
        return self.plugin.traits

    @property
    def cls(self) -> type:
        """Its class."""
        return type(self.plugin.pruner)

    @property
    def page(self) -> str:
        """The page's address among the sources of the site."""
        return f"methods/{self.name}.md"

    @property
    def is_rule(self) -> bool:
        """Does it say when to stop sampling, and nothing else?"""
        return hasattr(self.cls, "stops")


def methods() -> list[Method]:
    """All pruners of this distribution, by name."""
    found = [Method(name, registry.pruner(name)) for name in registry.names("pruners")]
    return [m for m in found if m.cls.__module__.startswith("pruners.")]


def page(method: Method, known: set[str]) -> str:
    """The Markdown of a method's page."""
    module = inspect.getdoc(inspect.getmodule(method.cls)) or ""
    lead, _, more = module.partition("\n\n")
    formula, _, details = (inspect.getdoc(method.cls) or "").partition("\n\n")
    parts = [
        f"# {method.name}",
        prose(lead, known - {method.name}),
        _formula(formula, known - {method.name}),
        prose(details, known - {method.name}),
        f"## Background\n\n{prose(more, known - {method.name})}" if more else "",
        "## What it needs and costs",
        _facts(method),
        "## Run it",
        f"```sh\npathprune bench --pruner {_spec(method)}\n```",
        _options(method),
        "## Results so far",
        _results(method),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def index(found: list[Method]) -> str:
    """The page that lists all methods by quadrant."""
    lines = [
        "# Methods",
        "Each page is made from the method's docstring, its declaration and its published rows. "
        "[The taxonomy](../explanation/taxonomy.md) explains the quadrants, and [fidelity](../explanation/rules.md#fidelity) the labels.",
    ]
    for quadrant, title in QUADRANTS.items():
        lines += [f"## {title}", "| method | score or rule | needs | fidelity |\n|---|---|---|---|"]
        lines[-1] += "".join(
            f"\n| [{m.name}]({m.name}.md) | {_cell(_first(m))} | {_needs(m)} | {m.traits.fidelity} |"
            for m in found
            if m.traits.quadrant == quadrant
        )
    return "\n\n".join(lines) + "\n"


def _first(method: Method) -> str:
    """The first sentence of what a method does, on one line."""
    text = " ".join((inspect.getdoc(method.cls) or "").partition("\n\n")[0].split())
    return text if len(text) <= 110 else f"{text[:107].rsplit(' ', 1)[0]} ..."


def _cell(text: str) -> str:
    return prose(text, set()).replace("|", "\\|")


def _needs(method: Method) -> str:
    return ", ".join(sorted(method.traits.needs)) or "token ids"


def _spec(method: Method) -> str:
    """A command's word for it: with a model, where it has none by default."""
    return f"{method.name}:model=DIR" if _reads_a_model_of_yours(method) else method.name


def _reads_a_model_of_yours(method: Method) -> bool:
    """Does it read with a model that nothing here ships or trains?"""
    return "model" in inspect.signature(method.cls).parameters and not method.traits.learns


def _formula(text: str, known: set[str]) -> str:
    """A line of mathematics as it is; a sentence as prose."""
    if not re.match(r"(s_i|P\(\w+\)) = ", text):
        return prose(text, known)
    return f"```text\n{text.replace('``', '')}\n```"


def _facts(method: Method) -> str:
    traits = method.traits
    origins = getattr(method.plugin.pruner, "origins", None)
    facts = {
        "type": QUADRANTS[traits.quadrant],
        "reads": _needs(method),
        "a Check costs": COSTS[traits.cost_class],
        "decides": "its own rule" if traits.decides else "the top k at L",
        "votes": traits.vote,
        "fidelity": traits.fidelity,
        **({f"its {part}": PARTS[origin] for part, origin in origins.parts.items()} if origins else {}),
        "learned": f"yes, on labels of kind {getattr(method.cls, 'labels', 'outcome')}" if traits.learns else "no",
        "schedules of cuts": "replayed from its scores" if getattr(method.cls, "pointwise", False) else "",
        "source": f"``{method.cls.__module__.replace('.', '/')}.py``",
    }
    lines = [f"| {name} | {prose(str(fact), set())} |" for name, fact in facts.items() if fact]
    return "\n".join(["| property | value |", "|---|---|", *lines])


def _options(method: Method) -> str:
    """Options with their defaults, from the constructor."""
    given = [
        p for p in inspect.signature(method.cls).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if not given:
        return "It has no options."
    lines = [f"| `{p.name}` | {'required' if p.default is p.empty else f'`{p.default!r}`'} |" for p in given]
    return "\n".join(["| option | default |", "|---|---|", *lines])


def _results(method: Method) -> str:
    """Published rows of the method and of its options, a table per task, model and engine."""
    data = values.leaderboard()
    mine = data[[any(n.split(":")[0] == method.name for n in row.split(" = ")) for row in data.name]]
    shown = []
    for (task, model, engine), rows in mine.groupby(["task", "model", "engine"], sort=False):
        where = f"Task `{task}`, model `{model}`, engine `{engine}`"
        title = f"{where}; {rows.n.max()} paths sampled, {rows.keep.max()} finished, {rows.problems.max()} problems:"
        shown.append(f"{title}\n\n{values.table(rows.sort_values(['prefix', 'name']), RESULT)}")
    if shown:
        return "\n\n".join([*shown, "[How to read the columns](../results/reading.md)"])
    why = getattr(method.cls, "on_request", "")
    if _reads_a_model_of_yours(method):
        why = "it reads with a model that you name, and the embedded model is too small for one of its own kind"
    return "No row is published" + (f": {prose(why, set())}." if why else ".")


def prose(text: str, known: set[str]) -> str:
    """A docstring as Markdown: code stays code, names of methods and papers become links, the rest is plain text."""
    pieces = re.split(r"(``[^`]+``)", text)
    return "".join(_code(piece[2:-2], known) if i % 2 else _words(piece) for i, piece in enumerate(pieces))


def _code(text: str, known: set[str]) -> str:
    return f"[`{text}`]({text}.md)" if text in known else f"`{text}`"


def _words(text: str) -> str:
    bullets = re.sub(r"(?m)^(\s*)\* ", "\\1\0 ", text)
    plain = (
        re.sub(r"([\\_*\[\]<>|{}])", r"\\\1", bullets).replace("\0", "*").replace("\\<", "&lt;").replace("\\>", "&gt;")
    )
    plain = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", plain)
    return re.sub(r"\bcode (\w[\w-]*/[\w-]+)", r"[code \1](https://github.com/\1)", plain)
