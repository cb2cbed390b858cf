"""Reports on trained models, as tables and pictures."""
