"""The Open Inference Protocol: requests to arrays, arrays to answers, refusals."""
