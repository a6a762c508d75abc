"""The built-in chat templates: what each writes, from the family's own documentation, and from llama.cpp."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import NamedTuple

import pytest

from empathy_edge.formats.built_in_templates import BUILT_IN, built_in_template, proposed
from empathy_edge.formats.chat_format import Message, fit_to_template, render, takes_system, turn_end
from empathy_edge.formats.vocabulary import Vocabulary

SYSTEM: Message = {"role": "system", "content": "Be brief."}
HI: Message = {"role": "user", "content": "Hi."}
HELLO: Message = {"role": "assistant", "content": "Hello."}
BYE: Message = {"role": "user", "content": "Bye."}
BOS, EOS = "<s>", "</s>"


class Written(NamedTuple):
    """What a template writes.

    Attributes:
        system: of the system's turn and the user's, the assistant's turn opened.
        turns: of three turns without a system, the assistant's turn opened.
        end: how a turn of the assistant ends.
    """

    system: str
    turns: str
    end: str


_CHATML = Written(
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
    "<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_end|>",
)

EXPECTED = {
    # tloen/alpaca-lora, templates/alpaca.json; a system prompt stands in place of its first sentences.
    "alpaca": Written(
        "Be brief.\n\n### Instruction:\nHi.\n\n### Response:\n",
        "Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\nHi.\n\n### Response:\nHello.</s>\n\n"
        "### Instruction:\nBye.\n\n### Response:\n",
        "</s>",
    ),
    # OpenAI's ChatML, openai-python v0.27's chatml.md
    "chatml": _CHATML,
    # the model card of LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct
    "exaone-3.5": Written(
        "[|system|]Be brief.[|endofturn|]\n[|user|]Hi.\n[|assistant|]",
        "[|system|][|endofturn|]\n[|user|]Hi.\n[|assistant|]Hello.[|endofturn|]\n[|user|]Bye.\n[|assistant|]",
        "[|endofturn|]",
    ),
    # ai.google.dev/gemma/docs/core/prompt-structure: there is no system role
    "gemma": Written(
        "<start_of_turn>user\nHi.<end_of_turn>\n<start_of_turn>model\n",
        "<start_of_turn>user\nHi.<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nBye.<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>",
    ),
    # the same page: system instructions go before the user's first message
    "gemma-3": Written(
        "<start_of_turn>user\nBe brief.\n\nHi.<end_of_turn>\n<start_of_turn>model\n",
        "<start_of_turn>user\nHi.<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nBye.<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>",
    ),
    # IBM's prompt engineering guide for Granite 3
    "granite": Written(
        "<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>Hi.<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        "<|start_of_role|>user<|end_of_role|>Hi.<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>Hello.<|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>Bye.<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        "<|end_of_text|>",
    ),
    # meta-llama/llama, llama/generation.py, chat_completion: each question begins a text of its own
    "llama-2": Written(
        "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi. [/INST]",
        "[INST] Hi. [/INST] Hello. </s><s>[INST] Bye. [/INST]",
        "</s>",
    ),
    # llama.com/docs, prompt formats: Meta Llama 3
    "llama-3": Written(
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|start_header_id|>user<|end_header_id|>\n\nHi.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    # the same site: Llama 3.1 and 3.2; the date is the one that Meta's own template writes without a clock
    "llama-3.2": Written(
        "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    # mistralai/cookbook, concept-deep-dive/tokenization/templates.md
    "mistral-v3": Written(
        "[INST] Be brief.\n\nHi.[/INST]", "[INST] Hi.[/INST] Hello.</s>[INST] Bye.[/INST]", "</s>"
    ),
    "mistral-v3-tekken": Written(
        "[INST]Be brief.\n\nHi.[/INST]", "[INST]Hi.[/INST]Hello.</s>[INST]Bye.[/INST]", "</s>"
    ),
    "mistral-v7-tekken": Written(
        "[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi.[/INST]",
        "[INST]Hi.[/INST]Hello.</s>[INST]Bye.[/INST]",
        "</s>",
    ),
    # the model card of microsoft/Phi-3-mini-4k-instruct
    "phi-3": Written(
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHi.<|end|>\n<|assistant|>\n",
        "<|user|>\nHi.<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\nBye.<|end|>\n<|assistant|>\n",
        "<|end|>",
    ),
    # the model card of microsoft/Phi-4-mini-instruct
    "phi-4-mini": Written(
        "<|system|>Be brief.<|end|><|user|>Hi.<|end|><|assistant|>",
        "<|user|>Hi.<|end|><|assistant|>Hello.<|end|><|user|>Bye.<|end|><|assistant|>",
        "<|end|>",
    ),
    # qwen.readthedocs.io, key concepts; its template has this system prompt where none is given
    "qwen-2.5": Written(
        _CHATML.system,
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        + _CHATML.turns,
        "<|im_end|>",
    ),
    # huggingface.co/blog/qwen-3-chat-template-deep-dive: enable_thinking=False
    "qwen-3": Written(
        _CHATML.system + "<think>\n\n</think>\n\n", _CHATML.turns + "<think>\n\n</think>\n\n", "<|im_end|>"
    ),
    # the template of HuggingFaceTB/SmolLM2-135M-Instruct, which the shipped model has
    "smollm2": Written(
        _CHATML.system,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        + _CHATML.turns,
        "<|im_end|>",
    ),
    # The Smol Training Playbook of Hugging Face shows it: the system's turn has no <|im_end|>
    "smollm3": Written(
        "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: 26 July 2024\n"
        "Reasoning Mode: /no_think\n\n## Custom Instructions\n\nBe brief.\n\n"
        "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n",
        "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: 26 July 2024\n"
        "Reasoning Mode: /no_think\n\n## Custom Instructions\n\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face.\n\n"
        "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\nHello.<|im_end|>\n"
        "<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n",
        "<|im_end|>",
    ),
    # lm-sys/FastChat, fastchat/conversation.py: vicuna_v1.1, ADD_COLON_TWO
    "vicuna": Written(
        "Be brief. USER: Hi. ASSISTANT:",
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the user's questions. "
        "USER: Hi. ASSISTANT: Hello.</s>USER: Bye. ASSISTANT:",
        "</s>",
    ),
    # the model card of HuggingFaceH4/zephyr-7b-beta
    "zephyr": Written(
        "<|system|>\nBe brief.</s>\n<|user|>\nHi.</s>\n<|assistant|>\n",
        "<|user|>\nHi.</s>\n<|assistant|>\nHello.</s>\n<|user|>\nBye.</s>\n<|assistant|>\n",
        "</s>",
    ),
}

IN_LLAMA_CPP = {
    "chatml": "chatml",
    "exaone-3.5": "exaone3",
    "gemma": "gemma",
    "gemma-3": "gemma",
    "granite": "granite",
    "llama-3": "llama3",
    "mistral-v3": "mistral-v3",
    "mistral-v3-tekken": "mistral-v3-tekken",
    "mistral-v7-tekken": "mistral-v7-tekken",
    "phi-3": "phi3",
    "zephyr": "zephyr",
}
"""Our name of a format → llama.cpp's; its vicuna has line ends where FastChat has spaces."""


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_template_writes_what_the_family_documents(name: str) -> None:
    template = built_in_template(name, begins_with_bos=False)
    expected = EXPECTED[name]
    first = fit_to_template(template, [SYSTEM, HI])
    assert render(template, first, bos=BOS, eos=EOS) == expected.system
    assert render(template, [HI, HELLO, BYE], bos=BOS, eos=EOS) == expected.turns
    assert turn_end(template, EOS) == expected.end
    assert takes_system(template) == (name != "gemma")


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_trained_begins_with_what_is_asked(name: str) -> None:
    """Else the loss of a training row would be taken on parts of the prompt."""
    template = built_in_template(name, begins_with_bos=False)
    prompt = fit_to_template(template, [SYSTEM, HI, HELLO, BYE])
    asked = render(template, prompt, bos=BOS, eos=EOS)
    whole = render(template, [*prompt, HELLO], generate=False, bos=BOS, eos=EOS)
    assert whole.startswith(asked)
    assert whole.removeprefix(asked).split() in (
        ["Hello." + EXPECTED[name].end],
        ["Hello.", EXPECTED[name].end],  # Llama 2 has a space there
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_tokenizer_that_begins_every_text_gets_its_token_once(name: str) -> None:
    template = built_in_template(name, begins_with_bos=True)
    assert render(template, [HI, HELLO, BYE], bos=BOS, eos=EOS) == BOS + EXPECTED[name].turns


@pytest.mark.parametrize("name", IN_LLAMA_CPP)
def test_llama_cpp_writes_the_same(name: str) -> None:
    pytest.importorskip("llama_cpp")
    template = built_in_template(name, begins_with_bos=False)
    eos = "<|endoftext|>" if name == "zephyr" else EOS  # there, llama.cpp's format is that of StableLM
    conversations = [[SYSTEM, HI], [SYSTEM, HI, HELLO]]
    if name != "exaone-3.5":  # there, llama.cpp leaves the empty system turn out
        conversations += [[HI, HELLO, BYE], [HI, HELLO]]
    if not name.startswith("mistral-v3"):  # there, Mistral moves the system prompt to the last question
        conversations.append([SYSTEM, HI, HELLO, BYE])
    for messages in conversations:
        if SYSTEM in messages and name == "gemma":
            continue
        generate = messages[-1]["role"] == "user"
        wanted = _by_llama_cpp(IN_LLAMA_CPP[name], messages, generate)
        assert render(template, messages, generate=generate, eos=eos) == wanted


def _by_llama_cpp(name: str, messages: list[Message], generate: bool) -> str:
    import llama_cpp

    turns = [(message["role"].encode(), message["content"].encode()) for message in messages]
    chat = (llama_cpp.llama_chat_message * len(turns))(
        *[llama_cpp.llama_chat_message(*turn) for turn in turns]
    )
    buffer = ctypes.create_string_buffer(4096)
    size = llama_cpp.llama_chat_apply_template(name.encode(), chat, len(turns), generate, buffer, 4096)
    assert 0 < size < 4096
    return buffer.raw[:size].decode()


def test_the_shipped_models_template_is_smollm2s(tiny_model: Path) -> None:
    from empathy_edge.formats.chat_format import read_template

    own, ours = read_template(tiny_model), built_in_template("smollm2", begins_with_bos=False)
    for messages in ([SYSTEM, HI], [HI, HELLO, BYE], [HI]):
        assert render(own, messages) == render(ours, messages)


def test_a_family_is_proposed_by_its_type_and_tokens() -> None:
    tokens = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]"}
    llama = Vocabulary(tokens, "<|begin_of_text|>", "<|eot_id|>", True, "llama")
    assert proposed(llama) == ["llama-3", "llama-3.2"]
    assert proposed(Vocabulary(tokens, "", "", False, "qwen2")) == []
    chatml = Vocabulary({"<|im_start|>", "<|im_end|>"}, "", "<|im_end|>", False, "unheard-of")
    assert proposed(chatml) == ["chatml"]
