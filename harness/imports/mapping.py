"""Which field of a row holds what: by the user's mapping, by a known format, or by the field's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.api import STATISTICS, PathpruneError
from harness.imports.chats import is_chat
from harness.imports.values import Flaw, is_list
from harness.text import shown, unknown
from tasks.benchmarks.fields import ANSWERS, CHATS, IDS, QUESTIONS
from tasks.benchmarks.files import Row, missing

# Targets, each with field names in order of preference.
PROBLEM: dict[str, tuple[str, ...]] = {
    "id": (*IDS, "qid", "doc_id", "custom_id", "uuid"),
    "problem": tuple(name for name in QUESTIONS if name not in CHATS),
    "gold": (
        *("gold", "golds", "gold_answer", "gold_answers", "ground_truth", "ground_truths", "ground_truth_answer", "gt"),
        *(
            "expected_answer",
            "reference_answer",
            "reference",
            "Correct Answer",
            "correct_answer",
            "answer_key",
            "answerKey",
        ),
    ),
}
PATH: dict[str, tuple[str, ...]] = {
    "path": (
        "trace_idx",
        "idx_answer",
        "sample_idx",
        "sample_index",
        "path_idx",
        "path_index",
        "rollout_idx",
        "completion_idx",
    ),
    "text": (
        *("text", "texts", "response", "responses", "completion", "completions", "generation", "generations"),
        *("generated_text", "generated_texts", "output", "outputs", "model_output", "rollout", "rollouts"),
    ),
    "messages": (*CHATS, "all_messages"),
    "reasoning": ("reasoning_content", "reasoning", "thinking"),
    "answer": (
        *("pred", "preds", "extracted_answer", "extracted_answers", "parsed_answer", "parsed_answers", "model_answer"),
        *("prediction", "predictions", "path_answer"),
    ),
    "correct": ("correct", "is_correct", "correctness", "grade", "grades", "exact_match", "passed", "score"),
    "finish": ("finish", "finish_reason", "finish_reasons", "stop_reason"),
    "token_ids": ("token_ids", "output_token_ids", "output_ids", "generated_ids", "completion_token_ids", "tokens"),
    "pieces": ("pieces", "token_strings", "tokens"),
    "length": (
        *(
            "length",
            "lengths",
            "num_tokens",
            "n_tokens",
            "completion_tokens",
            "output_tokens",
            "token_usage",
            "token_count",
        ),
        *("generated_tokens", "generated_token_count", "num_generated_tokens", "response_length", "tokens"),
    ),
    "logprobs": ("logprobs", "token_logprobs", "logprob", "log_probs"),
    "top_logprobs": ("top_logprobs", "topk_logprobs", "top_log_probs"),
    "confidence": ("confidence", "confidences", "confs", "token_confidence"),
    "entropy": ("entropy", "entropies", "token_entropies"),
    "self_certainty": ("self_certainty",),
    "margin": ("margin", "margins"),
    "top_entropy": ("top_entropy",),
    "probes": ("probes",),
    "rewards": (
        "rewards",
        "reward",
        "reward_score",
        "rm_score",
        "prm_score",
        "prm_scores",
        "pred_score",
        "scores",
        "score",
    ),
}
TARGETS = (*PROBLEM, *PATH)
EITHER = ("answer", "Answer", "final_answer", "answers", "final_answers")  # of the path, or the gold one
PER_TOKEN = ("token_ids", "pieces", "logprobs", *(name for name in STATISTICS if name != "logprob"))


def check(mapping: Mapping[str, str], more: Sequence[str] = ()) -> None:
    """Raise PathpruneError if an unknown target is mapped, or a field is not a string; ``more``: further targets."""
    for target, field in mapping.items():
        if target not in (*TARGETS, *more):
            raise PathpruneError(f"a mapping is text=FIELD: {unknown('name', str(target), [*TARGETS, *more])}")
        if not isinstance(field, str):
            raise PathpruneError(f"a mapping must be {target}=FIELD, not {shown(field)}")


def lookup(row: Row, field: str) -> Any:
    """The value at ``field`` or at a dotted path such as ``outputs.0.text``, where a number indexes a list.

    Raises:
        Flaw: no such field.
    """
    if field in row:
        return row[field]
    value: Any = row
    for part in field.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif is_list(value) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            known = [str(name) for name in value] if isinstance(value, Mapping) else []
            raise Flaw(
                "no " + unknown("field", field, known).removeprefix("unknown ") if known else f"no field {field}"
            )
    return value


def find(row: Row, mapping: Mapping[str, str], targets: Sequence[str] = TARGETS) -> dict[str, str]:
    """Find the field of each target in a row. A target mapped to nothing (``gold=``) is not read.

    Args:
        row: the first row.
        mapping: known fields by target.
        targets: targets to find by common field names.

    Raises:
        Flaw: a mapped field is missing.
    """
    found = {target: field for target, field in mapping.items() if field and target in TARGETS}
    for field in found.values():
        lookup(row, field)
    add(row, found, mapping, targets)
    if "text" in found and "messages" in found and "messages" not in mapping:
        del found["messages"]
    _assign_answers(row, found, mapping, targets)
    return found


def add(row: Row, found: dict[str, str], mapping: Mapping[str, str], targets: Sequence[str] = TARGETS) -> None:
    """Add targets whose fields appear in this row for the first time."""
    for target, names in (PROBLEM | PATH).items():
        if target not in targets or target in mapping or target in found:
            continue
        if name := _first(row, target, names, found):
            found[target] = name


def _first(row: Row, target: str, names: Sequence[str], found: Mapping[str, str]) -> str | None:
    used = set(found.values())
    fits = MEANS.get(target)
    there = (name for name in names if name in row and name not in used)
    return next((name for name in there if fits is None or fits(name, row[name])), None)


def _assign_answers(row: Row, found: dict[str, str], mapping: Mapping[str, str], targets: Sequence[str]) -> None:
    """Decide what ``answer`` is. It is the path's answer if gold answers have another field, if there is one per text, or if
    there is no text; otherwise it is the gold answer. ``solution`` and the like are gold answers only as a last resort."""
    used, has_text = set(found.values()), "text" not in targets or bool({"text", "messages"} & found.keys())
    either = next((name for name in EITHER if name in row and name not in used), None)
    texts = row.get(found.get("text", ""))
    if either is not None:
        each = is_list(row[either]) and is_list(texts) and len(row[either]) == len(texts)
        is_gold = (has_text or "answer" in found) and not each and "gold" not in found
        target = "gold" if is_gold else "answer"
        if target in targets and target not in found and target not in mapping:
            found[target] = either
    if "gold" in targets and "gold" not in found and "gold" not in mapping:
        rest = [name for name in ANSWERS if name not in EITHER and name not in {*found.values(), "correct"}]
        if name := next((name for name in rest if name in row and not missing(row[name])), None):
            found["gold"] = name


def _inner(value: Any) -> Any:
    """The first entry of a non-empty list; any other value itself."""
    return value[0] if is_list(value) and len(value) else value


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _means_ids(name: str, value: Any) -> bool:
    return name != "tokens" or (is_list(value) and _is_integer(_inner(_inner(value))))


def _means_pieces(name: str, value: Any) -> bool:
    return name != "tokens" or (is_list(value) and isinstance(_inner(_inner(value)), str))


def _means_length(name: str, value: Any) -> bool:
    return name != "tokens" or _is_integer(value)


def _means_grade(name: str, value: Any) -> bool:
    values = value if is_list(value) else [value]
    return name != "score" or all(str(v).lower() in ("true", "false", "0", "1", "0.0", "1.0") for v in values)


def _means_numbers(name: str, value: Any) -> bool:
    """Does a field hold one number per token? A number for the whole path is not a token statistic."""
    return not isinstance(value, int | float)


MEANS: dict[str, Callable[[str, Any], bool]] = {
    "token_ids": _means_ids,
    "pieces": _means_pieces,
    "length": _means_length,
    "correct": _means_grade,
    "messages": lambda name, value: is_chat(value) or is_chat(_inner(value)),
    "problem": lambda name, value: isinstance(value, str) or is_chat(value),
    "id": lambda name, value: value is not None and not is_list(value),
    "reasoning": lambda name, value: value is None or isinstance(value, str) or isinstance(_inner(value), str),
    **{name: _means_numbers for name in PER_TOKEN if name not in ("token_ids", "pieces")},
}
