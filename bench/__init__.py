"""What an artifact costs and what it is worth: latency, memory, win rate, the gate, the report."""
