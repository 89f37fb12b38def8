"""Converts our reports' Markdown to the page's data: headings, paragraphs and tables, without markup."""

from __future__ import annotations

import re
from typing import Any

ESCAPED = re.compile(r"\\([^\w\s])")
BAR = re.compile(r"(?<!\\)\|")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def parts(text: str) -> list[dict[str, Any]]:
    """``{"heading"}``, ``{"text"}`` and ``{"head", "rows"}`` in order, without the file's title."""
    found: list[dict[str, Any]] = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith("<!--")]
        if not lines:
            continue
        if all(line.startswith("|") for line in lines) and len(lines) > 1:
            head, _, *rows = (_cells(line) for line in lines)
            found.append({"head": head, "rows": rows})
        elif lines[0].startswith("#"):
            if not lines[0].startswith("# "):
                found.append({"heading": _plain(lines[0].lstrip("# "))})
        else:
            found.append({"text": _plain(" ".join(lines))})
    return found


def _cells(line: str) -> list[str]:
    return [_plain(cell.strip()) for cell in BAR.split(line.strip().strip("|"))]


def _plain(text: str) -> str:
    """A text without Markdown markup."""
    return ESCAPED.sub(r"\1", LINK.sub(r"\1", text).replace("`", "").replace("**", ""))
