"""What a model file may be, decided before onnxruntime sees it.

A model is somebody else's program. Rules:

1. It is a well-formed ONNX message of at most `largest` bytes, each field in its own wire type and as often
   as ONNX has it, and no unknown field. It is not of onnxruntime's own format.
2. Tensors lie in the file: no external data, and each holds exactly the elements that its shape claims.
   Sparse tensors, whose dense form may be far larger than the file, are refused; so are values that are no
   tensors.
3. Operators are those of the list in `operators`, or functions that the file itself defines. No function
   takes the name of an operator of ONNX or onnxruntime.
4. Fields, nodes, tensors, functions, attributes and the depth of nested graphs are bounded; functions do not
   call themselves, and what they expand to is bounded too. Nodes come after those whose outputs they take.
5. No training part. Names are printable text without a colon where onnxruntime joins them by one.

Only what was read is passed on, written anew in one form (`write`), so that onnxruntime cannot read another
model than the one that was checked. The device has no `onnx` package: this reads the wire format itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.model_check.calls import Body, Key, count_expanded
from edgesparse_runtime.model_check.constants import Preparation, prepare
from edgesparse_runtime.model_check.limits import Limits, RuleError, cut, limits_of
from edgesparse_runtime.model_check.operators import (
    ALLOW_VARIABLE,
    REFUSED_OPERATORS,
    Operator,
    allowed_operators,
    is_taken,
    plain_domain,
)
from edgesparse_runtime.model_check.parse import Parser, Record
from edgesparse_runtime.model_check.protobuf_wire import WireError
from edgesparse_runtime.model_check.tensors import check_tensor
from edgesparse_runtime.model_check.write import write_message

# onnxruntime looks for this at bytes 4 to 7 before it looks for anything else.
_ORT_MARK = b"ORTM"
# The field that holds the value of each type of attribute; those of sparse tensors and types are refused.
_VALUE_FIELDS = {
    1: "f",
    2: "i",
    3: "s",
    4: "t",
    5: "g",
    6: "floats",
    7: "ints",
    8: "strings",
    9: "tensors",
    10: "graphs",
}


@dataclass
class ModelFacts:
    """What was counted on the way.

    Attributes:
        fields: protobuf fields.
        nodes, tensors, functions, attributes: in all graphs and functions.
        tensor_bytes: of all tensors.
        domains: of all nodes.
        expanded_nodes: with every call of a function replaced by its nodes.
    """

    fields: int = 0
    nodes: int = 0
    tensors: int = 0
    functions: int = 0
    attributes: int = 0
    tensor_bytes: int = 0
    expanded_nodes: int = 0
    domains: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class CheckedModel:
    """A model that keeps the rules.

    Attributes:
        content: its bytes, written anew from what was read; these go to onnxruntime.
        facts: what was counted.
        preparation: what onnxruntime may do to it while it opens.
    """

    content: bytes
    facts: ModelFacts
    preparation: Preparation


def check_model(
    content: bytes, name: str, limits: Limits | None = None, *, operators: Collection[str] = ()
) -> CheckedModel:
    """Hold a model file against the rules; allocates nothing that grows with what the file claims.

    Args:
        name: of the file, for messages.
        limits: None = those for the size of the file.
        operators: allowed besides those of the list, as `DOMAIN::NAME`.

    Raises:
        BundleError: a rule is broken; says which.
    """
    limits = limits or limits_of(len(content))
    if len(content) > limits.largest:
        raise BundleError(f"{name} must be at most {limits.largest} bytes; got {len(content)}.")
    if content[4:8] == _ORT_MARK:
        raise BundleError(
            f"{name} must be an ONNX model; it is of onnxruntime's own format. It is not opened."
        )
    parser = Parser(limits)
    rules = _Rules(limits, allowed_operators(operators))
    try:
        model = parser.parse(memoryview(content), "Model")
        rules.check(model)
        preparation = prepare(model, rules.functions, len(content))
    except WireError as error:
        raise BundleError(f"{name} must be an ONNX model; found {error}.") from None
    except RuleError as error:
        raise BundleError(f"{name} must {error}. It is not opened.") from None
    rules.facts.fields = parser.fields
    return CheckedModel(write_message(model, "Model"), rules.facts, preparation)


class _Rules:
    def __init__(self, limits: Limits, allowed: frozenset[Operator]) -> None:
        self._limits, self._allowed = limits, allowed
        self.facts = ModelFacts()
        self._bodies: dict[Key, Body] = {}
        self.functions: dict[Key, Record] = {}

    def check(self, model: Record) -> None:
        if "graph" not in model:
            raise RuleError("hold a graph")
        for opset in _opsets(model):
            _set_domain(opset)
        for function in model.get("functions", ()):
            self._read_function(function)
        graph = Body()
        self._read_graph(model["graph"], graph, 0)
        self._check_operators(graph)
        self.facts.expanded_nodes = count_expanded(graph, self._bodies, self._limits)

    def _read_graph(self, graph: Record, body: Body, depth: int) -> None:
        if depth > self._limits.depth:
            raise RuleError(f"nest graphs at most {self._limits.depth} deep")
        for tensor in graph.get("initializer", ()):
            self._read_tensor(tensor)
        for node in graph.get("node", ()):
            self._read_node(node, body, depth)

    def _read_function(self, function: Record) -> None:
        self._count("functions")
        name, domain = function.get("name", ""), _set_domain(function)
        overload = function.get("overload", "")
        if is_taken(domain):
            raise RuleError(f"define functions in domains of its own; {cut(name)} is in {cut(domain)}")
        body, key = Body(), _key(domain, name, overload)
        for node in function.get("node", ()):
            self._read_node(node, body, 0)
        for attribute in function.get("attribute_proto", ()):
            self._read_attribute(attribute, body, 0)
        if key in self._bodies:
            raise RuleError(f"define a function once; {cut(name)} comes twice")
        self._bodies[key], self.functions[key] = body, function

    def _read_node(self, node: Record, body: Body, depth: int) -> None:
        self._count("nodes")
        operator, domain = node.get("op_type", ""), _set_domain(node)
        if operator in REFUSED_OPERATORS:
            raise RuleError(f"hold no operator {operator}")
        self.facts.domains.add(domain)
        names = set()
        for attribute in node.get("attribute", ()):
            names.add(attribute.get("name", ""))
            self._read_attribute(attribute, body, depth)
        if len(names) != len(node.get("attribute", ())):
            raise RuleError(f"name each attribute of a node once; {cut(operator)} has one twice")
        body.nodes += 1
        body.names += len(node.get("input", ())) + len(node.get("output", ()))
        key = _key(domain, operator, node.get("overload", ""))
        body.calls[key] = body.calls.get(key, 0) + 1

    def _read_attribute(self, attribute: Record, body: Body, depth: int) -> None:
        self._count("attributes")
        value = _VALUE_FIELDS.get(attribute.get("type", 0))
        held = attribute.keys() & set(_VALUE_FIELDS.values())
        if value is None or held - {value} or (held and attribute.get("ref_attr_name")):
            raise RuleError(
                f"hold attributes of the type that they state; {cut(attribute.get('name', ''))} is not"
            )
        for tensor in _values(attribute, "t", "tensors"):
            self._read_tensor(tensor)
        for graph in _values(attribute, "g", "graphs"):
            self._read_graph(graph, body, depth + 1)

    def _read_tensor(self, tensor: Record) -> None:
        self._count("tensors")
        self.facts.tensor_bytes += check_tensor(tensor)

    def _check_operators(self, graph: Body) -> None:
        """Rule 3: every operator is of the list, or a function of the file."""
        for body in (graph, *self._bodies.values()):
            for domain, operator, overload in body.calls:
                if (domain, operator, overload) in self._bodies:
                    continue
                if overload or (domain, operator) not in self._allowed:
                    full = f"{domain or 'ai.onnx'}::{operator}"
                    raise RuleError(
                        f"hold operators that are known to be safe; got {cut(full)}. If you trust the file, "
                        f"allow it with {ALLOW_VARIABLE}"
                    )

    def _count(self, what: str) -> None:
        most = getattr(self._limits, what)
        found = getattr(self.facts, what) + 1
        if found > most:
            raise RuleError(f"hold at most {most} {what}")
        setattr(self.facts, what, found)


def _set_domain(record: Record) -> str:
    """The domain as onnxruntime resolves it, which is also what is written: ONNX's own is left out."""
    domain = plain_domain(record.pop("domain", ""))
    if domain:
        record["domain"] = domain
    return domain


def _key(domain: str, name: str, overload: str) -> Key:
    if ":" in domain + name + overload:
        raise RuleError(f"name operators and functions without a colon; got {cut(name)}")
    return domain, name, overload


def _values(record: Record, one: str, many: str) -> Iterator[Record]:
    """The messages of a field that comes once and of one that comes often."""
    if one in record:
        yield record[one]
    yield from record.get(many, ())


def _opsets(model: Record) -> Iterator[Record]:
    yield from model.get("opset_import", ())
    for function in model.get("functions", ()):
        yield from function.get("opset_import", ())
