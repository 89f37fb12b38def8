"""The common part of methods that ask another language model: the model, the wording, and P(yes) of its answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import numpy as np

from harness.api import PREFILL, Check, PathpruneError, Reader, Sampling


@dataclass(frozen=True)
class Judge:
    """A language model and a question to it.

    Args:
        model: folder or hub id.
        wording: the question, with ``{places}`` to fill in.
        sampling: how the model generates.
        engine: engine that runs the model.
        dtype: precision of its weights, if not the engine's default.
        device: its device, if not the engine's default.
        prefill: the beginning of the model's answer.
    """

    model: str
    wording: str
    sampling: Sampling
    engine: str = "hf"
    dtype: str = ""
    device: str = ""
    prefill: str = ""

    def open(self, check: Check) -> Reader:
        """The reader that asks the model. Every token it reads or writes is charged to ``check``."""
        options = {k: v for k, v in (("dtype", self.dtype), ("device", self.device)) if v}
        return check.reader(self.model, self.sampling, engine=self.engine, **options)

    def ask(self, **places: str) -> str:
        """The wording with its places filled in, in a single pass: braces in a problem or path stay as they are."""
        asked = re.sub(r"\{(\w+)\}", lambda found: places.get(found[1], found[0]), self.wording)
        return asked.replace(PREFILL, " ") + (PREFILL + self.prefill if self.prefill else "")

    def identity(self) -> dict[str, str]:
        from harness.engines.identity import fingerprint, locate

        digest = hashlib.sha256((self.wording + self.prefill).encode()).hexdigest()[:12]
        return {"model": self.model, "fingerprint": fingerprint(locate(self.model), None), "wording": digest}


def wording(file: str, default: str) -> str:
    """The text of ``file``, or ``default`` if no file is named.

    Raises:
        PathpruneError: if the file cannot be read or lacks a place of the default wording.
    """
    if not file:
        return default
    try:
        text = FilePath(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PathpruneError(f"prompt={file} cannot be read ({error})") from error
    missing = sorted({p for p in re.findall(r"\{\w+\}", default) if p not in text})
    if missing:
        raise PathpruneError(f"the prompt in {file} has no {', '.join(missing)}: put it where that text belongs")
    return text


def share(reader: Reader, prompts: Sequence[str], texts: Sequence[str], words: tuple[str, str]) -> np.ndarray:
    """P(first word) / (P(first word) + P(second word)) after each prompt and text, ``[n]``.

    Raises:
        PathpruneError: if all of more than three rows tie, which means that both words begin with the same token.
    """
    logs = reader.choices(prompts, texts, words)
    # Rounding in low precision occasionally makes a single row tie. A tie in all of several rows has another cause.
    if len(logs) > 3 and (logs[:, 0] == logs[:, 1]).all():
        raise PathpruneError(
            f"{words[0]!r} and {words[1]!r} begin with the same token: name other words (yes=, no=) or another model"
        )
    return np.exp(-np.logaddexp(0.0, logs[:, 1] - logs[:, 0]))
