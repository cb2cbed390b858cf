"""Measurements of a codec over a data set of recordings, and what they leave behind."""
