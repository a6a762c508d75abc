"""LiteRT-LM, Google's runtime for Android, iOS and browsers (`.litertlm`)."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError, require_extra
from empathy_edge.formats.chat_format import Message
from empathy_edge.formats.litertlm_file import LitertLmFile, read_litertlm
from empathy_edge.runtimes.base import FinishReason, Reply, common_prefix, log_softmax_at
from empathy_edge.runtimes.litert_graph import LitertGraph
from empathy_edge.runtimes.onnx_runtime import TOP_K, FolderRuntime
from empathy_edge.system.quiet import quiet_stderr

_AS_IT_IS = "{{ messages[-1].content[0].text }}"
"""The template by which LiteRT-LM takes a prompt that is rendered already."""


class LiteRtLmRuntime(FolderRuntime):
    """Replies come from LiteRT-LM; logits from the same graph on LiteRT's interpreter.

    The graph is opened when logits are first asked for. LiteRT-LM takes and gives texts, a piece for
    each token: a reply's token ids are those of its pieces. It keeps no prompt between replies.
    """

    def __init__(self, file: Path, folder: Path, *, threads: int, context: int) -> None:
        """Open a file.

        Args:
            file: the .litertlm.
            folder: with the tokenizer, the template and config.json of the same model.
            threads: CPU threads.
            context: in tokens; the file may allow fewer.
        """
        require_extra("litert_lm", "litert", f"Running {file.name}")
        require_extra("ai_edge_litert", "litert", f"Running {file.name}")
        require_vulkan()
        self._file: LitertLmFile = read_litertlm(file)
        metadata = self._file.metadata
        super().__init__(folder, min(context, metadata.max_tokens or context))
        self.name = folder.name if folder == file.parent else file.name
        self.threads = threads
        of_texts = [self._tokenizer.token_to_id(text) for text in metadata.stop_texts]
        known = [token for token in of_texts if token is not None]
        self.declared_stop_ids = frozenset([*metadata.stop_ids, *known])
        start = metadata.start
        self._start = self._tokenizer.token_to_id(start) if isinstance(start, str) else start
        self._engine = self._load()
        self._open_graph: LitertGraph | None = None
        self._figures: Any = None
        self._by_text: dict[bytes, int] | None = None
        self._opened = [self._engine]
        self._close = weakref.finalize(self, _close_quietly, self._opened)

    def _load(self) -> Any:
        """LiteRT-LM with the file loaded."""
        import litert_lm

        litert_lm.set_min_log_severity(litert_lm.LogSeverity.SILENT)
        backend = litert_lm.Backend.CPU(thread_count=self.threads)
        try:
            with quiet_stderr():
                # No cache: packed weights would be written beside the file.
                return litert_lm.Engine(
                    str(self._file.path),
                    backend,
                    max_num_tokens=self.context,
                    cache_dir=":nocache",
                    enable_benchmark=True,
                )
        except RuntimeError as error:
            raise EmpathyEdgeError(f"{self._file.path}: LiteRT-LM cannot load it: {error}") from None

    @property
    def _graph(self) -> LitertGraph:
        if self._open_graph is None:
            self._open_graph = LitertGraph(self._file, self.threads)
            self._opened.append(self._open_graph)
            self.context = min(self.context, self._open_graph.context)
        return self._open_graph

    def stream(
        self,
        messages: list[Message] | Sequence[int],
        *,
        max_new_tokens: int = 160,
        temperature: float = 0.0,
        seed: int = 0,
        ignore_stop: bool = False,
        schema: str = "",
        all_tokens: bool = False,
    ) -> Iterator[str | Reply]:
        """As in `Runtime`; the reply's time of each token is that of its text."""
        start = time.perf_counter()
        ids = self._prompt_ids(messages)
        prompt = self._text_of_prompt(ids)
        limit = min(max_new_tokens, self.context - len(ids))
        pieces: list[str] = []
        times: list[float] = []
        conversation = self._conversation(temperature, seed, all_tokens)
        try:
            for message in conversation.send_message_async(
                prompt, max_output_tokens=limit, suppress_tokens_config=self._suppressed(ignore_stop)
            ):
                piece = str(message)
                if piece:
                    times.append(time.perf_counter() - start)
                    pieces.append(piece)
                    yield piece
            end = time.perf_counter() - start
            made = conversation.token_count - len(ids)  # the stop token counts
            figures = conversation.get_benchmark_info()
        except RuntimeError as error:
            raise EmpathyEdgeError(
                f"{self._file.path}: LiteRT-LM cannot compute a reply ({error}). The file is damaged or "
                "of a shape that it does not compute; take another export of it."
            ) from None
        except BaseException:  # Ctrl-C, or nobody wants the rest: its deletion waits for the reply's end
            conversation.cancel_process()
            raise
        finally:
            conversation.__exit__(None, None, None)
        self._figures = figures
        self._forward_s += _model_seconds(figures)
        finish_reason: FinishReason = "length" if made >= limit else "stop"
        if finish_reason == "stop":
            times.append(end)
        text = "".join(pieces)
        yield Reply(
            text=text.strip(),
            token_ids=tuple(self._ids_of(pieces)),
            prompt_tokens=len(ids),
            ttft_s=times[0] if times else end,
            token_times_s=_one_for_each_token(times, made),
            finish_reason=finish_reason,
        )

    def _ids_of(self, pieces: list[str]) -> list[int]:
        """The tokens of a reply. A piece of several tokens (one character of several) is tokenized."""
        if self._by_text is None:
            tokens = range(self._tokenizer.get_vocab_size())
            self._by_text = {self.token_bytes(token): token for token in reversed(tokens)}
        ids: list[int] = []
        for piece in pieces:
            token = self._by_text.get(piece.encode("utf-8"))
            ids += self.tokenize(piece) if token is None else [token]
        return ids

    def own_speeds(self) -> tuple[float | None, float | None]:
        figures = self._figures
        if figures is None:
            return None, None
        return figures.last_prefill_tokens_per_second, figures.last_decode_tokens_per_second

    def _conversation(self, temperature: float, seed: int, all_tokens: bool) -> Any:
        """A new conversation that takes a rendered prompt."""
        import litert_lm

        greedy = temperature <= 0
        sampler = litert_lm.SamplerConfig(
            top_k=1 if greedy else None if all_tokens else TOP_K,
            top_p=1.0,
            temperature=0.0 if greedy else temperature,
            seed=seed,
        )
        return self._engine.create_conversation(chat_template=_AS_IT_IS, sampler_config=sampler)

    def _suppressed(self, ignore_stop: bool) -> Any:
        """The stop tokens where they must not come; None else."""
        import litert_lm

        return litert_lm.SuppressTokensConfig(sorted(self.stop_ids)) if ignore_stop else None

    def encode(self, messages: list[Message]) -> list[int]:
        ids = super().encode(messages)
        return ids if self._start is None else [self._start, *ids]

    def _text_of_prompt(self, ids: Sequence[int]) -> str:
        """The text whose tokens are `ids`.

        Raises:
            EmpathyEdgeError: there is none, or LiteRT-LM reads it as other tokens.
        """
        if self._start is not None:
            if ids[0] != self._start:
                raise EmpathyEdgeError(
                    f"{self._file.path}: LiteRT-LM puts the token {self._start} before each prompt, "
                    "this prompt has none: the file says that the model begins with it."
                )
            ids = ids[1:]
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        if self._engine.tokenize(text) != list(ids):
            raise EmpathyEdgeError(
                f"{self._file.path}: LiteRT-LM reads this prompt as other tokens than tokenizer.json does."
            )
        return text

    def own_prompt(self, messages: list[Message]) -> list[int]:
        """The tokens that LiteRT-LM itself makes of a conversation, by the template in the file.

        Raises:
            EmpathyEdgeError: it cannot render the template.
        """
        *earlier, last = messages
        with self._engine.create_conversation(messages=earlier or None) as conversation:
            text = conversation.render_message_to_string(last)
        if not text:  # what the engine said is in its log only
            raise EmpathyEdgeError(
                f"{self._file.path}: LiteRT-LM cannot render the chat template: its engine (minijinja) "
                "does not support all of jinja2. Give the model a simpler one: --template FILE."
            )
        ids = [int(token) for token in self._engine.tokenize(text)]
        return ids if self._start is None else [self._start, *ids]

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        return self._logits_from(ids, 0)

    def reply_logits(self, prompt: Sequence[int], reply: Sequence[int]) -> np.ndarray:
        return self._logits_from([*prompt, *reply[:-1]], len(prompt) - 1)

    def next_logits(self, ids: Sequence[int]) -> np.ndarray:
        last: np.ndarray = self._logits_from(ids, len(ids) - 1)[-1]
        return last

    def log_probs(self, ids: Sequence[int], start: int, temperature: float = 1.0) -> np.ndarray:
        return log_softmax_at(self._logits_from(ids[:-1], start - 1), ids[start:], temperature)

    def _logits_from(self, ids: Sequence[int], first: int) -> np.ndarray:
        """The logits after each token from `ids[first]` on, float32 [len(ids) - first, vocabulary]."""
        graph = self._graph
        if len(ids) > graph.context:
            raise EmpathyEdgeError(f"{self.name}: {len(ids)} tokens are more than its {graph.context}.")
        kept = min(common_prefix(graph.read, ids), first)
        graph.truncate(kept)
        graph.add(list(ids[kept:first]))
        return np.stack([graph.step(token) for token in ids[first:]])

    def forget(self, keep: int = 0) -> None:
        self._read = []
        if self._open_graph is not None:
            self._open_graph.truncate(keep)

    def _truncate(self, length: int) -> None:
        self._graph.truncate(length)

    def _step(self, ids: list[int]) -> np.ndarray:
        return np.stack([self._graph.step(token) for token in ids])

    def _last_logits(self, ids: list[int]) -> np.ndarray:
        self._graph.add(ids[:-1])
        self._read = self._graph.read
        return self._graph.step(ids[-1])

    def close(self) -> None:
        self._open_graph = None
        self._close()


def _close_quietly(opened: list[Any]) -> None:
    """LiteRT names each accelerator that it lets go."""
    with quiet_stderr():
        while opened:
            opened.pop().close()


def _one_for_each_token(times: list[float], tokens: int) -> tuple[float, ...]:
    """The times of the pieces of a text, as those of its tokens: the last piece may hold several of them.

    A character of several tokens comes as one piece.
    """
    return tuple([*times[:tokens], *times[-1:] * (tokens - len(times))])


def _model_seconds(figures: Any) -> float:
    """Seconds in the model itself, by LiteRT-LM's own clock."""
    seconds = 0.0
    for count, speed in (
        (figures.last_prefill_token_count, figures.last_prefill_tokens_per_second),
        (figures.last_decode_token_count, figures.last_decode_tokens_per_second),
    ):
        seconds += count / speed if speed else 0.0
    return seconds


def require_vulkan() -> None:
    """LiteRT-LM opens libvulkan on Linux, even where it computes on the CPU.

    Raises:
        PrerequisiteError: it is not there.
    """
    import ctypes

    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError:
        raise PrerequisiteError(
            "LiteRT-LM needs the system library libvulkan.so.1, on a CPU too.",
            "Debian and Ubuntu: apt-get install --no-install-recommends libvulkan1",
        ) from None
