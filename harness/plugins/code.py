"""Digests of code: a row scored by different code is marked stale, but a changed comment leaves it current.

``code_digest`` covers what code computes. It hashes the syntax trees of the module that defines a class and, recursively, of the
modules of the same package that it imports, without docstrings, comments, annotations and layout. Local variables
of functions are numbered in the order of binding; parameters, attributes and module-level names keep their names. Members that
describe the use of a row and change no score (``USES``) are excluded. An import counts as the object and distribution that a
name refers to, where the name is used. A digest therefore survives a renamed local, a better docstring, other type hints,
reordered imports and a helper that moves within its distribution. A changed constant, operator, call, default or helper
changes it.

A class that is passed as an object is digested in its current state (``live_digest``): its compiled code and that of its
bases, their closures, its attributes, and what they use of their module and of neighbouring modules. The live digest
distinguishes two classes with the same source, and one class before and after a change. It is stable within one minor version of
Python. It is the only digest of a class without a source file, such as one in a notebook.

Digests start with the version of their rules. Records from before ``a1`` have no version: their digests are SHA-256 over the
bytes of the same modules (``bytes_digest``), docstrings included.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import pickle
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from harness.api import PathpruneError
from harness.text import reason

SOURCE = "a1:"  # of syntax trees
COMPILED = "c1:"  # of code objects
LENGTH = 12
LONG = 2000  # bits, below the lowest limit that Python allows for printing integers in decimal

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
SILENT = {
    "ctx",
    "annotation",
    "returns",
    "type_comment",
    "kind",
    "simple",
    "type_ignores",
}  # fields that compute nothing
USES = {"pointwise", "closed_form"}
BY_NAME = {"locals", "vars", "eval", "exec", "dir"}  # what may look local variables up by their names
PLAIN = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset)


@cache
def code_digest(item: Any) -> str:
    """Digest of the code of a class or function, e.g. ``a1:0123456789ab``."""
    files = _files(item)
    if not files:
        return live_digest(item)
    package = item.__module__.partition(".")[0]
    return SOURCE + _sha(*sorted(_normal(file, file.stat().st_mtime_ns, package) for file in files.values()))


def live_digest(item: Any) -> str:
    """Digest of a class in its current state, e.g. ``c1:0123456789ab``, including the sources of its package if it has one."""
    source = code_digest(item) if "." in item.__module__ and _files(item) else ""
    return COMPILED + _sha(
        f"{sys.version_info[:2]}", source, *sorted(set(_compiled(item, _home(item.__module__), set())))
    )


@cache
def bytes_digest(item: Any) -> str:
    """The digest of records from before ``a1``; "" without a source file."""
    files = _files(item)
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + files[name].read_bytes())
    return digest.hexdigest()[:LENGTH] if files else ""


def is_present(code: str, item: Any) -> bool:
    """Does this digest, under whichever rules, match the current code of a class?"""
    return code == (code_digest(item) if ":" in code else bytes_digest(item))


def _sha(*texts: str) -> str:
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()[:LENGTH]


def _files(item: Any) -> dict[str, Path]:
    """Source files by module: the defining module and those it imports, from the same package or, without a package, from
    the same folder; empty without a source file."""
    try:
        file = inspect.getsourcefile(item)
    except (TypeError, OSError):  # a class of an interactive session
        file = None
    if not file or not Path(file).is_file():
        return {}
    files, waiting = {item.__module__: Path(file)}, [item.__module__]
    beside = None if "." in item.__module__ else Path(file).resolve().parent
    while waiting:
        for name in _imported(waiting.pop(), files):
            alike = name.partition(".")[0] == item.__module__.partition(".")[0]
            origin = _origin(name) if name not in files and (alike or beside) else None
            if origin and (alike or (beside and origin.resolve().is_relative_to(beside) and not _installed(origin))):
                files[name] = origin
                waiting.append(name)
    return files


def _imported(module: str, files: Mapping[str, Path]) -> list[str]:
    """Names of modules that a module may import, including inside functions."""
    file = files[module]
    if file.suffix != ".py":
        return []
    return _imports(file, file.stat().st_mtime_ns, module if file.name == "__init__.py" else module.rpartition(".")[0])


@lru_cache(maxsize=512)
def _imports(file: Path, changed: int, parent: str) -> list[str]:
    """Names of modules that a source file of a package may import."""
    names = []
    for node in ast.walk(_tree(file, changed)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = parent.split(".")[: len(parent.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names


@cache
def _origin(name: str) -> Path | None:
    """The file of a module, found without importing it; None for a name inside a module, or an unknown one."""
    top, *inside = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for depth in range(1, len(inside) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join([top, *inside[:depth]]), [*spec.submodule_search_locations])
    origin = Path(spec.origin) if spec and spec.origin else None
    return origin if origin and origin.is_file() else None


@lru_cache(maxsize=512)
def _tree(file: Path, changed: int) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError) as error:
        raise PathpruneError(f"{file.name} is not valid Python ({reason(error)}), so it has no digest") from error


@lru_cache(maxsize=512)
def _normal(file: Path, changed: int, package: str) -> str:
    """The normal form of a module as text; for other files, a text of their bytes."""
    if file.suffix != ".py":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return normal_form(_tree(file, changed), package)


def normal_form(tree: ast.Module, package: str = ".") -> str:
    """A module's syntax tree as text, equal for code that is equivalent by the rules above.

    ``package``: the module's top-level package."""
    writer = _Writer()
    body = writer.body(tree.body)
    used = {f"{name}={target}" for name, target in _bound(tree, package) if name in writer.used}
    return "\n".join([*sorted(used), body])


def _bound(tree: ast.AST, package: str = ".") -> Iterator[tuple[str, str]]:
    """Names bound by imports, and their targets: top-level package ("." for its own), and object."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom):
            top = (node.module or "").partition(".")[0]
            where = "." if node.level or top == package else top
            yield from ((alias.asname or alias.name, f"{where}:{alias.name}") for alias in node.names)


class _Writer:
    """Writes trees as text. ``scopes``: canonical names of local variables per enclosing function, the innermost last."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, str]] = []
        self.count = 0
        self.used: set[str] = set()  # names that are read and not local

    def body(self, statements: Sequence[ast.stmt], fields: bool = False) -> str:
        """Statements without docstrings, imports and type-checker code; ``fields``: in a class body."""
        kept = statements[1:] if statements and _is_text(statements[0]) else statements
        return f"[{','.join(self.node(s, fields) for s in kept if not self._idle(s, fields)) or 'Pass'}]"

    def _idle(self, node: ast.stmt, fields: bool) -> bool:
        if isinstance(node, ast.If):
            return getattr(node.test, "attr", getattr(node.test, "id", "")) == "TYPE_CHECKING" and not node.orelse
        if fields and isinstance(node, ast.Assign) and all(getattr(t, "id", "") in USES for t in node.targets):
            return True
        bare = isinstance(node, ast.AnnAssign) and node.value is None and not fields
        return bare or isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass))

    def node(self, node: ast.AST, fields: bool = False) -> str:
        match node:
            case ast.Name():
                return self.name(node.id)
            case ast.Constant():
                return _plain_text(node.value)
            case ast.AnnAssign(value=ast.AST() as value) if not fields:  # in a class it may be a dataclass' field
                return f"Assign(targets=[{self.node(node.target)}],value={self.node(value)})"
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                return self._function(node)
            case ast.ClassDef():
                return self._class(node)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                return self._comprehension(node)
        parts = ((n, v) for n, v in ast.iter_fields(node) if n not in SILENT and v is not None and v != [])
        return f"{type(node).__name__}({','.join(f'{n}={self._value(n, v)}' for n, v in parts)})"

    def _value(self, field: str, value: Any) -> str:
        if isinstance(value, ast.AST):
            return self.node(value)
        if isinstance(value, list):
            if value and isinstance(value[0], ast.stmt):
                return self.body(value)
            return f"[{','.join(self._value(field, v) for v in value)}]"
        # An exception's or a pattern's name is a string in the tree, and a variable all the same.
        return self.name(value) if field in ("name", "rest") and isinstance(value, str) else repr(value)

    def name(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        self.used.add(name)
        return repr(name)

    def _open(self, names: Iterable[str]) -> None:
        """Open a scope with its variables numbered in this order."""
        self.scopes.append({name: f"${number}" for number, name in enumerate(names, self.count)})
        self.count += len(self.scopes[-1])

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> str:
        around = [self.node(n) for n in (node.args, *getattr(node, "decorator_list", []))]  # evaluated outside
        name = "" if isinstance(node, ast.Lambda) else self.name(node.name)
        self._open(_locals(node))
        self.scopes[-1] |= {a.arg: repr(a.arg) for a in ast.walk(node.args) if isinstance(a, ast.arg)}
        body = self.node(node.body) if isinstance(node, ast.Lambda) else self.body(node.body)
        self.scopes.pop()
        return f"{type(node).__name__}({name},{','.join(around)},{body})"

    def _class(self, node: ast.ClassDef) -> str:
        around = [self.node(n) for n in (*node.bases, *node.keywords, *node.decorator_list)]
        name = self.name(node.name)
        self.scopes.append({n: repr(n) for statement in node.body for n in _binds(statement)})  # attributes
        body = self.body(node.body, fields=True)
        self.scopes.pop()
        return f"ClassDef({name},{','.join(around)},{body})"

    def _comprehension(self, node: Any) -> str:
        """Write a comprehension, which has its own scope; the first iterable is evaluated outside of it."""
        sources = [self.node(node.generators[0].iter)]
        targets = [t for g in node.generators for t in ast.walk(g.target) if isinstance(t, ast.Name)]
        self._open(dict.fromkeys(t.id for t in targets if isinstance(t.ctx, ast.Store)))
        sources += [self.node(g.iter) for g in node.generators[1:]]
        loops = [
            f"{self.node(g.target)} in {source} if {self._value('ifs', g.ifs)} {g.is_async}"
            for g, source in zip(node.generators, sources, strict=True)
        ]
        values = [self.node(v) for v in ([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])]
        self.scopes.pop()
        return f"{type(node).__name__}({','.join([*values, *loops])})"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _locals(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[str]:
    """Local variables of a function in the order of first binding; empty if code may look them up by name."""
    body = [function.body] if isinstance(function, ast.Lambda) else function.body
    inside = [n for part in body for n in ast.walk(part)]
    if any(isinstance(n, ast.Name) and n.id in BY_NAME for n in inside):
        return []
    elsewhere = {name for n in inside if isinstance(n, (ast.Global, ast.Nonlocal)) for name in n.names}
    elsewhere |= {name for part in body for name, _ in _bound(part)}
    return [n for n in dict.fromkeys(n for part in body for n in _binds(part)) if n not in elsewhere]


def _binds(node: ast.AST) -> Iterator[str]:
    """Names that a statement or an expression binds in its own scope, in source order."""
    if isinstance(node, NAMED):
        yield node.name
    elif isinstance(node, COMPREHENSIONS):  # its variables are local to it, but := binds outside
        yield from (n.target.id for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
    elif isinstance(node, ast.Name):
        yield from [node.id] * isinstance(node.ctx, (ast.Store, ast.Del))
    elif not isinstance(node, ast.Lambda):
        name = None if isinstance(node, ast.alias) else getattr(node, "name", None) or getattr(node, "rest", None)
        yield from [name] if isinstance(name, str) else []
        for child in ast.iter_child_nodes(node):
            yield from _binds(child)


def _home(module: str) -> Path | None:
    """The folder of a user's module; None for an interactive session."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).resolve().parent if file else None


def _installed(file: Path) -> bool:
    return "site-packages" in file.parts or "dist-packages" in file.parts


def _is_beside(module: str, item_module: str, home: Path | None) -> bool:
    """Is a module the user's: the one that defines a class, or one in the same folder?"""
    if module == item_module:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return bool(home and file and Path(file).resolve().is_relative_to(home) and not _installed(Path(file)))


def is_beside(item: type, module: str, home: Path) -> bool:
    """Is a class defined in the user's file ``module``, or in a file next to it?"""
    return _is_beside(item.__module__, module, home)


def _compiled(item: Any, home: Path | None, seen: set[Any]) -> Iterator[str]:
    """Code objects and values of a class or function, and of what it uses from its module and neighbouring ones."""
    if item in seen:
        return
    seen.add(item)
    if isinstance(item, type):
        for base in item.__mro__[1:]:
            if base.__module__ not in ("builtins", "typing", "harness.api"):
                yield from _compiled(base, home, seen)
        for name, value in vars(item).items():
            functions = [getattr(value, part, None) for part in ("__func__", "fget", "fset", "fdel")]
            for function in [value, *functions]:
                if isinstance(function, (FunctionType, type)):
                    yield from _compiled(function, home, seen)
            if not name.startswith("__") and name not in USES and not isinstance(value, (FunctionType, type)):
                yield f"{item.__qualname__}.{name}={_constant(value)}"
    else:
        defaults = _constant([item.__defaults__, item.__kwdefaults__])
        yield f"{item.__qualname__}{_code(item.__code__, item.__doc__)}{defaults}"
        names = _names(item.__code__)
        used = {name: item.__globals__[name] for name in names & item.__globals__.keys()}
        for inner in [v for v in used.values() if isinstance(v, ModuleType) and _is_beside(v.__name__, "", home)]:
            used |= {f"{inner.__name__}.{name}": vars(inner)[name] for name in names & vars(inner).keys()}
        used |= dict(inspect.getclosurevars(item).nonlocals)
        for name, value in sorted(used.items()):
            if isinstance(value, (FunctionType, type)):
                if _is_beside(value.__module__, item.__module__, home):
                    yield from _compiled(value, home, seen)
            elif not isinstance(value, ModuleType):
                yield f"{name}={_constant(value)}"


def _names(code: CodeType) -> set[str]:
    return {*code.co_names}.union(*(_names(c) for c in code.co_consts if isinstance(c, CodeType)))


def _code(code: CodeType, docstring: str | None = None) -> str:
    """A code object as text, without local names, line numbers and docstring."""
    constants = ["" if docstring and c == docstring else _constant(c) for c in code.co_consts]
    return f"({code.co_code.hex()},{constants},{code.co_names})"


def _constant(value: Any) -> str:
    """A value's text, identical in every process; the type's name if the value cannot be pickled."""
    match value:
        case CodeType():
            return _code(value)
        case set() | frozenset():
            return f"{{{','.join(sorted(map(_constant, value)))}}}"
        case tuple() | list():
            return f"({','.join(map(_constant, value))})"
        case dict():
            return f"{{{','.join(sorted(f'{_constant(k)}:{_constant(v)}' for k, v in value.items()))}}}"
    if value is None or value is ... or isinstance(value, PLAIN):
        return _plain_text(value)
    try:
        return stable_text(value)
    except Exception:  # foreign values may raise anything when pickled
        return type(value).__name__


def _plain_text(value: Any) -> str:
    """``repr``, but in hexadecimal for integers too long for it."""
    if isinstance(value, int) and value.bit_length() > LONG:
        return hex(value)
    return repr(value)


def stable_text(value: Any) -> str:
    """A value's text, identical for equal values in every process, to distinguish the states of objects.

    Raises:
        Exception: the value cannot be pickled; most raise PicklingError, TypeError or AttributeError.
    """
    match value:
        case set() | frozenset():
            return f"{{{','.join(sorted(map(stable_text, value)))}}}"
        case tuple() | list():
            return f"({','.join(map(stable_text, value))})"
        case dict():
            return f"{{{','.join(sorted(f'{stable_text(k)}:{stable_text(v)}' for k, v in value.items()))}}}"
        case np.ndarray() if value.dtype != object:
            return f"{value.dtype}{value.shape}{hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if value is None or isinstance(value, PLAIN):
        return _plain_text(value)
    return f"{type(value).__qualname__}:{hashlib.sha256(pickle.dumps(value)).hexdigest()}"
