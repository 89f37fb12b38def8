"""MARS: a row for each path with ``confs``, DeepConf's confidence of each token, and ``probes``, forced answers on a grid."""

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
