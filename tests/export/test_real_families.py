"""Real models of other families, read from a GGUF and exported again, answer alike (where there is one)."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.export.gguf import writer
from empathy_edge.models.find import checkpoint_of
from empathy_edge.runtimes.distributions import kl_divergence, log_softmax

GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\n' "
    "+ m['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
TEXTS = [
    "I failed my driving test again today, and my brother laughed.",
    "Édgar's café — 13½ km, 谢谢! 😢\n\n  x = [1, 2]",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GEMMA_3_270M", "QWEN_2_5_CODER"])
def test_a_real_model_answers_alike(name: str, tmp_path: Path) -> None:
    import llama_cpp

    from empathy_edge.system.quiet import quiet_stderr

    given = os.environ.get(f"EMPATHY_EDGE_{name}_GGUF")
    if not given:
        pytest.skip(f"EMPATHY_EDGE_{name}_GGUF names no file")
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(checkpoint_of(given).path, checkpoint)
    if name.startswith("GEMMA"):  # the pretrained one, which comes without a template
        (checkpoint / "chat_template.jinja").write_text(GEMMA_TEMPLATE)
    writer.write_float(checkpoint, tmp_path / "again.gguf")
    found = []
    for file in (given, str(tmp_path / "again.gguf")):
        with quiet_stderr():
            llama = llama_cpp.Llama(file, n_ctx=256, logits_all=True, verbose=False)
        rows = []
        for text in TEXTS:
            ids = llama.tokenize(text.encode(), add_bos=True, special=True)
            llama.reset()
            llama.eval(ids)
            rows.append((ids, log_softmax(np.array(llama.scores[: len(ids)]))))
        found.append(rows)
        llama.close()
    for (ids, wanted), (again, got) in zip(*found, strict=True):
        assert ids == again
        # Not the first token: its activations are huge (later tokens attend to it where nothing else fits),
        # and the original's kernels round them to eight bits.
        wanted, got = wanted[1:], got[1:]
        assert kl_divergence(wanted, got).mean() < 0.02
        assert (wanted.argmax(-1) == got.argmax(-1)).mean() > 0.9
