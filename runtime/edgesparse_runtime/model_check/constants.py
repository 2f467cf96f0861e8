"""What onnxruntime would compute from constants while it opens a model, bounded without computing it.

A file of a few bytes can hold an Expand that is folded into gigabytes, and one tensor that ten thousand
nodes use is packed ten thousand times. Two sums tell such models from honest ones: the bytes of what may
be folded, and the bytes of constants over all their uses. Where one is large, onnxruntime opens the model
without that work, and the same outputs are computed when it runs.

Constant is what may be one to onnxruntime: initializers that are no inputs, results of nodes whose inputs
are constant, and shapes, which are known when the file states them.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import MutableMapping, Sequence
from typing import NamedTuple

from edgesparse_runtime.model_check.calls import Key
from edgesparse_runtime.model_check.limits import RuleError
from edgesparse_runtime.model_check.parse import Record

# A folded result larger than this and than the file is left to the run.
_LEAST_FOLDED = 1 << 18
# All folded results together; as a multiple of the file where that is more.
_MOST_FOLDED = 256 << 20
_FOLDED_PER_BYTE = 256
# Uses of constants: packing a column pads it to sixteen, so a byte of use may be sixteen of memory.
_USES_PER_BYTE = 16
_FREE_USES = 16 << 20
_SHAPE_BYTES = 128
# Of an element of any type, and how far a result of one pass can exceed its inputs by its type.
_WIDEST = 8
_FIRST_VERSION_WITHOUT_OVERRIDES = 4
# One pass over inputs and output; everything else (products, convolutions) is not folded.
_CHEAP_NAMES = (
    "Abs Add And ArgMax ArgMin Cast CastLike Ceil Clip Concat Constant ConstantOfShape Cos CumSum "
    "DequantizeLinear Div Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Greater "
    "GreaterOrEqual Identity If IsInf IsNaN Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pad Pow "
    "QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape "
    "Round ScatterElements ScatterND Shape Sigmoid Sign Sin Size Slice Softplus Split Sqrt Squeeze Sub "
    "Sum Tanh Tile Transpose Trilu Unsqueeze Where Xor "
)
# Their results can be larger than all inputs together.
_GROWING_NAMES = "ConstantOfShape Expand Gather GatherElements GatherND Pad Range Tile "
# Two inputs of different shapes meet: a row and a column make a matrix.
_BROADCAST_NAMES = (
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow Sub Sum Where Xor "
)
_CHEAP = frozenset(_CHEAP_NAMES.split())
_GROWING = frozenset(_GROWING_NAMES.split())
_BROADCAST = frozenset(_BROADCAST_NAMES.split())
_SHAPES = frozenset({"Shape", "Size"})


class Work(NamedTuple):
    """What opening a model comes to.

    Attributes:
        folded: upper bound of the bytes that are written for results that may be folded: a sum of many inputs
            writes its result once for each.
        products: those among them that take more than a pass over their inputs and output.
        uses: bytes of constants over all nodes that keep them.
    """

    folded: int = 0
    products: int = 0
    uses: int = 0

    def plus(self, other: Work) -> Work:
        return Work(self.folded + other.folded, self.products + other.products, self.uses + other.uses)


class Preparation(NamedTuple):
    """What onnxruntime may do to a model before it runs.

    Attributes:
        folds: it folds constants.
        folded_bytes: of one folded result.
        rewrites: it rewrites the graph and packs weights.
    """

    folds: bool
    folded_bytes: int
    rewrites: bool


class _Constant(NamedTuple):
    """A value that may be constant; `stored` is False for results, whose size is not known."""

    size: int
    stored: bool


_Known = MutableMapping[str, _Constant]
_Sizes = tuple[_Constant | None, ...]


def prepare(model: Record, functions: dict[Key, Record], size: int) -> Preparation:
    """How a model is opened.

    Args:
        model: checked: no function calls itself, and what they expand to is bounded.
        functions: of the file, by key.
        size: of the file in bytes.

    Raises:
        RuleError: a node comes before one whose output it takes.
    """
    most = max(_LEAST_FOLDED, size)
    graph = model["graph"]
    inputs = {entry.get("name", "") for entry in graph.get("input", ())}
    if model.get("ir_version", 0) < _FIRST_VERSION_WITHOUT_OVERRIDES:
        inputs = set()
    known: _Known = {name: constant for name, constant in _initializers(graph).items() if name not in inputs}
    work, _ = _Walk(functions, most).walk(graph.get("node", ()), known)
    return Preparation(
        folds=work.folded <= max(_MOST_FOLDED, _FOLDED_PER_BYTE * size) and not work.products,
        folded_bytes=most,
        rewrites=work.uses <= _USES_PER_BYTE * size + _FREE_USES,
    )


class _Walk:
    def __init__(self, functions: dict[Key, Record], most: int) -> None:
        self._functions = functions
        self._most = most
        self._called: dict[tuple[Key, _Sizes], tuple[Work, _Sizes]] = {}

    def walk(self, nodes: Sequence[Record], known: _Known) -> tuple[Work, set[str]]:
        """The work of nodes in their order, and the names that they take from outside.

        `known` gains what is constant among their outputs.
        """
        work, taken, made = Work(), set[str](), set[str]()
        for node in nodes:
            key = (node.get("domain", ""), node.get("op_type", ""), node.get("overload", ""))
            names, outputs = node.get("input", ()), node.get("output", ())
            taken.update(name for name in names if name not in made)
            inputs = tuple(known.get(name) for name in names)
            if key in self._functions:
                more, found = self._call(key, inputs)
            else:
                more, found, further = self._node(node, inputs, known)
                taken |= further - made
            made.update(outputs)
            if not taken.isdisjoint(outputs):
                raise RuleError("list each node after those whose outputs it takes")
            known.update((name, size) for name, size in zip(outputs, found, strict=False) if size)
            work = work.plus(more)
        return work, taken

    def _call(self, key: Key, inputs: _Sizes) -> tuple[Work, _Sizes]:
        found = self._called.get((key, inputs))
        if found is None:
            function = self._functions[key]
            pairs = zip(function.get("input", ()), inputs, strict=False)
            known: _Known = {name: constant for name, constant in pairs if constant is not None}
            work, _ = self.walk(function.get("node", ()), known)
            found = work, tuple(known.get(name) for name in function.get("output", ()))
            self._called[key, inputs] = found
        return found

    def _node(self, node: Record, inputs: _Sizes, known: _Known) -> tuple[Work, _Sizes, set[str]]:
        """Its work, the sizes of its outputs, and what its graphs take from outside."""
        operator, count = node.get("op_type", ""), len(node.get("output", ()))
        if node.get("domain"):
            operator = ""
        if operator == "Constant":
            return Work(), (self._constant(node),) * count, set()
        work, taken, branches = self._branches(node, known)
        given = [size for name, size in zip(node.get("input", ()), inputs, strict=True) if name]
        if operator in _SHAPES or (all(given) and branches):
            product = int(operator not in _CHEAP)
            result = _Constant(self._bound(operator, [size for size in given if size]), stored=False)
            folded = result.size * (max(1, len(given) - 1) if operator in _BROADCAST else 1)
            return work.plus(Work(folded=folded, products=product)), (result,) * count, taken
        kept = (size for size in given if size and (size.stored or operator not in _CHEAP))
        return work.plus(Work(uses=sum(size.size for size in kept))), (None,) * count, taken

    def _branches(self, node: Record, known: _Known) -> tuple[Work, set[str], bool]:
        """The work of a node's graphs, what they take from outside, and whether one may be constant."""
        work, taken, constant = Work(), set[str](), []
        for attribute in node.get("attribute", ()):
            for graph in [attribute["g"]] if "g" in attribute else attribute.get("graphs", ()):
                scope: _Known = ChainMap({}, known)
                scope.update(_initializers(graph))
                more, further = self.walk(graph.get("node", ()), scope)
                names = [entry.get("name", "") for entry in graph.get("output", ())]
                constant.append(all(name in scope for name in names))
                taken |= further | set(names)
                work = work.plus(more)
        return work, taken, any(constant) or not constant

    def _bound(self, operator: str, inputs: Sequence[_Constant]) -> int:
        """Bytes of a result: larger ones are not folded, so that is the bound of what may grow."""
        sizes = [constant.size for constant in inputs]
        if operator in _SHAPES:
            return _SHAPE_BYTES
        if operator in _BROADCAST:
            return self._product(sizes)
        if operator in _CHEAP and operator not in _GROWING:
            return min(self._most, _WIDEST * sum(sizes))
        return self._most

    def _product(self, sizes: Sequence[int]) -> int:
        """As far as the bound: the whole product of a hundred thousand sizes has a million digits."""
        product = _WIDEST
        for size in sizes:
            product *= size
            if not 0 < product < self._most:
                break
        return min(self._most, product)

    def _constant(self, node: Record) -> _Constant:
        size = 0
        for attribute in node.get("attribute", ()):
            if "ref_attr_name" in attribute:
                return _Constant(self._most, stored=True)
            size += _tensor_bytes(attribute.get("t", {}))
            size += 8 * (len(attribute.get("floats", ())) + len(attribute.get("ints", ())) + 1)
        return _Constant(size, stored=True)


def _initializers(graph: Record) -> dict[str, _Constant]:
    return {
        tensor.get("name", ""): _Constant(_tensor_bytes(tensor), stored=True)
        for tensor in graph.get("initializer", ())
    }


def _tensor_bytes(tensor: Record) -> int:
    """At least the size of a tensor's elements: one that is written as a number takes a byte or more."""
    parts = (part for name, value in tensor.items() if name.endswith("_data") for part in _parts(value))
    return sum(map(len, parts)) * (1 if "raw_data" in tensor else 16)


def _parts(value: object) -> Sequence[memoryview]:
    return value if isinstance(value, list) else [value] if isinstance(value, memoryview) else ()
