"""llama.cpp's own server, as the package xllamacpp brings it: for machines without a llama-server.

`python -m empathy_edge.export.xllamacpp_server -m FILE --port PORT …` takes those of llama-server's options
that `llama_server` gives it, and runs until it is ended.
"""

from __future__ import annotations

import argparse
import threading
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    """Serve a GGUF on loopback until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", action="version", version=f"xllamacpp {version('xllamacpp')}")
    parser.add_argument("-m", dest="model", required=True)
    parser.add_argument("--host", required=True)
    for option in ("--port", "-c", "-t", "-np", "-ngl"):
        parser.add_argument(option, type=int, required=True)
    parser.add_argument("--jinja", action="store_true")
    parser.add_argument("--lora")
    parser.add_argument("--chat-template-file")
    wanted = parser.parse_args()

    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = wanted.model
    parameters.hostnames = [wanted.host]
    parameters.port = wanted.port
    parameters.n_ctx = wanted.c
    parameters.n_parallel = wanted.np
    parameters.n_gpu_layers = wanted.ngl
    parameters.cpuparams.n_threads = wanted.t
    parameters.cpuparams_batch.n_threads = wanted.t
    parameters.use_jinja = wanted.jinja
    if wanted.lora:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(wanted.lora, 1.0)]
    if wanted.chat_template_file:
        parameters.chat_template = Path(wanted.chat_template_file).read_text(encoding="utf-8")
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
