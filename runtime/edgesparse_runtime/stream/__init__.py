"""Scores of a live stream: from a sensor, a pipe, a growing file or a broker (docs/guides/streaming.md).

```python
from edgesparse_runtime.stream import stream_scores

for score in stream_scores("pump.edgesparse", sensor_readings()):
    print(score.time, score.values)
```
"""

from __future__ import annotations

from edgesparse_runtime.stream.counts import Counts as Counts
from edgesparse_runtime.stream.parse import Record as Record
from edgesparse_runtime.stream.parse import SampleParser as SampleParser
from edgesparse_runtime.stream.sample import Sample as Sample
from edgesparse_runtime.stream.sample import Score as Score
from edgesparse_runtime.stream.sample import Step as Step
from edgesparse_runtime.stream.stream import Stream as Stream
from edgesparse_runtime.stream.stream import StreamOptions as StreamOptions
from edgesparse_runtime.stream.stream import stream_scores as stream_scores
from edgesparse_runtime.stream.timeline import Timeline as Timeline
from edgesparse_runtime.stream.timeline import TimeRule as TimeRule

__all__ = [
    "Counts",
    "Record",
    "Sample",
    "SampleParser",
    "Score",
    "Step",
    "Stream",
    "StreamOptions",
    "TimeRule",
    "Timeline",
    "stream_scores",
]
