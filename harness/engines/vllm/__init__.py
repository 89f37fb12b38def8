"""vLLM as an engine: ``vllm`` in this process, on the released package."""
