"""MARS: one row per path with ``confs``, DeepConf's token confidences, and ``probes``, forced answers at regular
lengths."""

from __future__ import annotations

from harness.imports.reading import Flat

SHAPE = Flat(
    "mars",
    frozenset({"qid", "trace_idx", "ground_truth", "confs", "probes"}),
    {
        "id": ["qid"],
        "path": ["trace_idx"],
        "gold": ["ground_truth"],
        "answer": ["extracted_answer"],
        "confidence": ["confs"],
        "probes": ["probes"],
    },
)
