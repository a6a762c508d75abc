"""How good is a reply?

One reply: `scorer` (explicit features) and `tuned` (a fine-tuned model) rate it, `llm_ratings` asks a large
model, `tagger` gives it MITI codes, `format_checks` says whether it is well-formed. `study` and `evaluation`
measure how well ratings are predicted.

Two replies: `pairwise_judges`, `file_judges` and `learned_judge` say which is better, `compare` counts their
verdicts, `certify` tests a judge. `sheet` lets people judge, `agreement` says how far raters agree.
"""
