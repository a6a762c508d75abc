"""How good is a reply? Scorers of one reply, judges of two, certificates, sheets for people, statistics."""
