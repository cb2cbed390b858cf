"""A self-contained page: tables, plots and recordings to listen to, in one file that works from disk."""
