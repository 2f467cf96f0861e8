"""The server behind `edgesparse serve`: Open Inference Protocol v2 over HTTP.

| module | contents |
|---|---|
| `settings` | every limit and option, validated |
| `addresses` | which bundle is served under which name and version |
| `served_model` | one loaded bundle; `registry` = all of them, replaced while serving |
| `sandbox` | a new bundle runs in a process of its own first |
| `protocol` | bytes of a request to arrays, arrays to the bytes of an answer; refusals |
| `admission`, `batching` | the bounded queue and the batches cut from it |
| `http` | connections, access control, TLS |
| `routes`, `openapi` | paths and their answers, and the document that describes them |
| `server` | sockets, signals, shutdown |
| `metrics`, `log`, `memory` | Prometheus metrics, structured logs, memory returned to the system |

Only `routes`, `http.connection`, `server` and `metrics` need the extra `serve`.
"""
