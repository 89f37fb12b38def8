"""The order in which a reader should see tables."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report import Group


def foremost(groups: Sequence[Group]) -> list[Group]:
    """Sort tables by interest: current code first, then a task's newest version, the largest, the shortest prefix.

    Size is the number of methods times the number of problems. Ties keep the order of names.
    """
    newest: dict[tuple[str, str], str] = {}
    for group in groups:
        newest[_subject(group)] = max(newest.get(_subject(group), ""), _version(group), key=_counted)

    def interest(group: Group) -> tuple[bool, bool, int, int, str]:
        fresh = sum(len(m.pool.problems) for m in group.judged if not m.stale)
        stale = any(m.stale for m in group.judged)
        return stale, _version(group) != newest[_subject(group)], -fresh, group.prefix, group.slug

    return sorted(groups, key=interest)


def _subject(group: Group) -> tuple[str, str]:
    return str(group.spec["task"]), str(group.spec["engine"].get("model", ""))


def _version(group: Group) -> str:
    return str(group.spec["task_version"])


def _counted(version: str) -> tuple[int, str]:
    """A sort key for versions: "10" after "9"."""
    return len(version) if version.isdigit() else 0, version
