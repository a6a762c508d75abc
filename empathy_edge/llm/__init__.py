"""A large model as teacher or judge: behind an API, in this process, or from a file of answers."""
