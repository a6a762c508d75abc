"""Judges that give each reply a number: a model, likelihood, people with a sheet, a trained one."""
