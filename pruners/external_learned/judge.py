"""What methods share that put a question to another language model: which model, the wording, P(yes) of an answer."""

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
    """``model`` is a folder or hub id; ``dtype`` and ``device``, where given, go to the engine that opens it.

    ``wording`` has ``{places}`` to fill in; ``prefill`` is what the model's answer begins with.
    """

    model: str
    wording: str
    sampling: Sampling
    engine: str = "hf"
    dtype: str = ""
    device: str = ""
    prefill: str = ""

    def open(self, check: Check) -> Reader:
        """The reader that asks the model; every token it reads or writes is charged to ``check``."""
        options = {k: v for k, v in (("dtype", self.dtype), ("device", self.device)) if v}
        return check.reader(self.model, self.sampling, engine=self.engine, **options)

    def ask(self, **places: str) -> str:
        """The wording filled in, in one pass: braces in a problem or a path stay as they are."""
        asked = re.sub(r"\{(\w+)\}", lambda found: places.get(found[1], found[0]), self.wording)
        return asked.replace(PREFILL, " ") + (PREFILL + self.prefill if self.prefill else "")

    def identity(self) -> dict[str, str]:
        from harness.engines.identity import fingerprint, locate

        digest = hashlib.sha256((self.wording + self.prefill).encode()).hexdigest()[:12]
        return {"model": self.model, "fingerprint": fingerprint(locate(self.model), None), "wording": digest}


def wording(file: str, default: str) -> str:
    """The text of ``file``, which has the same places as the default, or the default when no file is named."""
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
    """P(first word) / (P(first) + P(second)) behind each prompt and text, ``[n]``."""
    logs = reader.choices(prompts, texts, words)
    # Low precision rounds one row to a tie now and then; that all of several rows tie has another reason.
    if len(logs) > 3 and (logs[:, 0] == logs[:, 1]).all():
        raise PathpruneError(
            f"{words[0]!r} and {words[1]!r} begin with the same token: name other words (yes=, no=) or another model"
        )
    return np.exp(-np.logaddexp(0.0, logs[:, 1] - logs[:, 0]))
