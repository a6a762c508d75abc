"""A Modelfile gives Ollama the prompt of training, or is refused."""

import json
import shutil
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.bundle.app_settings import AppSettings
from empathy_edge.export.bundle.go_template import go_template
from empathy_edge.export.bundle.ollama import _instructions, check_modelfile, modelfile, ollama_shape
from empathy_edge.export.gguf.writer import write_float
from empathy_edge.formats.built_in_templates import BUILT_IN, built_in_template
from empathy_edge.formats.chat_format import Message, fit_to_template, render
from empathy_edge.formats.prompt_shape import NoShape, shape_of
from empathy_edge.formats.vocabulary import Vocabulary, vocabulary_of_gguf
from empathy_edge.runtimes.llama_cpp_runtime import LlamaCppRuntime
from empathy_edge.system.quiet import quiet_stderr
from tests.conftest import assert_one_clear_error, run_command
from tests.export.go_engine import rendered_by_go
from tests.export.test_vocabulary import KINDS, save

SAID = (
    "You are a warm listener.  Be brief.",
    "  My dog, 13½, died at 04:07 today…\n\n\tWhat “now”? 😢 \n",
    "I'm so sorry {{ you }} {% feel %} that.\n\n",
    "\n Merci — 谢谢, \"he\" weighed 31.5 kg & hated 'cats' <b>so</b> much!! ",
    "That's hard.",
    "yes",
)
ROLES = (
    ("user",),
    ("system", "user"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant", "user"),
    ("system", "user", "assistant", "user", "assistant", "user"),
)
CONVERSATIONS: list[list[Message]] = [
    [{"role": role, "content": text} for role, text in zip(roles, SAID, strict=False)] for roles in ROLES
]

LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}"
    "{% for message in rest %}"
    "{% set text = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + message['content'] if loop.first and system "
    "else message['content'] %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + text | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + text | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""Llama 2's: the first user's message is trimmed together with the system turn inside it."""

INEXPRESSIBLE = {
    # what is said: the template
    "messages system, user otherwise than piece by piece": LLAMA_2,
    "between user and assistant depends on more than the message before": (
        "{% for m in messages %}<|{{ m.role }} {{ loop.index }}|>{{ m.content }}</s>{% endfor %}<|assistant|>"
    ),
    "messages user otherwise than piece by piece": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content | replace('  ', ' ') }}</s>{% endfor %}"
        "<|assistant|>"
    ),
    "some of the spaces off around what the system says": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content.lstrip() }}</s>{% endfor %}<|assistant|>"
    ),
    "does not write the messages user one after the other": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content | upper }}</s>{% endfor %}<|assistant|>"
    ),
}


def vocabulary(*, adds_bos: bool) -> Vocabulary:
    return Vocabulary(frozenset(), "<s>", "</s>", adds_bos, "llama")


def settings(template: str, system: str = "Be kind.") -> AppSettings:
    return AppSettings("gguf-q8_0", "model.gguf", "", template, system, ("</s>",), 1024, 160)


def test_go_writes_the_prompts_of_training() -> None:
    """Of every family, with and without the token that llama.cpp begins a text with."""
    jobs, expected, cases = [], [], []
    for adds_bos in (True, False):
        for name in BUILT_IN:
            if name == "smollm3":  # refused: see the next test
                continue
            template = built_in_template(name, begins_with_bos=adds_bos)
            shape = ollama_shape(template, vocabulary(adds_bos=adds_bos))
            jobs.append((go_template(shape), CONVERSATIONS))
            prompts = [
                render(template, fit_to_template(template, said), bos="<s>", eos="</s>")
                for said in CONVERSATIONS
            ]
            assert [shape.render(said) for said in CONVERSATIONS] == [
                prompt.removeprefix("<s>") for prompt in prompts
            ]
            expected.append(prompts)
            cases.append((name, adds_bos))
    for case, made, wanted in zip(cases, rendered_by_go(jobs), expected, strict=True):
        begin = "<s>" if case[1] else ""
        assert [begin + prompt for prompt in made] == wanted, case


def test_smollm3_is_refused() -> None:
    """It takes spaces off the end of what the system says, and keeps those at its beginning."""
    template = built_in_template("smollm3", begins_with_bos=True)
    with pytest.raises(EmpathyEdgeError, match="would have to be a Go template"):
        ollama_shape(template, vocabulary(adds_bos=True))


def test_the_default_system_turn_stays() -> None:
    """SmolLM2's, which Ollama's own template for it drops."""
    shape = shape_of(built_in_template("smollm2", begins_with_bos=False), bos="", eos="")
    prompt = shape.render([{"role": "user", "content": "Hello"}])
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")


@pytest.mark.parametrize("words", INEXPRESSIBLE)
def test_a_template_that_no_go_template_can_be_is_refused(words: str) -> None:
    with pytest.raises(NoShape, match=words):
        shape_of(INEXPRESSIBLE[words], bos="<s>", eos="</s>")


def test_a_token_before_the_prompt_that_training_did_not_see_is_refused() -> None:
    template = built_in_template("vicuna", begins_with_bos=False)
    assert ollama_shape(template, vocabulary(adds_bos=False))
    with pytest.raises(EmpathyEdgeError, match="would put <s> before every prompt"):
        ollama_shape(template, vocabulary(adds_bos=True))


def test_what_a_modelfile_says_is_read_as_it_was_meant() -> None:
    template = built_in_template("gemma-3", begins_with_bos=True)
    system = 'You are "warm".\n\n\tBe  brief — 谢谢 😢'
    text = modelfile(settings(template, system), vocabulary(adds_bos=True))
    said = dict(_instructions(text))
    assert said["from"] == "./model.gguf" and said["system"] == system
    assert said["template"] == go_template(ollama_shape(template, vocabulary(adds_bos=True)))
    assert 'PARAMETER stop "</s>"\nPARAMETER num_ctx 1024\n' in text
    for odd, words in (("a\u00a0b", "the character '\\\\xa0'"), ('a"""\nb', "three quotation marks")):
        with pytest.raises(EmpathyEdgeError, match=words):
            modelfile(settings(template, odd), vocabulary(adds_bos=True))


FAULTS = {
    # what the error says: the Modelfile
    "FROM names '../../secret.gguf'": "FROM ../../secret.gguf",
    "FROM names 'llama3.2'": "FROM llama3.2",
    "FROM names '/etc/model.gguf'": "FROM /etc/model.gguf",
    "ADAPTER names './none.gguf'": "FROM ./model.gguf\nADAPTER ./none.gguf",
    "DRAFT names 'x'": "FROM ./model.gguf\rDRAFT x",
    "has no FROM line": '# FROM ./model.gguf\nSYSTEM """\nFROM ./model.gguf\n"""',
    "the quotation after SYSTEM does not end": 'FROM ./model.gguf\nSYSTEM """never',
    "'RUN sh' is no instruction": "FROM ./model.gguf\nRUN sh",
    "FROM names './xxx": f"FROM ./{'x' * 5000}.gguf",
    "FROM names './model.gguf\\\\u200b'": "FROM ./model.gguf\u200b",
}


@pytest.mark.parametrize("words", FAULTS)
def test_a_modelfile_that_takes_another_model_is_refused(words: str, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "Modelfile").write_bytes(b"FROM ./model.gguf\n")
    check_modelfile(tmp_path / "Modelfile")
    (tmp_path / "Modelfile").write_bytes(FAULTS[words].encode())
    with pytest.raises(EmpathyEdgeError, match=words):
        check_modelfile(tmp_path / "Modelfile")


def test_ollama_gets_the_token_ids_of_training(exported: Path, tmp_path: Path) -> None:
    """The real command line: the Modelfile's template, rendered by Go, gives the ids of our own prompt."""
    (tmp_path / "licence.txt").write_text("x")
    artifact = exported / "gguf-q8_0"
    made = run_command(
        *("export", "bundle", artifact, "--for", "ollama", "--license", tmp_path / "licence.txt"),
        *("--out", tmp_path / "bundle"),
    )
    assert made.returncode == 0, made.stderr
    said = dict(_instructions((tmp_path / "bundle" / "Modelfile").read_text(encoding="utf-8")))
    assert (
        said["system"] == json.loads((tmp_path / "bundle" / "generation.json").read_text())["system_prompt"]
    )
    assert "ollama create gguf-q8_0 -f Modelfile" in (tmp_path / "bundle" / "README.md").read_text()
    assert run_command("export", "check", tmp_path / "bundle").returncode == 0
    (prompts,) = rendered_by_go([(said["template"], CONVERSATIONS)])
    runtime = LlamaCppRuntime(tmp_path / "bundle" / "model.gguf", threads=1, context=256)
    assert [runtime.tokenize(prompt) for prompt in prompts] == [
        runtime.encode(said) for said in CONVERSATIONS
    ]


@pytest.mark.parametrize("kind", ["llama 2", "llama-bpe"])
def test_a_first_token_comes_once(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    """Ollama lets llama.cpp begin every text with it; the ids are those of the model's own template."""
    import llama_cpp

    folder = save(KINDS[kind](), tiny_model, tmp_path / "model")
    template = built_in_template("chatml", begins_with_bos=True)
    (folder / "chat_template.jinja").write_text(template)
    write_float(folder, tmp_path / "model.gguf")
    found = vocabulary_of_gguf(tmp_path / "model.gguf")
    assert found.adds_bos and found.bos == "<s>"
    shape = ollama_shape(template, found)
    with quiet_stderr():
        llama = llama_cpp.Llama(str(tmp_path / "model.gguf"), vocab_only=True, verbose=False)
    for said in CONVERSATIONS:
        made = llama.tokenize(shape.render(said).encode(), add_bos=True, special=True)
        trained = render(template, said, bos=found.bos, eos=found.eos)
        assert made == llama.tokenize(trained.encode(), add_bos=False, special=True)
        assert made.count(llama.token_bos()) == 1


def test_the_command_line_says_why_a_template_is_refused(exported: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "gguf-q8_0"
    shutil.copytree(exported / "gguf-q8_0", artifact)
    (artifact / "chat_template.jinja").write_text(LLAMA_2)
    (tmp_path / "licence.txt").write_text("x")
    made = run_command(
        *("export", "bundle", artifact, "--for", "ollama", "--license", tmp_path / "licence.txt"),
        *("--out", tmp_path / "bundle"),
    )
    assert_one_clear_error(made, 2, "would have to be a Go template, but it writes", "--for llama-cpp")
    assert not (tmp_path / "bundle").exists()
