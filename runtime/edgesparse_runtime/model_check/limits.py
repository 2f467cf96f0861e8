"""How much a model file may hold, and the errors that say what it holds too much of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Far above what an exported model needs, far below what hurts; these are of files from a megabyte.

    Attributes:
        largest: bytes of the file.
        fields: protobuf fields in all messages, and numbers in lists that are written one by one.
        nodes: in all graphs and functions.
        tensors: initializers, and tensors in attributes.
        functions: that the file defines.
        attributes: of all nodes.
        expanded_nodes: with every call of a function replaced by its nodes.
        expanded_names: of inputs and outputs of those nodes.
        depth: of graphs within graphs.
        calls: of functions within functions.
        text: bytes of one name.
    """

    largest: int = 2 << 30
    fields: int = 250_000
    nodes: int = 20_000
    tensors: int = 20_000
    functions: int = 1_000
    attributes: int = 60_000
    expanded_nodes: int = 50_000
    expanded_names: int = 500_000
    depth: int = 8
    calls: int = 32
    text: int = 1_024


LIMITS = Limits()
SMALL_FILE = 1_000_000
# A file without weights to speak of holds no large model either, and opens within seconds.
SMALL_LIMITS = Limits(
    fields=120_000,
    nodes=8_000,
    tensors=8_000,
    attributes=30_000,
    expanded_nodes=10_000,
    expanded_names=120_000,
)


def limits_of(size: int) -> Limits:
    """The limits of a file of `size` bytes."""
    return SMALL_LIMITS if size < SMALL_FILE else LIMITS


class RuleError(Exception):
    """A rule that does not hold, as the rest of a sentence that begins `FILE must`."""


def cut(text: str) -> str:
    """A name from the file, quoted and short enough for a message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
