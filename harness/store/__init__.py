"""What lies on disk: keys of specs, files written whole or not at all, provenance, and append-only records."""
