"""Did an artifact keep its empathy? What is estimated, and the steps that decide it: docs/gate.md."""
