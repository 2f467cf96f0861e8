"""What the functions of a file come to when each call is replaced by its nodes, counted without doing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from edgesparse_runtime.model_check.limits import Limits, RuleError, cut

# Domain, name, overload. onnxruntime joins them with colons, so none of them may hold one.
Key = tuple[str, str, str]


@dataclass
class Body:
    """Nodes of a graph or function: how many, how many values they name, and how often each operator or
    function is called."""

    nodes: int = 0
    names: int = 0
    calls: dict[Key, int] = field(default_factory=dict)


class _Size(NamedTuple):
    """What a body comes to: nodes, names of their inputs and outputs, and how deep the calls go."""

    nodes: int
    names: int
    depth: int


def count_expanded(graph: Body, functions: dict[Key, Body], limits: Limits) -> int:
    """Nodes of the graph with every call replaced.

    Raises:
        RuleError: a function calls itself, calls nest too deep, or there would be too many nodes, or names of
            values.
    """
    sizes: dict[Key, _Size] = {}
    for key in functions:
        _expand(key, functions, sizes, limits)
    return _sum(graph, sizes, limits).nodes


def _expand(key: Key, functions: dict[Key, Body], sizes: dict[Key, _Size], limits: Limits) -> None:
    """Fills in the size of a function and of those it calls, without recursion."""
    path: set[Key] = set()
    stack = [(key, False)]
    while stack:
        top, is_done = stack.pop()
        if is_done:
            sizes[top] = _sum(functions[top], sizes, limits)
            path.remove(top)
        elif top in path:
            raise RuleError(f"define functions that end; {cut(top[1])} calls itself")
        elif top not in sizes:
            path.add(top)
            stack.append((top, True))
            stack.extend((k, False) for k in functions[top].calls if k in functions)


def _sum(body: Body, sizes: dict[Key, _Size], limits: Limits) -> _Size:
    called = [(sizes[key], times) for key, times in body.calls.items() if key in sizes]
    nodes = body.nodes + sum(size.nodes * times for size, times in called)
    names = body.names + sum(size.names * times for size, times in called)
    depth = 1 + max((size.depth for size, _ in called), default=0)
    if nodes > limits.expanded_nodes:
        raise RuleError(f"expand to at most {limits.expanded_nodes} nodes")
    if names > limits.expanded_names:
        raise RuleError(f"expand to nodes of at most {limits.expanded_names} inputs and outputs")
    if depth > limits.calls:
        raise RuleError(f"nest calls of functions at most {limits.calls} deep")
    return _Size(nodes, names, depth)
