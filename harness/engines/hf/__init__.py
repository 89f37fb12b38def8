"""The Hugging Face engine: decoding with a KV arena, and [STOP] tokens over stored prefixes."""
