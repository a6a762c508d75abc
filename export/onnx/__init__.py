"""Checkpoints as ONNX: for ONNX Runtime GenAI, and as one portable graph."""
