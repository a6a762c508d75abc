"""From a base and its adapters to files that phones run: merged checkpoint, GGUF, ONNX."""
