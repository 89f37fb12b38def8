"""Path pruners, one method per file. The folders are the two axes of the taxonomy: internal or external, fixed or
learned."""
