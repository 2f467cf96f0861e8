"""The rival: what one writes in an afternoon. FastAPI on uvicorn, the same session, no batching, no checks.

python -m benchmarks.serving.fastapi BUNDLE    prints its port
"""

from __future__ import annotations

import json
import socket
import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from edgesparse_runtime.session import Session


def make_app(bundle: str) -> FastAPI:
    """The same bytes in and out as the protocol's binary form, so that one load generator serves both."""
    app = FastAPI()
    session = Session(bundle, threads=1)

    @app.post("/v2/models/pump/infer")
    async def infer(request: Request) -> Response:
        body = await request.body()
        length = int(request.headers["inference-header-content-length"])
        asked = json.loads(body[:length])
        window = np.frombuffer(body, "<f4", offset=length).reshape(asked["inputs"][0]["shape"])
        scores = await run_in_threadpool(session.predict, window)
        head = json.dumps({"id": asked["id"]}).encode()
        headers = {"inference-header-content-length": str(len(head)), "edgesparse-bundle": ""}
        return Response(head + scores.tobytes(), headers=headers)

    return app


def main() -> None:
    """Listen on a free port of loopback until terminated."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(make_app(sys.argv[1]), log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
