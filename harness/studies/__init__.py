"""What asks one question: ablations, the oracle, the findings, the retention law, attention, the official layout."""
