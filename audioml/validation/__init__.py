"""Checks on the manifest; alone imports great_expectations."""
