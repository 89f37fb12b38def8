"""Loads lm-eval's task object from a name or a YAML file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.api import PathpruneError, UnavailableError
from harness.text import shown
from tasks.isolated.evaluation import evaluators

YAML = (".yaml", ".yml")
DEFINES = re.compile(
    r"""^[ ]*["']?(task|group|tag)["']?[ ]*:[ ]*(["']?)([^\n"'\[\]]+?)\2[ \t\r]*(?:\#.*)?$""", re.MULTILINE
)
TAGS = re.compile(r"^tag[ ]*:[ ]*\n((?:[ ]*-[ ]*[^\n]+\n?)+)", re.MULTILINE)
MOST_SHOTS = 1000  # examples in one prompt


def load(name: str, include: str, trust: bool, shots: int | None) -> Any:
    """Load lm-eval's task object.

    A YAML file can run code: by ``!function``, or by Jinja templates, which lm-eval renders without a sandbox. Files that come
    with lm-eval are trusted like any installed package; other files are opened only with ``trust``.

    Args:
        name: task name or YAML file.
        include: folder of further YAML files, or "".
        trust: whether to open files that do not come with lm-eval.
        shots: number of few-shot examples; None: the task's.

    Raises:
        PathpruneError: no such task, an untrusted file, or a task that cannot be sampled and graded one response at a time.
        UnavailableError: a missing package.
    """
    _typed(name, include, trust, shots)
    file = None if include or name.endswith(YAML) else _file_of(name)  # done before the imports, which take seconds
    try:
        from lm_eval.api.task import Task as Theirs
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise UnavailableError(f"tasks of lm-eval need lm-eval ({error}): pip install 'pathprune[lm-eval]'") from error
    if not trust:
        _only_theirs(name, include)
    manager = TaskManager(include_path=include or None, include_defaults=False)
    if name in [*manager.all_groups, *manager.all_tags]:
        raise _group(name)
    where = (
        name if name.endswith(YAML) or name in manager.all_tasks else str(file or _file_of(name, manager.all_subtasks))
    )
    try:
        loaded = list(manager.load([where])["tasks"].values())
    except ImportError as error:
        raise UnavailableError(f"lm-eval task {name} needs a package that is missing ({error}); install it") from error
    except Exception as error:  # errors in a YAML file, its Python or its data set
        raise PathpruneError(f"lm-eval task {name} cannot be loaded: {' '.join(str(error).split())}") from error
    if len(loaded) != 1 or not isinstance(loaded[0], Theirs):
        raise _group(name)
    _check(loaded[0])
    if not trust:
        _refuse_evaluation(loaded[0])
    return loaded[0]


def _file_of(name: str, beside: Sequence[str] = ()) -> Path:
    """The lm-eval file that defines a task, found by text search, because parsing all files takes half a minute.

    Args:
        name: the task's name.
        beside: names of other tasks, for suggestions.

    Raises:
        PathpruneError: no such task, or the name of a group.
    """
    known = _defined()
    if name in known["task"]:
        return known["task"][name]
    if name in known["group"] or name in known["tag"]:
        raise _group(name)
    near = get_close_matches(name, [*beside, *known["task"]], 1)
    hint = f"did you mean {near[0]}?" if near else "lm-eval ls tasks lists them; a YAML file can be named too"
    raise PathpruneError(f"unknown lm-eval task {name!r}; {hint}")


@cache
def _defined() -> dict[str, dict[str, Path]]:
    """Tasks, groups and tags that come with lm-eval, each with the first file that defines it."""
    package = find_spec("lm_eval")
    if package is None or not package.origin:
        raise UnavailableError("tasks of lm-eval need lm-eval: pip install 'pathprune[lm-eval]'")
    known: dict[str, dict[str, Path]] = {"task": {}, "group": {}, "tag": {}}
    for file in sorted((Path(package.origin).parent / "tasks").rglob("*yaml"), key=Path.as_posix):
        text = file.read_text(encoding="utf-8", errors="replace")
        included = file.suffix != ".yaml"  # included by other files, for which it only defines tags
        for kind, _, defined in DEFINES.findall(text):
            known["tag" if included else kind].setdefault(defined.strip(), file)
        for tags in TAGS.findall(text):
            known["tag"] |= dict.fromkeys((line.strip(" -\"'\r") for line in tags.splitlines()), file)
    return known


def _group(name: str) -> PathpruneError:
    return PathpruneError(f"{name} is a group of lm-eval tasks; name one of its tasks")


def _typed(name: Any, include: Any, trust: Any, shots: Any) -> None:
    if not isinstance(name, str) or not name or not isinstance(include, str) or not isinstance(trust, bool):
        raise PathpruneError(
            f"lm_eval:{name}: a task is a name or a YAML file, include a folder of them and trust is true or false, "
            f"not include={include}, trust={trust}"
        )
    if shots is not None and (not isinstance(shots, int) or isinstance(shots, bool)):
        raise PathpruneError(f"lm_eval:{name}: shots is a whole number, not {shots!r}")
    try:
        if include and not Path(include).is_dir():
            raise PathpruneError(f"lm_eval:{name}: include={shown(include)} is not a folder")
        if name.endswith(YAML) and not Path(name).is_file():
            raise PathpruneError(f"no lm-eval task file at {name}")
    except (OSError, ValueError) as error:  # not a valid file name
        raise PathpruneError(f"lm_eval:{shown(name)}: no such file ({type(error).__name__})") from error


def _only_theirs(name: str, include: str) -> None:
    """Refuse files outside the installed package before opening any of them."""
    import lm_eval.tasks

    theirs = Path(lm_eval.tasks.__file__).resolve().parent
    for place in filter(None, (include, name if name.endswith(YAML) else "")):
        if not Path(place).resolve().is_relative_to(theirs):
            option = f"include={include},trust=true" if include else "trust=true"
            raise PathpruneError(
                f"{place} does not come with lm-eval, and a YAML of lm-eval can run any code (!function, Jinja templates, "
                f"scripts of data sets); read it, and if you trust it say so: lm_eval:{name},{option}"
            )


def _refuse_evaluation(task: Any) -> None:
    """Refuse an lm-eval task whose own Python evaluates model output."""
    config = task.config
    functions = [config.process_results, *(metric.get("metric") for metric in config.metric_list or ())]
    functions += [step.get("filter_fn") for each in config.filter_list or () for step in each["filter"]]
    folder = str(Path("lm_eval", "tasks"))
    if any(evaluators(function, lambda file: folder in file) for function in functions if callable(function)):
        raise PathpruneError(f"lm-eval task {config.task} evaluates model output as Python; choose another task")


def _check(task: Any) -> None:
    name = task.config.task
    if task.OUTPUT_TYPE != "generate_until":
        raise PathpruneError(
            f"lm-eval task {name} is {task.OUTPUT_TYPE}: it scores given continuations and samples no path; "
            "choose a generate_until task"
        )
    if getattr(task, "UNSAFE_CODE", False):
        raise PathpruneError(f"lm-eval task {name} runs the code that a model writes; choose another task")
    if getattr(task, "MULTIMODAL", False):
        raise PathpruneError(f"lm-eval task {name} needs images or sound; choose a task of text alone")


def set_shots(task: Any, shots: int | None) -> None:
    """Set the number of few-shot examples, as lm-eval's --num_fewshot does; a task that fixes 0 keeps 0."""
    fixed = task.config.num_fewshot
    if shots is not None and (not 0 <= shots <= MOST_SHOTS or (fixed == 0 and shots)):
        raise PathpruneError(
            f"lm-eval task {task.config.task}: {shots} few-shot examples, but it allows {fixed or f'0 to {MOST_SHOTS}'}"
        )
    task.set_config(key="num_fewshot", value=(fixed or 0) if shots is None else shots)
