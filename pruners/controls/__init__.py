"""Controls: reference points of every comparison, and surface features that a useful signal must outperform."""
