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
    "probe": "a few tokens per prefix, over its KV cache",
    "re-read": "every token of the text, which another model reads",
    "generate": "the tokens that another model reads and writes",
}
PARTS = {
    "code": "as in the authors' code; a test compares the numbers",
    "paper": "as described in the paper",
    "adapted": "changed or not verifiable",
    "ours": "ours",
}
SECTION = re.compile(r"(?m)^(Args|Raises):$")
RESULT = ("name", "prefix", "accuracy", "gain", "voted", "saved", "serial")


@dataclass(frozen=True)
class Method:
    """A registered pruner and the content of its page."""

    name: str
    plugin: Any

    @property
    def traits(self) -> Any:
        """The declarations of its class."""
        return self.plugin.traits

    @property
    def cls(self) -> type:
        """Its class."""
        return type(self.plugin.pruner)

    @property
    def page(self) -> str:
        """The file of its page within the site."""
        return f"methods/{self.name}.md"

    @property
    def is_rule(self) -> bool:
        """Is it a stopping rule?"""
        return hasattr(self.cls, "stops")


def methods() -> list[Method]:
    """All pruners of this distribution, sorted by name."""
    found = [Method(name, registry.pruner(name)) for name in registry.names("pruners")]
    return [m for m in found if m.cls.__module__.startswith("pruners.")]


def page(method: Method, known: set[str]) -> str:
    """The Markdown of a method's page."""
    module = inspect.getdoc(inspect.getmodule(method.cls)) or ""
    lead, _, more = module.partition("\n\n")
    formula, _, details = _text(method.cls).partition("\n\n")
    linked = known - {method.name} - {p.name for p in _parameters(method)}
    parts = [
        f"# {method.name}",
        prose(lead, linked),
        _formula(formula, linked),
        prose(details, linked),
        f"## Background\n\n{prose(more, linked)}" if more else "",
        "## What it needs and costs",
        _facts(method),
        "## Run it",
        f"```sh\npathprune bench --pruner {_spec(method)}\n```",
        _options(method, linked),
        _errors(method),
        "## Results so far",
        _results(method),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def index(found: list[Method]) -> str:
    """The page that lists all methods by quadrant."""
    lines = [
        "# Methods",
        "Each page is generated from the docstring, the declarations and the published rows of a method. "
        "[The taxonomy](../explanation/taxonomy.md) explains the quadrants, and [the rules](../explanation/rules.md#fidelity) explain the fidelity labels.",
    ]
    for quadrant, title in QUADRANTS.items():
        lines += [f"## {title}", "| method | score or rule | needs | fidelity |\n|---|---|---|---|"]
        lines[-1] += "".join(
            f"\n| [{m.name}]({m.name}.md) | {prose(_first(m), set())} | {_needs(m)} | {m.traits.fidelity} |"
            for m in found
            if m.traits.quadrant == quadrant
        )
    return "\n\n".join(lines) + "\n"


def _first(method: Method) -> str:
    """The first paragraph of a method's docstring, on one line."""
    text = " ".join(_text(method.cls).partition("\n\n")[0].split())
    return text if len(text) <= 110 else f"{text[:107].rsplit(' ', 1)[0]} ..."


def _needs(method: Method) -> str:
    return ", ".join(sorted(method.traits.needs)) or "token ids"


def _spec(method: Method) -> str:
    """The method as a command names it, with a model if it has no default one."""
    return f"{method.name}:model=DIR" if _reads_a_model_of_yours(method) else method.name


def _reads_a_model_of_yours(method: Method) -> bool:
    """Does it need a model that is neither distributed nor trained here?"""
    return "model" in inspect.signature(method.cls).parameters and not method.traits.learns


def _formula(text: str, known: set[str]) -> str:
    """A formula as a block of code, a sentence as prose."""
    if not re.match(r"(s_i|P\(\w+\)) = ", text):
        return prose(text, known)
    return f"```text\n{text.replace('``', '')}\n```"


def _facts(method: Method) -> str:
    traits = method.traits
    origins = getattr(method.plugin.pruner, "origins", None)
    facts = {
        "type": QUADRANTS[traits.quadrant],
        "reads": _needs(method),
        "cost of a Check": COSTS[traits.cost_class],
        "decision": "a rule of the method" if traits.decides else "the top k at L",
        "vote": traits.vote,
        "fidelity": traits.fidelity,
        **({f"origin of the {part}": PARTS[origin] for part, origin in origins.parts.items()} if origins else {}),
        "training": f"on {getattr(method.cls, 'labels', 'outcome')} labels" if traits.learns else "none",
        "schedules of cuts": "replayed from its scores" if getattr(method.cls, "pointwise", False) else "",
        "source": f"``{method.cls.__module__.replace('.', '/')}.py``",
    }
    lines = [f"| {name} | {prose(str(fact), set())} |" for name, fact in facts.items() if fact]
    return "\n".join(["| property | value |", "|---|---|", *lines])


def _parameters(method: Method) -> list[inspect.Parameter]:
    """The options of a method: the parameters of its constructor."""
    given = inspect.signature(method.cls).parameters.values()
    return [p for p in given if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _options(method: Method, known: set[str]) -> str:
    """Options with their defaults, from the constructor, and their meaning, from the docstrings of the class and its bases."""
    given = _parameters(method)
    if not given:
        return "It has no options."
    meaning: dict[str, str] = {}
    for cls in method.cls.__mro__:
        meaning = dict(_section(cls, "Args")) | meaning
    lines = [
        f"| `{p.name}` | {'required' if p.default is p.empty else f'`{p.default!r}`'} | "
        f"{prose(meaning.get(p.name, '').rstrip('.'), known)} |"
        for p in given
    ]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *lines])


def _errors(method: Method) -> str:
    """What a method refuses, from the docstring of its class or of the nearest base that says so."""
    found = next(filter(None, (_section(cls, "Raises") for cls in method.cls.__mro__)), [])
    return "\n".join(["It raises\n", *(f"* `{name}` {prose(why, set())}" for name, why in found)]) if found else ""


def _text(cls: type) -> str:
    """The docstring of a class without its sections ``Args`` and ``Raises``."""
    return SECTION.split(inspect.getdoc(cls) or "")[0].rstrip()


def _section(cls: type, title: str) -> list[tuple[str, str]]:
    """The entries of a section of a class's own docstring: name and description."""
    parts = SECTION.split(inspect.cleandoc(cls.__doc__ or ""))
    text = dict(zip(parts[1::2], parts[2::2], strict=True)).get(title, "")
    entries = re.split(r"(?m)^    (\w+): ", text)
    return [(name, " ".join(words.split())) for name, words in zip(entries[1::2], entries[2::2], strict=True)]


def _results(method: Method) -> str:
    """The published rows of the method with all its options: a table per task, model and engine."""
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
        why = "the method needs a model that you name, and the embedded model is too small to serve as one"
    return "No row is published" + (f": {prose(why, set())}." if why else ".")


def prose(text: str, known: set[str]) -> str:
    """A docstring as Markdown: code stays code, names of methods and papers become links, and all else is plain text."""
    pieces = re.split(r"(``[^`]+``)", text)
    return "".join(_code(piece[2:-2], known) if i % 2 else _words(piece) for i, piece in enumerate(pieces))


def _code(text: str, known: set[str]) -> str:
    return f"[`{text}`]({text}.md)" if text in known else f"`{text}`"


def _words(text: str) -> str:
    bullets = re.sub(r"(?m)^(\s*)\* ", "\\1\0 ", text)
    plain = (
        re.sub(r"([\\_*\[\]<>|{}])", r"\\\1", bullets).replace("\0", "*").replace("\\<", "&lt;").replace("\\>", "&gt;")
    )
    plain = re.sub(r"arXiv\s+(\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", plain)
    return re.sub(r"\bcode (\w[\w-]*/[\w-]+)", r"[code \1](https://github.com/\1)", plain)
