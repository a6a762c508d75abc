"""Whose replies do readers prefer? On prompts that nothing was chosen on, and that are answered once."""
