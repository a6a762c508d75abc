"""Empathy, judged: responses, verdicts, certificates, win rates, and the gate."""
