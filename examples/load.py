"""Forecasting a load: the last six hours of a day from the eighteen before, with naive forecasts beside.

Data: ItalyPowerDemand, electricity demand by the hour, each day standardized; 1,029 days to train on, 67 to
test (in sktime's package, whose test part is the larger one).
Needs: pip install 'edgesparse[estimators,data]'
"""

from importlib.resources import files
from pathlib import Path

import numpy as np

from edgesparse.estimators import SparseTransformerForecaster
from edgesparse_runtime import read_dataset

HORIZON = 6

folder = Path(str(files("sktime"))) / "datasets/data/ItalyPowerDemand"
train, test = (
    np.stack(read_dataset(folder / f"ItalyPowerDemand_{part}.ts").series) for part in ("TEST", "TRAIN")
)
past, future = test[:, :, :-HORIZON], test[:, 0, -HORIZON:]

model = SparseTransformerForecaster(horizon=HORIZON, epochs=8).fit(train)
forecasts = {
    "edgesparse": model.predict(past),
    "mean of the training days": np.tile(train[:, 0, -HORIZON:].mean(axis=0), (len(test), 1)),
    "last value": np.repeat(past[:, 0, -1:], HORIZON, axis=1),
}
hours = [24 - HORIZON + step for step in range(HORIZON)]
print("mean absolute error        mean  " + "".join(f"{hour:>4}:00" for hour in hours))
for name, forecast in forecasts.items():
    error = np.abs(forecast - future)
    print(f"{name:26}{error.mean():5.2f}  " + "".join(f"{x:7.2f}" for x in error.mean(axis=0)))
