"""The part of a model's text outside its thinking, for all common thinking marks."""

from __future__ import annotations

import re

# Patterns read whole paths and must run in linear time: repetitions are possessive (``++``) if backtracking cannot help.
# Tokenizers drop gpt-oss's special tokens on decoding: "<|channel|>analysis<|message|>" becomes "analysis".
_FINAL = re.compile(r"<\|channel\|>final\b[^<]*(?:<\|constrain\|>\w*)?<\|message\|>")
_CHANNEL = re.compile(r"<\|channel\|>|(?:analysis|commentary)(?![\s:;,.)*_]|[a-z]*\s+(?:of|is)\b)")
_BARE_FINAL = re.compile(r"assistant\s?final(?![a-z])")
_END = re.compile(r"<\|(?:return|end|im_end|eot_id|endoftext|call)\|>.*", re.DOTALL)
_THOUGHT = r"(?:\w{1,12}:)?(?:think|thinking|thoughts?|reasoning|reason|reflection|scratchpad|analysis)"
_OPENING = re.compile(
    rf"<\|?{_THOUGHT}\|?>|\[{_THOUGHT}\]|◁{_THOUGHT}▷|<\|(?:begin_of|start)_(?:thought|thinking)\|>|<\|channel>thought|<unused94>",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"<\|?/{_THOUGHT}\|?>|\[/{_THOUGHT}\]|◁/{_THOUGHT}▷|<\|end(?:_of)?_(?:thought|thinking)\|>|<channel\|>|<unused95>",
    re.IGNORECASE,
)


def spoken(text: str) -> str | None:
    """The text outside the model's thinking, or None if a thinking block was opened and never closed.

    Thinking is the content of ``<think>``, ``<thinking>``, ``<reasoning>``, ``[THINK]``, ``◁think▷``, ``<seed:think>``,
    ``<|begin_of_thought|>`` and the like, or a gpt-oss channel other than ``final``, with or without its special tokens.
    Unclosed thinking whose opening mark is in the prompt cannot be distinguished from plain text, and is returned.
    """
    if finals := list(_FINAL.finditer(text)):
        return _END.sub("", text[finals[-1].end() :])
    if _CHANNEL.match(text.lstrip()):
        parts = _BARE_FINAL.split(text)
        return _END.sub("", parts[-1]) if len(parts) > 1 else None
    behind = 0
    for closing in _CLOSING.finditer(text):
        behind = closing.end()
    reply = text[behind:]
    return None if _OPENING.search(reply) else reply
