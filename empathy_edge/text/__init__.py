"""What can be said of a text by rules: near duplicates, tone, embeddings."""
