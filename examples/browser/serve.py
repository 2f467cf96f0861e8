"""Serves a bundle's model, its golden windows and index.html on loopback; --once ends with the page's result.

Needs: pip install edgesparse, and `npm install --ignore-scripts` in this folder.
"""

import argparse
import base64
import json
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from edgesparse_runtime.bundle.read import open_bundle

HERE = Path(__file__).parent

parser = argparse.ArgumentParser(description="Serve a bundle's model to a browser on this machine.")
parser.add_argument("bundle", type=Path)
parser.add_argument("--precision", choices=("float32", "int8"), default="float32")
parser.add_argument("--port", type=int, default=8000, help="0: a free one")
parser.add_argument("--packages", type=Path, default=HERE / "node_modules", help="where npm installed")
parser.add_argument("--once", action="store_true", help="end when the page has reported, and print that")
options = parser.parse_args()

bundle = open_bundle(options.bundle)
golden = bundle.golden()
windows, scores = golden["windows"], golden[f"scores_{options.precision}"]
content = {
    "/model.onnx": Path(bundle.model_path(options.precision)).read_bytes(),
    "/golden.json": json.dumps(
        {
            "shape": windows.shape,
            "windows": base64.b64encode(windows.astype("<f4").tobytes()).decode(),
            "scores": base64.b64encode(scores.astype("<f4").tobytes()).decode(),
        }
    ).encode(),
}


class Handler(SimpleHTTPRequestHandler):
    """Files of this folder and of npm's, and what is made of the bundle."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

    def translate_path(self, path: str) -> str:
        """Nothing but the page and the package is served."""
        found = Path(super().translate_path(path)).relative_to(Path.cwd())
        is_package = found.parts[:2] == ("node_modules", "onnxruntime-web")
        return str(options.packages.joinpath(*found.parts[1:]) if is_package else HERE / "index.html")

    def do_GET(self) -> None:
        """A file, or what is in memory."""
        if self.path not in content:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content[self.path])))
        self.end_headers()
        self.wfile.write(content[self.path])

    def do_POST(self) -> None:
        """The page's result."""
        found = self.rfile.read(min(int(self.headers["Content-Length"]), 1 << 20)).decode()
        self.send_response(204)
        self.end_headers()
        print(found, flush=True)
        if options.once:
            self.server.shutdown()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


with ThreadingHTTPServer(("127.0.0.1", options.port), Handler) as server:
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
