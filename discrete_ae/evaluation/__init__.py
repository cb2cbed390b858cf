"""Evaluation of codecs over data sets of recordings: scores, results and saved audio."""
