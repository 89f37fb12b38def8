"""The Hugging Face engine: decoding over an arena of KV, [STOP] tokens over stored prefixes."""
