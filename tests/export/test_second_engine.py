"""`export compare-server`: our GGUFs in another llama.cpp, by the real server of the package xllamacpp."""

import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from empathy_edge.export import second_engine
from empathy_edge.export.llama_server import ServedModel, serve, server_command
from tests.commands.tree import assert_reported, assert_says_next
from tests.conftest import assert_one_clear_error, run_command

pytest.importorskip("xllamacpp")

SHORT = ("--prompts", "1", "--new-tokens", "6")


def test_a_tiny_model_says_the_same_in_both_engines(exported: Path, tmp_path: Path) -> None:
    for artifact in (exported / "gguf-f16", exported / "gguf-q8_0" / "model.gguf"):
        result = run_command("export", "compare-server", artifact, *SHORT, "--json", tmp_path / "s.json")
        assert result.returncode == 0, result.stderr
        assert assert_reported(tmp_path / "s.json", "compare-server 1")["verdict"] == "PASS"
        assert_says_next(result, "empathy-edge export bundle")
        assert "xllamacpp 2" in result.stdout and "llama-cpp-python 0" in result.stdout
        assert "PASS" in result.stderr and "the same token ids" in result.stderr


def test_another_template_in_the_app_is_a_fail_that_names_both_versions(
    exported: Path, tmp_path: Path
) -> None:
    template = tmp_path / "other.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    server = tmp_path / "llama-server"
    options = f"--chat-template-file {template}"
    server.write_text(
        f'#!/bin/sh\nexec {sys.executable} -m empathy_edge.export.xllamacpp_server "$@" {options}\n'
    )
    server.chmod(server.stat().st_mode | stat.S_IXUSR)
    result = run_command("export", "compare-server", exported / "gguf-q8_0", "--server", server, *SHORT)
    assert_one_clear_error(
        result,
        1,
        "a difference of versions",
        "llama-cpp-python",
        "a chat through its server has other token ids",
    )
    assert "the same text has other token ids" not in result.stderr
    assert_says_next(result, "where only a chat differs")


def test_a_server_that_is_missing_or_ends_is_one_clear_error(exported: Path, tmp_path: Path) -> None:
    artifact = exported / "gguf-q8_0"
    missing = tmp_path / "llama-server"
    assert_one_clear_error(
        run_command("export", "compare-server", artifact, "--server", missing), 3, str(missing), "no program"
    )
    crashing = tmp_path / "crashing"
    crashing.write_text("#!/bin/sh\necho 'error: out of luck' >&2\nkill -ABRT $$\n")
    crashing.chmod(0o755)
    assert_one_clear_error(
        run_command("export", "compare-server", artifact, "--server", crashing), 2, "crashed", "out of luck"
    )
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho 'error: unknown argument: -np' >&2\nexit 1\n")
    other.chmod(0o755)
    assert_one_clear_error(
        run_command("export", "compare-server", artifact, "--server", other), 2, "does not take the options"
    )
    onnx = tmp_path / "onnx-int4"
    onnx.mkdir()
    (onnx / "manifest.json").write_text('{"artifact": {"format": "onnx-genai"}}')
    assert_one_clear_error(run_command("export", "compare-server", onnx), 2, "GGUF")


def descendants() -> set[psutil.Process]:
    """The processes that this one began, those of other tests among them, and that run."""
    found = psutil.Process().children(recursive=True)
    return {process for process in found if process.status() != psutil.STATUS_ZOMBIE}


def test_no_server_is_left_behind(exported: Path) -> None:
    model = ServedModel(exported / "gguf-q8_0" / "model.gguf")
    before = descendants()
    with pytest.raises(RuntimeError), serve(server_command(None), model, threads=1, context=256):
        children = descendants() - before
        assert len(children) == 2  # the guard and the server
        raise RuntimeError
    assert not any(child.is_running() for child in children)


def test_a_killed_command_leaves_no_server(exported: Path) -> None:
    lines = (
        "from pathlib import Path\nimport time\n"
        "from empathy_edge.export.llama_server import ServedModel, serve, server_command\n"
        f"with serve(server_command(None), ServedModel(Path({str(exported / 'gguf-q8_0' / 'model.gguf')!r})),"
        " threads=1, context=256):\n    print('up', flush=True)\n    time.sleep(600)\n"
    )
    command = subprocess.Popen([sys.executable, "-c", lines], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None and command.stdout.readline() == "up\n"
    children = psutil.Process(command.pid).children(recursive=True)
    command.kill()
    command.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert len(children) == 2 and not alive


def test_a_taken_port_is_tried_again(exported: Path, tmp_path: Path) -> None:
    mark = tmp_path / "tried"
    server = tmp_path / "llama-server"
    server.write_text(
        f"#!/bin/sh\nif [ ! -e {mark} ]; then\n"
        f"touch {mark}; echo 'bind: Address already in use' >&2; exit 1\nfi\n"
        f'{sys.executable} -m empathy_edge.export.xllamacpp_server "$@"\n'
    )
    server.chmod(0o755)
    model = ServedModel(exported / "gguf-q8_0" / "model.gguf")
    before = descendants()
    with serve([str(server)], model, threads=1, context=256) as running:
        assert running.tokens("Hi", as_prompt=False)
        children = descendants() - before
    assert mark.exists()
    assert len(children) == 3  # the guard, the script and what it started
    assert not psutil.wait_procs(children, timeout=60)[1]


@pytest.mark.slow
def test_the_real_model_says_the_same_in_both_engines(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = run_command("export", "smollm2-135m", "--to", "gguf-q4_0", "--verify", "none", "--out", out)
    assert made.returncode == 0, made.stderr
    for model in ("smollm2-135m", str(out / "gguf-q4_0")):  # the shipped one is in Q4_1
        found = second_engine.compare(model, server=None, prompts=2, new_tokens=12)
        assert found.failed == []
        assert 0 < found.largest_difference < 2
