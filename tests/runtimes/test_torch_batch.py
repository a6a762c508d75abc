"""Batches of replies go to the device that the model is on."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from empathy_edge.runtimes.torch_batch import generate  # noqa: E402 - it needs torch


class OnAnotherDevice:
    """Takes a batch as a model on another device does: one on the CPU is an error there, as on a GPU."""

    device = torch.device("meta")
    generation_config = None

    def generate(self, input_ids: Any, attention_mask: Any, **options: Any) -> Any:
        """Two new tokens for each prompt, the second of which ends the reply."""
        assert input_ids.device == attention_mask.device == self.device
        longest = input_ids.shape[1]
        return torch.tensor([[0] * longest + [7, 9]] * input_ids.shape[0])


def test_a_batch_goes_to_the_models_device() -> None:
    """The review's C2: DPO's first length probe crashed on a GPU."""
    replies = generate(OnAnotherDevice(), [[1, 2, 3], [4]], stop_ids={9}, pad_id=0, max_new_tokens=2)
    assert [(reply.token_ids, reply.stopped) for reply in replies] == [([7], True), ([7], True)]
