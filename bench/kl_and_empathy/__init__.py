"""How far does the KL divergence of an artifact tell what readers prefer?

For each model, `python -m empathy_edge.bench.kl_and_empathy draw FOLDER --reference model-f16.gguf --baseline
baseline.json.gz ARTIFACT …`. Then `… read FOLDER … --sheet ratings.csv` writes a sheet; when somebody has
filled it in, the same command prints the table and the curve (`--picture curve.svg`).
"""
