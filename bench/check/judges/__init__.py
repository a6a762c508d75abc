"""Who says which of two replies is better, and how often that judge was right on certified pairs."""
