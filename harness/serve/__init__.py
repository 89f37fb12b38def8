"""A server that prunes: OpenAI's chat completions, each answered by Launch -> Check -> Resume -> Vote.

``schema`` says what a request may hold, ``terms`` what is made of it, ``jobs`` what is computed; ``own`` and ``upstream`` compute it,
``gate`` bounds and shares, ``app`` speaks HTTP, ``server`` runs it. The decisions are those of ``harness.loop.session``.
"""
