"""Metrics, intervals, slices, plots and the report."""
