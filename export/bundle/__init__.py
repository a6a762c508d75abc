"""What a mobile engineer takes away: one folder (or zip) with the model, how to run it, where it comes from, and hashes."""
