"""A large model as teacher or judge: over an API, in this process, or replayed from a file; every answer paid for once."""
