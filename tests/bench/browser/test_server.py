"""The server on a hostile network: nothing without the token, no path outside, limits on what is sent."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import os
import re
import shutil
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.bench.browser.serving import Served, foreign_hosts, honest_upload, serving
from tests.conftest import assert_one_clear_error, run_command


def test_nothing_is_answered_without_the_token(served: Served) -> None:
    names = ["", "plan.json", "model/0", "main.js", "results", "runs"]
    for token in ("", "x", served.token[:-1], served.token + "x", served.token.swapcase()):
        for name in names:
            for method in ("GET", "POST"):
                answer = served.ask(f"/{token}/{name}", method)
                assert (answer.status, answer.body) == (404, b"Not found\n"), (token, name)
                assert "content-security-policy" in answer.headers
    assert served.get("").status == 200


def test_no_path_leaves_what_is_served(served: Served, exported: Path) -> None:
    manifest = b"gguf"
    for path in (
        "../manifest.json", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd",
        "model/../../manifest.json", "model/-1", "model/1", "model/0/../manifest.json", "page/main.js",
        "//etc/passwd", "main.js/", "__init__.py", "app.py", "plan.json%00.js", "..\\..\\manifest.json",
    ):  # fmt: skip
        answer = served.get(path)
        assert answer.status in (404, 405), path
        assert b"root:" not in answer.body and manifest not in answer.body


def test_the_model_comes_whole_in_ranges_and_not_twice(served: Served, exported: Path) -> None:
    (file,) = (exported / "gguf-f16").glob("*.gguf")
    content = file.read_bytes()
    whole = served.get("model/0")
    assert (whole.status, whole.body == content) == (200, True)
    assert served.get("model/0", If_None_Match=whole.headers["etag"]).status == 304
    part = served.get("model/0", Range="bytes=1000-1999")
    assert (part.status, part.body) == (206, content[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(content)}"
    end = served.get("model/0", Range=f"bytes={len(content) - 5}-")
    assert (end.status, end.body) == (206, content[-5:])
    changed = served.get("model/0", Range="bytes=0-9", If_Range='"another"')
    assert (changed.status, len(changed.body)) == (200, len(content))
    for wrong in ("bytes=9-3", f"bytes={len(content)}-", "bytes=-5-", "lines=0-3", "bytes=0-1,5-9"):
        assert served.get("model/0", Range=wrong).status == 416, wrong


def test_the_page_loads_nothing_from_elsewhere(served: Served, wllama: dict[str, bytes]) -> None:
    page = served.get("")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy and "http" not in policy
    assert page.headers["cross-origin-opener-policy"] == "same-origin"
    assert page.headers["cross-origin-embedder-policy"] == "require-corp"
    assert page.headers["referrer-policy"] == "no-referrer"
    text = page.body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|style=", text)
    names = {
        "main.js",
        "chat.js",
        "bench.js",
        "model.js",
        "store.js",
        "crisis.js",
        "service-worker.js",
        "page.css",
    }
    for name in names:
        answer = served.get(name)
        assert answer.status == 200
        text += answer.body.decode()
    assert foreign_hosts(text) == set()
    assert served.get("wllama.js").body == wllama["wllama.js"]
    assert b"MIT License" in served.get("LICENCE").body
    again = served.get("main.js", If_None_Match=served.get("main.js").headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert served.get("multi.wasm", Accept_Encoding="gzip").headers["content-encoding"] == "gzip"


def test_a_result_is_checked_stored_and_shown(exported: Path, wllama: object, tmp_path: Path) -> None:
    with serving(exported / "gguf-f16", tmp_path / "out", "--stop-after", "1") as served:
        plan = served.get("plan.json").json
        run = served.post("runs", {}).json["run"]
        upload = honest_upload(plan, run)
        upload["device"]["name"] = "\x1b[31m<b>Ann's</b>\nphone|"
        refused = served.post("results", {**upload, "plan": "0" * 64})
        assert refused.status == 422 and "another model" in refused.json["refused"]
        taken = served.post("results", upload)
        assert (taken.status, taken.json["tokens"]) == (200, "same")
        assert served.process.wait(60) == 0
        table = served.process.stdout.read()
    (file,) = (tmp_path / "out").glob("phone-*.json")
    result = json.loads(file.read_text())
    assert result["label"] == "measured-browser"
    assert result["device"]["name"] == "[31m<b>Ann's</b> phone|"
    assert [sample["decode_tps"] for sample in result["samples"]] == [1000, 1000, 1000]
    assert "measured-browser" in table and "\x1b" not in table


def test_a_result_that_cannot_be_written_can_be_sent_again(
    exported: Path, wllama: object, tmp_path: Path
) -> None:
    """Its run was ended before, so that the same result was refused afterwards."""
    out = tmp_path / "out"
    with serving(exported / "gguf-f16", out) as served:
        upload = honest_upload(served.get("plan.json").json, served.post("runs", {}).json["run"])
        out.write_text("a file where the folder should be")
        failed = served.post("results", upload)
        assert (failed.status, "send it again" in failed.json["refused"]) == (507, True)
        out.unlink()
        assert served.post("results", upload).status == 200
    assert len(list(out.glob("phone-*.json"))) == 1
    assert "cannot be written" in "".join(served.said)


def test_lan_warns_and_https_has_the_certificate_that_was_printed(
    exported: Path, wllama: object, tmp_path: Path
) -> None:
    code = tmp_path / "code.svg"
    options = ("--lan", "--https", "--qr", str(code), "--minutes", "0.1")
    with serving(exported / "gguf-f16", tmp_path / "out", *options) as served:
        parts = urlsplit(served.url)
        assert parts.scheme == "https" and parts.port
        sent = ssl.get_server_certificate(("127.0.0.1", parts.port), timeout=20)
        fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(sent)).hexdigest().upper()
        assert served.process.wait(60) == 0, "it stops by itself"
        said = "".join(served.said)
    assert fingerprint in said.replace(" ", "")
    assert "Everyone in this network who has the address" in said
    assert "No QR code: the output is no terminal" in said
    assert "<svg" in code.read_text()


def test_another_format_names_the_gguf_in_its_folder(exported: Path, wllama: object, tmp_path: Path) -> None:
    """The user has named no llama-bench."""
    shutil.copytree(exported / "gguf-q8_0", tmp_path / "gguf-q8_0")
    other = shutil.copytree(exported / "gguf-q8_0", tmp_path / "onnx-int4")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["artifact"]["format"] = "onnx-genai"
    (other / "manifest.json").write_text(json.dumps(manifest))
    result = run_command("phone", other)
    assert_one_clear_error(result, 2, "the phone's page runs", f"Give {tmp_path / 'gguf-q8_0'}.")
    assert "llama-bench" not in result.stderr
    shutil.rmtree(tmp_path / "gguf-q8_0")
    assert_one_clear_error(run_command("phone", other), 2, "--to gguf-q4_0")


def test_bad_input_is_one_clear_error(exported: Path, wllama: object, tmp_path: Path) -> None:
    text = tmp_path / "model.gguf"
    text.write_text("not a model")
    large = tmp_path / "large.gguf"
    (small,) = (exported / "gguf-f16").glob("*.gguf")
    large.write_bytes(small.read_bytes())
    os.truncate(large, 3_600_000_000)
    assert_one_clear_error(run_command("phone", "no-such-model"), 2, "no such model")
    assert_one_clear_error(run_command("phone", text), 2, "is not a GGUF")
    assert_one_clear_error(run_command("phone", large), 2, "3600 MB", "3500 MB", "gguf-q4_0")
    long = run_command("phone", small, "--port", "0", "--prompt-tokens", "500")
    assert_one_clear_error(long, 2, "--prompt-tokens 500", "512 tokens")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_one_clear_error(run_command("phone", small, "--port", port), 2, f"Port {port}", "--port 0")


@contextlib.contextmanager
def registry_that_sends(content: bytes) -> Iterator[str]:
    """An npm registry on loopback that answers every request with the same bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_wllama_is_the_pinned_one_or_none(exported: Path, wllama: object, tmp_path: Path) -> None:
    (small,) = (exported / "gguf-f16").glob("*.gguf")
    away = {**os.environ, "EMPATHY_EDGE_CACHE": str(tmp_path), "NPM_CONFIG_REGISTRY": "http://127.0.0.1:9"}
    offline = run_command("phone", small, "--port", "0", env=away)
    assert_one_clear_error(offline, 3, "could not be fetched", "NPM_CONFIG_REGISTRY")
    with registry_that_sends(b"another archive") as url:
        forged = run_command("phone", small, "--port", "0", env={**away, "NPM_CONFIG_REGISTRY": url})
    assert_one_clear_error(forged, 2, "another archive than the pinned one")
    assert not list(tmp_path.rglob("*.tgz"))


def test_the_pinned_hash_is_that_of_the_archive(wllama: dict[str, bytes]) -> None:
    from empathy_edge.bench.browser.wllama import INTEGRITY, VERSION
    from empathy_edge.system.cache import cache_folder

    content = (cache_folder() / "wllama" / f"wllama-{VERSION}.tgz").read_bytes()
    assert "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode() == INTEGRITY
    assert wllama["multi.wasm"].startswith(b"\0asm")


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_gets_a_qr_code_if_it_is_wide_enough(wllama: object) -> None:
    import pty
    import subprocess

    program = "from empathy_edge.bench.browser.address import show_qr_code; show_qr_code('http://127.0.0.1:8765/token/')"
    shown = {}
    for columns in ("80", "20"):
        ours, theirs = pty.openpty()
        environment = {**os.environ, "COLUMNS": columns, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
        subprocess.run(
            [sys.executable, "-c", program], stderr=theirs, env=environment, check=True, timeout=60
        )
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):
            while block := os.read(ours, 65536):
                text += block
        os.close(ours)
        shown[columns] = text.decode("utf-8", "replace")
    assert "█" in shown["80"] and "No QR code" not in shown["80"]
    assert "the terminal has 20 columns" in " ".join(shown["20"].split()) and "█" not in shown["20"]


def test_a_result_is_taken_once_and_in_its_size(served: Served) -> None:
    plan = served.get("plan.json").json
    assert served.post("results", honest_upload(plan, "made-up")).status == 422
    upload = honest_upload(plan, served.post("runs", {}).json["run"])
    assert served.post("results", upload).status == 200
    assert served.post("results", upload).status == 422, "a second one of the same run"
    large = b'{"run": "' + b"x" * 300_000 + b'"}'
    assert served.post("results", large).status == 413
    wrong = served.ask(f"/{served.token}/results", "POST", b"{}", Content_Type="text/plain")
    assert wrong.status == 415
    assert served.post("results", b"[" * 100_000).status == 422, "deep JSON"
    statuses = [served.post("runs", {}).status for _ in range(6)]
    assert statuses[0] == 200 and statuses[-1] == 429
    assert served.post("results", upload).headers["retry-after"] == "60"
    assert len(list(served.out.iterdir())) == 1
    assert served.stop() == 0, "Ctrl-C is how a server ends"
