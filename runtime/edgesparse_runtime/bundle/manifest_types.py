"""What a manifest holds, as types; docs/reference/bundle.md says what each field means.

`manifest.schema.json` holds every manifest that is opened to the same form, so code may rely on these types.
Fields that only one verb writes and reads for display (`report`, `recipe`, `config`) stay open.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class Channel(TypedDict):
    """One row of the input window."""

    name: str
    unit: NotRequired[str | None]
    typical: NotRequired[dict[str, float]]


class TensorInput(TypedDict):
    """One named input of a drop-in model."""

    name: str
    type: str
    shape: list[int | str]


class InputFacts(TypedDict, total=False):
    """Steps of the training series, and the fewest that the model accepts."""

    variable_length: bool
    shortest: int
    longest: int
    min_steps: int
    steps_per_token: int
    window: int | None
    stride: int | None
    period: float | None
    tensors: list[TensorInput]
    positions: int


class Metric(TypedDict):
    """A figure with its 95 % interval over `n` series."""

    name: str
    value: float
    low: float
    high: float
    n: int


class QuantizationReport(TypedDict, total=False):
    """What int8 changed, on the series given to `edgesparse quantize`; null where these cannot tell."""

    recipe: dict[str, Any]
    linear_layers: int
    attention_layers: int
    series: int
    metric: Metric | None
    int8: Metric | None
    drop: float | None
    flipped: Metric | None
    selection_overlap: Metric | None
    alarms: dict[str, Any] | None
    ranking: list[Any]
    tried: int
    complete: bool
    bytes_float32: int
    bytes_int8: int


class Model(TypedDict):
    """An ONNX file of one precision."""

    file: str
    attention: NotRequired[str]
    report: NotRequired[QuantizationReport]


class DenseTwin(Model):
    """The same weights with dense attention."""

    of: NotRequired[str]
    largest_difference: NotRequired[float]


class DenseUpTo(TypedDict):
    """Steps up to which the dense twin is faster, at one density; density null = the model as exported."""

    density: float | None
    steps: int


class BreakevenRow(TypedDict):
    """One cell: a length, and a density or None for the model as exported; times in milliseconds.

    `ratio`, `low` and `high` are sparse over dense; `agrees` tells whether dense may stand for sparse.
    """

    length: int
    density: float | None
    kept: float
    sparse_ms: float
    dense_ms: float
    ratio: float
    low: float
    high: float
    rounds: int
    winner: str
    agrees: bool
    agreement: dict[str, Any] | None


class BreakevenEntry(TypedDict, total=False):
    """Where dense attention is faster on one machine at one precision."""

    precision: str
    model: str | None
    cpu: str
    instruction_sets: list[str]
    threads: int
    onnxruntime: str
    engine: str
    kernels: str | None
    batch: int
    measured: str
    dense_up_to: list[DenseUpTo]
    table: list[BreakevenRow]


class Attention(TypedDict):
    """How the model attends."""

    mode: Literal["dense", "sparse", "none"]
    layers: list[str]
    num_heads: int
    block_size: int
    causal: NotRequired[bool]
    window: NotRequired[int]
    summaries: NotRequired[bool]
    tokens_at_longest: NotRequired[int]


class Training(TypedDict):
    """What the model was trained on, and how."""

    source: str
    series: int
    config: NotRequired[dict[str, Any]]


class Compute(TypedDict):
    """Operations over those of dense attention, and of the same model with dense attention."""

    attention_share: float
    model_share: float


class Forecast(TypedDict):
    """What a forecaster forecasts."""

    channel: str
    horizon: int
    season: int | None


class Stream(TypedDict):
    """The step model of a causal model: its files and the sizes of its state."""

    step: str
    block: str
    steps_per_token: int
    window: int | None
    stride: int | None
    period: float | None
    history: int
    block_size: int
    largest_difference: NotRequired[float]


class TextFacts(TypedDict):
    """How texts become a model's inputs, and its states an embedding; `prompts` names a file."""

    tokenizer: str
    max_tokens: int
    pad_id: int
    pooling: str
    normalize: bool
    prompts: NotRequired[str]
    default_prompt: NotRequired[str]


class FileEntry(TypedDict):
    """One file of the bundle."""

    bytes: int
    sha256: str


class Manifest(TypedDict):
    """A whole manifest of the newest schema version."""

    schema_version: int
    edgesparse: str
    created: str
    name: str
    task: str
    channels: list[Channel]
    classes: list[str]
    input: InputFacts
    models: dict[str, Model]
    dense: dict[str, DenseTwin]
    breakeven: list[BreakevenEntry]
    files: dict[str, FileEntry]
    attention: NotRequired[Attention]
    training: NotRequired[Training]
    parameters: NotRequired[int]
    budget: NotRequired[float | None]
    compute: NotRequired[Compute]
    metrics: NotRequired[dict[str, Metric]]
    forecast: NotRequired[Forecast]
    parity: NotRequired[dict[str, Any]]
    stream: NotRequired[Stream]
    unknown: NotRequired[dict[str, Any] | None]
    dropin: NotRequired[dict[str, Any]]
    text: NotRequired[TextFacts]
    generation: NotRequired[dict[str, Any]]
    release: NotRequired[int]
    parent: NotRequired[str]
    expires: NotRequired[str]
    update: NotRequired[dict[str, Any]]
