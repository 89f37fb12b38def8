"""Placeholders for data that a method did not declare in its needs. Using one is an error.

An empty text instead would silently turn into a score.
"""

from __future__ import annotations

from typing import Any, NoReturn

from harness.api import STATISTICS, TokenStats, UnavailableError


class Undeclared:
    """Placeholder for a text or an engine. It can be passed on and copied; any other use raises ``UnavailableError``."""

    def __init__(self, what: str, signals: str) -> None:
        self.__dict__.update(what=what, signals=signals)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copying and pickling ask for such names
            raise AttributeError(name)
        _refuse(self.__dict__["what"], self.__dict__["signals"])

    def __repr__(self) -> str:
        return f"<{self.__dict__['what']}, not declared>"

    def _use(self, *_: Any) -> NoReturn:
        _refuse(self.__dict__["what"], self.__dict__["signals"])

    __str__ = __format__ = __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = __call__ = _use
    __add__ = __radd__ = __mul__ = __rmul__ = __mod__ = __lt__ = __le__ = __gt__ = __ge__ = _use
    __eq__ = __ne__ = __hash__ = _use


class UndeclaredStats(TokenStats):
    """Placeholder for undeclared token statistics."""

    def __getattr__(self, name: str) -> Any:
        if name in STATISTICS:
            _refuse("path.stats", "'token_stats'")
        raise AttributeError(name)

    def cut(self, length: int) -> TokenStats:
        """Return the placeholder itself."""
        return self


def _refuse(what: str, signals: str) -> NoReturn:
    raise UnavailableError(f"it reads {what} and does not declare it: add {signals} to its needs")
