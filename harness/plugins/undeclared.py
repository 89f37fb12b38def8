"""What stands in a path or a check in place of data that a method did not declare it needs: using it is an error that says so.

An empty text in its place would become a score.
"""

from __future__ import annotations

from typing import Any, NoReturn

from harness.api import STATISTICS, TokenStats, UnavailableError


class Undeclared:
    """No text and no engine. It may be passed on and copied; whatever else is done with it raises ``UnavailableError``."""

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
    """Statistics that were not declared: there is none of them."""

    def __getattr__(self, name: str) -> Any:
        if name in STATISTICS:
            _refuse("path.stats", "'token_stats'")
        raise AttributeError(name)

    def cut(self, length: int) -> TokenStats:
        """As undeclared as before."""
        return self


def _refuse(what: str, signals: str) -> NoReturn:
    raise UnavailableError(f"it reads {what} and does not declare it: add {signals} to its needs")
