"""Exported files tell nothing of the machine that exported them."""

from __future__ import annotations

import onnx

from edgesparse_runtime.bundle.read import Bundle, all_files
from tests.support.paths import ROOT


def test_no_file_of_a_bundle_names_a_folder_of_the_machine(shared_bundle: Bundle) -> None:
    for name, content in all_files(shared_bundle).items():
        assert str(ROOT).encode() not in content, name
        assert b'File "' not in content, name


def test_nodes_keep_their_module_and_nothing_else(shared_bundle: Bundle) -> None:
    for precision in shared_bundle.precisions:
        model = onnx.load(shared_bundle.model_path(precision))
        keys = {entry.key for node in model.graph.node for entry in node.metadata_props}
        assert keys == {"pkg.torch.onnx.name_scopes"}
