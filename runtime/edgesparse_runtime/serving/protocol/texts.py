"""Texts of the Open Inference Protocol: the input `text`, datatype BYTES, in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgesparse_runtime.serving.protocol.refusal import Refusal
from edgesparse_runtime.serving.protocol.tensors import WindowBounds

NAME, DATATYPE = "text", "BYTES"


@dataclass(frozen=True)
class TextBounds(WindowBounds):
    """Limits of a model's input `text` [n]; what runs is ids and mask, two channels of at most `max_steps`.

    Attributes:
        prompts: names that the parameter `prompt` may have.
    """

    prompts: tuple[str, ...] = ()

    def read(self, tensor: Mapping[str, object]) -> tuple[str, ...]:
        """The texts of an input tensor.

        Raises:
            Refusal: 400, or 422 where shape and data contradict each other.
        """
        if tensor.get("name") != NAME or tensor.get("datatype") != DATATYPE:
            raise Refusal(400, f"The input must be `{NAME}` of datatype {DATATYPE}, texts as JSON strings.")
        shape, data = tensor.get("shape"), tensor.get("data")
        sizes = shape if isinstance(shape, list) else []
        if len(sizes) != 1 or type(sizes[0]) is not int or not 1 <= sizes[0] <= self.most_windows:
            raise Refusal(400, f"Input `{NAME}` must have shape [1 to {self.most_windows}].")
        if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
            raise Refusal(
                400, f"`data` of input `{NAME}` must be a list of texts in JSON; raw bytes are not."
            )
        if len(data) != sizes[0]:
            raise Refusal(422, f"`data` must hold {sizes[0]} texts for shape {sizes}; got {len(data)}.")
        return tuple(data)

    def read_prompt(self, parameters: Mapping[str, object]) -> str | None:
        """The name in the request's parameter `prompt`; None = it has none.

        Raises:
            Refusal: 400, the model has no such prompt.
        """
        prompt = parameters.get("prompt")
        if prompt is None or (isinstance(prompt, str) and prompt in self.prompts):
            return prompt
        known = ", ".join(self.prompts) or "none"
        raise Refusal(400, f"`prompt` must be the name of a prompt of the model ({known}).")
