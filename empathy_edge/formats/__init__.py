"""The files that everything else reads and writes: dialogues, training rows, chat templates, model files."""
