"""vLLM as an engine, extended by a plug-in: ``local`` in this process, ``remote`` over HTTP, both with the released
package."""
