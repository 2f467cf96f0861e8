"""Export trained models to ONNX and bundles, and quantize them."""
