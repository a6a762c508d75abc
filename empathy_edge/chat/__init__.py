"""The terminal chat: talk to any artifact, and see what it costs."""
