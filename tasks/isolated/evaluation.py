"""Detects scorers that evaluate answers as Python, and replaces their evaluators with readers of literals and formulas."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

EVALUATORS = frozenset({"eval", "exec", "parse_expr", "sympify", "lambdify"})
_ARITHMETIC = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Constant)
_LITERAL = (*_ARITHMETIC, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Load)
_FORMULA = (*_ARITHMETIC, ast.Call, ast.Name, ast.Load)
_OF_TEXT = ("Symbol", "Function", "Float", "Integer")  # sympy's wrappers of names and numbers; not formulas


def evaluators(function: Any, ours: Callable[[str], bool], owner: type | None = None) -> set[str]:
    """The names in ``EVALUATORS`` that a function uses, directly or through functions that it names.

    Args:
        function: a function, a method or a class; of a class, all methods are searched.
        ours: whether functions of a file, given by its name, are searched as well.
        owner: the class whose methods the function may name.
    """
    used: set[str] = set()
    seen: set[CodeType] = set()
    waiting = [function]
    while waiting:
        now = waiting.pop()
        if inspect.isclass(now):
            waiting += [
                member for member in vars(now).values() if hasattr(member, "__code__") or hasattr(member, "__func__")
            ]
            continue
        now = inspect.unwrap(getattr(now, "__func__", now))
        if not isinstance(now, FunctionType) or now.__code__ in seen or not ours(now.__code__.co_filename):
            continue
        seen.add(now.__code__)
        names = set(_names(now.__code__))
        meant = [*_meant(names, now.__globals__), *(getattr(owner, name, None) for name in names)]
        own = {m.__name__ for m in meant if isinstance(m, FunctionType) and ours(m.__code__.co_filename)}
        used |= (names & EVALUATORS) - own
        waiting += [m for m in meant if inspect.isroutine(m) or inspect.isclass(m)]
    return used


def _names(code: CodeType) -> Iterator[str]:
    """Names of globals and attributes in a function, including nested functions."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _meant(names: set[str], known: Mapping[str, Any]) -> Iterator[Any]:
    for value in (known[name] for name in names if name in known):
        yield value
        if isinstance(value, ModuleType):
            yield from (vars(value)[name] for name in names if name in vars(value))


def harden(scorer: Any) -> None:
    """Replace ``eval`` and sympy's ``parse_expr`` in a scorer's module with safe readers, permanently for this process."""
    import sympy

    module: Any = sys.modules[type(scorer).__module__]
    if getattr(module, "parse_expr", None) is _theirs():
        module.parse_expr = formula
    module.eval = literal
    sympy.parse_expr = formula


@cache
def _theirs() -> Any:
    from sympy.parsing.sympy_parser import parse_expr

    return parse_expr


def literal(text: str) -> Any:
    """Like ``eval``, but only for literals (numbers, strings, lists and the like) and operators between them.

    Raises:
        ValueError: if the text contains anything else: names, calls, attributes, comprehensions.
        SyntaxError: if the text is not an expression.
    """
    tree = ast.parse(text.strip(), mode="eval")
    _only(tree, _LITERAL)
    return eval(compile(tree, "<literal>", "eval"), {"__builtins__": {}})


def formula(text: str, local_dict: dict[str, Any] | None = None) -> Any:
    """Like sympy's ``parse_expr``, but only for numbers, names, operators and calls of mathematical functions.

    Raises:
        ValueError: if the text contains anything else: attributes, strings, comprehensions, other functions.
        SyntaxError: if the text is not an expression.
    """
    from sympy.parsing.sympy_parser import standard_transformations, stringify_expr

    local = dict(local_dict or {})
    code = stringify_expr(text, local, dict(_mathematics()), standard_transformations)
    tree = ast.parse(code.strip(), mode="eval")
    _only(tree, _FORMULA)
    named: set[ast.AST] = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        named |= _named_by(call)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node not in named and type(node.value) not in (int, float):
            raise ValueError(f"{node.value!r} is no number")
    return eval(compile(tree, "<formula>", "eval"), {"__builtins__": {}, **_mathematics()}, local)


def _only(tree: ast.AST, kinds: tuple[type[ast.AST], ...]) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, kinds):
            raise ValueError(f"{type(node).__name__} has no place in an answer")


def _named_by(call: ast.Call) -> set[ast.AST]:
    """The text in ``Symbol('x')`` and similar wrappers, which sympy's parser puts around every name and number."""
    function = call.func.func if isinstance(call.func, ast.Call) else call.func  # Function('f')(x)
    if not isinstance(function, ast.Name) or call.keywords or (function is not call.func and function.id != "Function"):
        raise ValueError("a call that has no place in an answer")
    return set(call.args) if call.func is function and function.id in _OF_TEXT and len(call.args) == 1 else set()


@cache
def _mathematics() -> Mapping[str, Any]:
    """The names allowed in a formula: sympy's constants, its classes of expressions, and roots."""
    import sympy

    def mathematical(value: Any) -> bool:
        return isinstance(value, sympy.Basic) or (inspect.isclass(value) and issubclass(value, sympy.Basic))

    known = {name: value for name, value in vars(sympy).items() if mathematical(value)}
    known |= {name: getattr(sympy, name) for name in ("sqrt", "cbrt", "root", "real_root")}
    return known | {"max": sympy.Max, "min": sympy.Min, "abs": abs, "pow": pow, "round": round}
