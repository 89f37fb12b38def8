"""Studies, each of one question: ablations, the oracle, the findings, the retention law, attention, the official layout."""
