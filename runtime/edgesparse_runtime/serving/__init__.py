"""The server behind `edgesparse serve`: Open Inference Protocol v2 over HTTP.

| file | what |
|---|---|
| `settings` | every bound and choice, checked |
| `places` | which bundle is served under which name and version |
| `served_model` | one loaded bundle; `shelf` = all of them, reloaded by swap |
| `rehearsal` | a new bundle is tried in a process of its own first |
| `tensors`, `protocol` | request bytes to arrays and back, bounded |
| `admission`, `batching` | the bounded queue and the batches cut from it |
| `routes`, `guard`, `openapi` | HTTP: answers, who may ask, the page that describes it |
| `connection`, `server` | sockets, signals, shutdown; `tls` = are certificate and key usable |
| `figures`, `events` | metrics and structured logs |

Only `routes`, `connection`, `server` and `figures` need the extra `serve`.
"""
