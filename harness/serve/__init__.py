"""A pruning server: OpenAI chat completions, each answered by Launch -> Check -> Resume -> Vote.

``schema`` validates a request, ``terms`` turns it into a job (``jobs``), ``own`` and ``upstream`` compute jobs, ``gate`` limits
concurrency, ``app`` handles HTTP, and ``server`` runs the service. Pruning decisions come from ``harness.loop.session``.
"""
