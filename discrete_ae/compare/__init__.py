"""Reports that compare trained models in tables, plots and clips."""
