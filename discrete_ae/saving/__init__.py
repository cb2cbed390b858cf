"""A trained model as a file: the checkpoint of a run, and the bundle for publication."""
