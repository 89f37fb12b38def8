"""Storage: keys of specs, atomic files, provenance, and append-only records."""
