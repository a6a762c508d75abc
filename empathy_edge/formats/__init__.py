"""File formats: dialogues, training rows, chat templates, model files, names of artifacts."""
