"""Keys of specs, which name pools, rows, training runs and label folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY_VERSION = "1"


def digest(spec: Mapping[str, Any], length: int = 12) -> str:
    """The key of a spec: SHA-256 of its canonical JSON. Pinned by golden tests; a change needs a new KEY_VERSION."""
    text = json.dumps({"key": KEY_VERSION, **spec}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
