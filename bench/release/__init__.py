"""Is the fine-tuned model better than its base? Replies, comparisons, and the verdict."""
