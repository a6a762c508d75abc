"""Every runtime speaks through the same loop and leaves the same record."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import messages_for
from empathy_edge.judging.llm_ratings import read_subfactors, schema_of
from empathy_edge.runtimes import Reply, Runtime, open_runtime

ONNX = [pytest.param(name, marks=pytest.mark.slow) for name in ("onnx-int4", "onnx-portable-int8")]


@pytest.fixture(params=["torch", "gguf-f16", *ONNX])
def runtime(request: pytest.FixtureRequest, tiny_model: Path):
    model = tiny_model
    if request.param != "torch":
        folder = request.getfixturevalue("exported_onnx" if request.param.startswith("onnx") else "exported")
        model = folder / request.param
    opened = open_runtime(model, context=256)
    yield opened
    opened.close()


def test_a_genai_folder_that_loads_code_is_not_opened(tmp_path: Path) -> None:
    """ONNX Runtime GenAI would load the library before anything else is wrong with the folder."""
    pytest.importorskip("onnxruntime_genai")
    (tmp_path / "manifest.json").write_text('{"artifact": {"format": "onnx-genai"}}')
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    options = {"custom_ops_library": "libhostile.so"}
    config = {"model": {"decoder": {"session_options": options, "filename": "model.onnx"}}}
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(
        EmpathyEdgeError, match=r"genai_config\.json: has 'custom_ops_library' in session_opt"
    ):
        open_runtime(tmp_path)


def test_stream_yields_pieces_and_then_the_reply(runtime: Runtime) -> None:
    *pieces, reply = runtime.stream(messages_for("Hello you"), max_new_tokens=12, ignore_stop=True)
    assert isinstance(reply, Reply) and all(isinstance(piece, str) for piece in pieces)
    assert "".join(pieces).strip() == reply.text
    assert len(reply.token_ids) == 12 and reply.finish_reason == "length"
    assert reply.prompt_tokens == len(runtime.encode(messages_for("Hello you")))
    assert list(reply.token_times_s) == sorted(reply.token_times_s) and reply.ttft_s == reply.token_times_s[0]
    assert reply.decode_tps is not None and reply.decode_tps > 0


def test_greedy_is_repeatable_and_sampling_follows_its_seed(runtime: Runtime) -> None:
    def speak(**options: object) -> str:
        runtime.forget()
        return runtime.reply(messages_for("Tell me"), max_new_tokens=8, **options).text

    assert speak() == speak()
    assert speak(temperature=1.5, seed=1) == speak(temperature=1.5, seed=1)


def test_too_long_a_prompt_is_one_error(runtime: Runtime) -> None:
    with pytest.raises(EmpathyEdgeError, match="the context window 256"):
        runtime.reply(messages_for("word " * 400))


def test_multibyte_characters_arrive_whole(runtime: Runtime) -> None:
    ids = runtime.tokenize("Édgar 😢 谢谢")
    assert b"".join(runtime.token_bytes(token) for token in ids).decode() == "Édgar 😢 谢谢"
    (end,) = runtime.tokenize("<|im_end|>")
    assert runtime.token_bytes(end) == b"" and end in runtime.stop_ids


def test_a_token_of_many_bytes_has_them_all(runtime: Runtime) -> None:
    """llama-cpp-python gives none where they are more than 32."""
    assert runtime.token_bytes(15069) == b"-" * 64  # in SmolLM2's vocabulary


def test_a_hybrid_model_answers_a_second_message(tiny_model: Path, tmp_path: Path) -> None:
    """The state of its convolutions cannot go back: `crop` raised a RuntimeError."""
    torch = pytest.importorskip("torch")
    import transformers

    from empathy_edge.runtimes.torch_runtime import TorchRuntime

    vocabulary = json.loads((tiny_model / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    config = transformers.Lfm2Config(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention", "conv"],
        block_auto_adjust_ff_dim=False,
        vocab_size=vocabulary,
        pad_token_id=2,
    )
    transformers.Lfm2ForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tiny_model / name, tmp_path / name)
    opened = TorchRuntime(tmp_path, threads=1)
    messages = messages_for("Hello you")
    first = opened.reply(messages, max_new_tokens=6, ignore_stop=True)
    messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "And you?"}]
    second = opened.reply(messages, max_new_tokens=6, ignore_stop=True)
    opened.forget()
    assert opened.reply(messages, max_new_tokens=6, ignore_stop=True).token_ids == second.token_ids


def test_ctrl_c_in_the_middle_of_the_layers_leaves_no_half_of_a_cache(tiny_model: Path) -> None:
    """The first layers had read the tokens, the others not; the next reply went on from there."""
    pytest.importorskip("torch")
    from empathy_edge.runtimes.torch_runtime import TorchRuntime

    opened = TorchRuntime(tiny_model, threads=1)
    ids = opened.encode(messages_for("Hello you"))
    opened.reply(ids, max_new_tokens=4, ignore_stop=True)
    longer = [*ids, *opened.tokenize(" and everyone else")]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    layers = [part for part in opened.model.modules() if type(part).__name__ == "LlamaDecoderLayer"]
    hook = layers[-1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        opened.reply(longer, max_new_tokens=6, ignore_stop=True)
    hook.remove()
    after = opened.reply(longer, max_new_tokens=6, ignore_stop=True)
    opened.forget()
    assert opened.reply(longer, max_new_tokens=6, ignore_stop=True).token_ids == after.token_ids


def test_torch_batch_equals_one_by_one(tiny_model: Path) -> None:
    from empathy_edge.runtimes.torch_runtime import TorchRuntime

    opened = TorchRuntime(tiny_model, threads=1)
    conversations = [messages_for(text) for text in ("Hi", "My dog ran away this morning", "Why?")]
    batch = opened.reply_batch(conversations, max_new_tokens=10)
    alone = [opened.reply(messages, max_new_tokens=10) for messages in conversations]
    assert [reply.token_ids for reply in batch] == [reply.token_ids for reply in alone]


def test_logits_agree_between_torch_and_llama_cpp(tiny_model: Path, exported: Path) -> None:
    torch_runtime = open_runtime(tiny_model, context=256)
    ids = torch_runtime.encode(messages_for("A longer sentence, with 13½ digits and 😢."))
    wanted = torch_runtime.logits(ids)
    other = open_runtime(exported / "gguf-f16", context=256, exact_logits=True)
    assert np.abs(wanted - other.logits(ids)).max() < 5e-2  # F16 weights, logits up to about 12
    other.close()


def test_log_probabilities_of_an_answer(tiny_model: Path, exported: Path) -> None:
    import torch

    torch_runtime, llama = open_runtime(tiny_model), open_runtime(exported / "gguf-f16", context=256)
    prompt = llama.encode(messages_for("My dog ran away"))
    for text in ("I am so sorry", "I am glad to hear it", "x"):  # the prompt is read once
        ids = [*prompt, *llama.tokenize(text)]
        found = llama.log_probs(ids, len(prompt))
        logits = torch.tensor(torch_runtime.logits(ids)).double()
        wanted = [
            float(logits[place - 1].log_softmax(-1)[ids[place]]) for place in range(len(prompt), len(ids))
        ]
        assert found == pytest.approx(wanted, abs=0.2) and found.mean() == pytest.approx(
            np.mean(wanted), abs=0.05
        )
        assert torch_runtime.log_probs(ids, len(prompt)) == pytest.approx(wanted, abs=1e-4)
    assert llama.cached_tokens >= len(prompt) - 1
    long = [*prompt, *([300] * 100)]
    assert len(llama.log_probs(long, 1)) == len(long) - 1


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_llama_cpp_holds_even_an_untaught_model_to_a_schema(exported: Path, temperature: float) -> None:
    factors = ("warmth in tone", "clarity")
    opened = open_runtime(exported / "gguf-f16", context=256)
    said = {"max_new_tokens": 80, "temperature": temperature, "seed": 3}
    assert read_subfactors(opened.reply(messages_for("Rate this"), **said).text, factors) is None
    held = opened.reply(messages_for("Rate this"), schema=schema_of(factors), **said)
    assert read_subfactors(held.text, factors) is not None, held.text
    opened.close()


def test_a_token_without_a_row_is_named(tiny_model: Path, tmp_path: Path) -> None:
    """It was an IndexError of torch."""
    pytest.importorskip("torch")
    from transformers import AutoTokenizer

    shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["<|mood|>"])
    tokenizer.save_pretrained(tmp_path / "model")
    runtime = open_runtime(tmp_path / "model", threads=1)
    assert runtime.tokenize("say mood")
    with pytest.raises(
        EmpathyEdgeError, match=r"the token '<\|mood\|>' \(number 49152\), but there are 49152"
    ):
        runtime.reply([{"role": "user", "content": "say <|mood|>"}], max_new_tokens=1)


def test_a_pad_token_without_a_row_is_not_used(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from empathy_edge.runtimes.torch_runtime import TorchRuntime

    shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(tmp_path / "model")
    runtime = TorchRuntime(tmp_path / "model", threads=1)
    first, second = runtime.greedy_replies([[5, 6, 7], [8]], max_new_tokens=2)
    assert len(first.token_ids) == len(second.token_ids) == 2
