"""What can be told of a text alone: meaning, language, tone, near copies, advice to harm oneself."""
