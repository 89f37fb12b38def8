"""Path pruners: one method, one file; the folders are the two axes of the taxonomy."""
