"""Did an artifact keep its empathy? Replies, comparisons, and the verdict."""
