"""What an artifact costs and what it is worth: latency, memory, the gate, the report."""
