"""From field values to paths: a row holds one path, or lists with an entry per path."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from harness.api import STATISTICS, PathpruneError
from harness.imports import chats, values
from harness.imports.logprobs import Statistics, given, unpack
from harness.imports.mapping import PATH, PER_TOKEN
from harness.imports.rows import ImportedPath, Probe
from harness.imports.values import Flaw, is_list
from harness.text import shown
from tasks.benchmarks import fields
from tasks.benchmarks.files import missing


def spread(said: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Split the values of a row into those of each path.

    Args:
        said: values by target name (``mapping.PATH``).
        names: field names by target, for messages.

    Raises:
        Flaw: lists of different lengths.
    """
    each = [target for target in said if _is_each(target, said[target])]
    first = next((target for target in PATH if target in each), None)
    if first is None:
        yield _told(said)
        return
    lists = {target: _entries(said[target], names[target]) for target in said if said[target] is not None}
    count = len(lists[first])
    for target, entries in lists.items():
        if len(entries) != count:
            raise Flaw(
                f"{names[target]} has {len(entries)} entries and {names[first]} has {count}; each path needs one, or skip the field: map {target}="
            )
    for number in range(count):
        yield _told({target: entries[number] for target, entries in lists.items()})


def _told(said: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a path without nulls; a null answer means that no answer was found, and becomes ""."""
    if said.get("text", "") is None:
        raise Flaw("a text is null; leave out that path, or read no texts: map text=")
    told = {target: value for target, value in said.items() if value is not None}
    return told | {"answer": ""} if "answer" in said and "answer" not in told else told


def _is_each(target: str, value: Any) -> bool:
    """Whether a value is a list with an entry per path."""
    if not is_list(value):
        return False
    if target in ("text", "answer", "length", "correct", "finish", "path", "reasoning"):
        return True
    if target == "messages":
        return not chats.is_chat(value)
    inner = value[0] if len(value) else None
    if target in PER_TOKEN or target == "probes":
        return is_list(inner) or (isinstance(inner, Mapping) and ("content" in inner or "token_logprobs" in inner))
    if target == "top_logprobs":
        return is_list(inner) and len(inner) > 0 and is_list(inner[0])
    return False  # for rewards, the other fields decide


def _entries(value: Any, name: str) -> list[Any]:
    try:
        return values.as_list(value, name)
    except PathpruneError as error:
        raise Flaw(f"{name} is {shown(value)}, but other fields have an entry per path") from error


def path(said: Mapping[str, Any], names: Mapping[str, str], statistics: Statistics) -> ImportedPath:
    """Build a path from its values.

    Raises:
        Flaw: an invalid value, contradictory values, or no value that makes a path.
    """
    if not {"text", "messages", "answer", "token_ids", "length", "correct"} & said.keys():
        raise Flaw("has no field of a path: no text, messages, answer, token_ids, length or grade; map one: text=FIELD")
    named = {target: names.get(target, target) for target in PATH}
    tokens = values.token_ids(said["token_ids"], named["token_ids"]) if "token_ids" in said else None
    pieces = values.as_list(said["pieces"], named["pieces"]) if "pieces" in said else None
    text = _text(said, named)
    measured, unpacked_tokens, unpacked_pieces = _measured(said, named, statistics, tokens)
    tokens, pieces = tokens if tokens is not None else unpacked_tokens, pieces or unpacked_pieces
    if pieces is not None:
        pieces = [values.text(piece, named["pieces"]) for piece in pieces]
    length = values.whole(said.get("length"), named["length"])
    _agree(tokens, pieces, length, measured, named)
    return ImportedPath(
        text=text,
        tokens=tokens,
        length=len(tokens) if tokens is not None else next((len(v) for v in measured.values()), length),
        answer=values.word(said["answer"], named["answer"]) if "answer" in said else None,
        correct=values.grade(said.get("correct"), named["correct"]),
        finish=values.finish(said.get("finish"), named["finish"]),
        statistics=measured,
        pieces=pieces if pieces is not None and "".join(pieces) == text else None,
        probes=probes(said.get("probes"), named["probes"]),
        rewards=_rewards(said.get("rewards"), named["rewards"]),
    )


def _text(said: Mapping[str, Any], named: Mapping[str, str]) -> str | None:
    if "text" in said:
        text = values.text(said["text"], named["text"])
    elif "messages" in said:
        text = chats.replied(said["messages"], named["messages"])
    else:
        return None
    reasoning = said.get("reasoning")
    return chats.with_reasoning(values.text(reasoning, named["reasoning"]), text) if reasoning else text


def _measured(
    said: Mapping[str, Any], named: Mapping[str, str], statistics: Statistics, tokens: tuple[int, ...] | None
) -> tuple[dict[str, np.ndarray], tuple[int, ...] | None, list[str] | None]:
    """(statistics by name, token ids, token texts); the last two also come from log-probability fields."""
    measured: dict[str, np.ndarray] = {}
    tops, tops_name, ids, pieces = said.get("top_logprobs"), named["top_logprobs"], None, None
    if "logprobs" in said:
        name = named["logprobs"]
        read = unpack(said["logprobs"], name, tokens)
        ids, pieces = tuple(read.tokens) if read.tokens is not None else None, read.pieces
        if tops is None and read.tops is not None:
            tops, tops_name = read.tops, f"{name}.top_logprobs"
        if read.logprob is not None:
            measured["logprob"] = statistics.of_sampled(read.logprob, name)
    if tops is not None:
        measured.update(statistics.of_largest(tops, tops_name))
    for statistic in STATISTICS:
        if statistic != "logprob" and statistic in said:
            measured[statistic] = given(said[statistic], named[statistic], statistic)
    return measured, ids, pieces


def _agree(
    tokens: tuple[int, ...] | None,
    pieces: list[str] | None,
    length: int | None,
    measured: Mapping[str, np.ndarray],
    named: Mapping[str, str],
) -> None:
    """Raise Flaw if fields imply different numbers of tokens."""
    counts = {named["token_ids"]: len(tokens)} if tokens is not None else {}
    counts |= {named["pieces"]: len(pieces)} if pieces is not None else {}
    counts |= {statistic: len(array) for statistic, array in measured.items()}
    if length is not None:
        counts[named["length"]] = length
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise Flaw(f"fields disagree on the number of tokens: {told}; skip one of them, as in: map length=")


def probes(value: Any, name: str) -> tuple[Probe, ...]:
    """Read forced answers from ``[{position, answer, is_correct, raw_text, avg_conf}]``, ordered by position.

    Raises:
        Flaw: an answer without a position, or two at the same one.
    """
    if value is None:
        return ()
    read = [_probe(entry, name) for entry in values.as_list(value, name)]
    ordered = sorted(read, key=lambda probe: probe.position)
    twice = next((a.position for a, b in itertools.pairwise(ordered) if a.position == b.position), None)
    if twice is not None:
        raise Flaw(f"{name} has two answers at position {twice}")
    return tuple(ordered)


def _probe(entry: Any, name: str) -> Probe:
    position = values.whole(entry.get("position"), f"{name}.position") if isinstance(entry, Mapping) else None
    if position is None:
        raise Flaw(f"{name} contains {shown(entry)}, not an object with position and answer")
    first = {
        target: next((entry[field] for field in fields if entry.get(field) is not None), None)
        for target, fields in PROBE.items()
    }
    confidence = (
        None
        if first["confidence"] is None
        else float(values.per_token([first["confidence"]], f"{name}.confidence", "probe")[0])
    )
    return Probe(
        position,
        values.word(first["answer"], f"{name}.answer"),
        values.grade(first["correct"], f"{name}.correct"),
        confidence,
        None if first["text"] is None else values.text(first["text"], f"{name}.text"),
    )


PROBE = {
    "answer": ("answer",),
    "correct": ("is_correct", "correct"),
    "confidence": ("avg_conf", "confidence"),
    "text": ("raw_text", "text"),
}


def _rewards(value: Any, name: str) -> dict[str, Any]:
    """Scores by reward model; an unnamed score is named after its field."""
    scores = dict(value) if isinstance(value, Mapping) else {name: value}
    unnamed = [key for key in scores if not str(key).strip() or not str(key).isprintable()]
    if unnamed:
        raise Flaw(f"{name} has a reward named {shown(unnamed[0])}; give it a one-line name")
    read = {str(key): values.reward(score, f"{name}.{key}" if key != name else name) for key, score in scores.items()}
    return {key: score for key, score in read.items() if score is not None}


def golds(value: Any, name: str, where: str) -> tuple[str, ...]:
    """Gold answers as published; for a worked solution, its final answer."""
    listed = list(value) if is_list(value) else [value]
    field = "solution" if name.lower() == "solution" else "answer"
    plain = [v.item() if isinstance(v, np.generic) else v for v in listed]
    try:
        return tuple(dict.fromkeys(fields.gold({field: v}, where) for v in plain if not missing(v)))
    except PathpruneError as error:
        raise Flaw(str(error).replace(f"{where}: {field} ", f"{where}: {name} ", 1)) from error
