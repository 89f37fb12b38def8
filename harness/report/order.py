"""Which of several tables a reader should see first."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report import Group


def foremost(groups: Sequence[Group]) -> list[Group]:
    """Tables in the order of a reader's interest: of present code, of a task's newest version, the largest, the shortest prefix.

    Large is a table of many methods that many problems judged. Equal tables keep the order of their names.
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
    """Versions in order: "10" behind "9"."""
    return len(version) if version.isdigit() else 0, version
