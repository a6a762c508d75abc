"""From rated dialogues to the rows that a small model is trained on."""
