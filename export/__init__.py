"""From a base and its adapters to files that phones run: merged checkpoint, GGUF, ONNX."""

from empathy_edge.callable_package import make_callable

make_callable(__name__)
