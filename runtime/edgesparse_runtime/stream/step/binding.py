"""`StepBinding`: a step model's inputs and outputs as memory of the caller's, bound once.

onnxruntime's `run` finds and wraps ten arrays and makes six each time, which takes longer than the step of a
small model; on bound memory it does neither.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnxruntime

from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.model_check.open import first_line
from edgesparse_runtime.stream.sample import FloatArray


class Memory(NamedTuple):
    """An array and onnxruntime's view of it; making the view takes longer than binding it."""

    array: FloatArray
    view: onnxruntime.OrtValue

    @classmethod
    def of(cls, array: FloatArray) -> Memory:
        """The memory of a float32 array that lies in one piece.

        Raises:
            ValueError: it does not, so that onnxruntime would look at a copy.
        """
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError("An array to bind must be float32 and lie in one piece.")
        return cls(array, onnxruntime.OrtValue.ortvalue_from_numpy(array))


class StepBinding:
    """Arrays that a session reads and writes in place, for as long as this object lives.

    Args:
        session: of a step model.
        name: of its file, for messages.
    """

    def __init__(self, session: onnxruntime.InferenceSession, name: str) -> None:
        self._session, self._name = session, name
        self._binding = session.io_binding()
        # onnxruntime keeps addresses only.
        self._held: dict[str, Memory] = {}

    def set_input(self, name: str, memory: Memory) -> None:
        """Read this input from there.

        Raises:
            BundleError: the model has no such input.
        """
        try:
            self._binding.bind_ortvalue_input(name, memory.view)
        except Exception as error:  # onnxruntime raises a class of its own for each status
            raise self._refuse(error) from None
        self._held[name] = memory

    def set_output(self, name: str, memory: Memory) -> None:
        """Write this output there.

        Raises:
            BundleError: the model has no such output.
        """
        try:
            self._binding.bind_ortvalue_output(name, memory.view)
        except Exception as error:
            raise self._refuse(error) from None
        self._held[name] = memory

    def run(self) -> None:
        """One run over what the arrays hold now.

        Raises:
            BundleError: the model does not run on inputs of these shapes and types, or has other outputs.
        """
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise self._refuse(error) from None

    def _refuse(self, error: Exception) -> BundleError:
        return BundleError(
            f"{self._name} must run on the state that the manifest describes; {first_line(error)}. "
            "Export the bundle again."
        )
