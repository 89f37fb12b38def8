"""vLLM as an engine, with our plug-in: ``local`` in this process, ``remote`` over HTTP, both on the released package."""
