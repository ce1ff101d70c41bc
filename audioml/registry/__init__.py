"""Runs, packages, versions and aliases; alone imports mlflow."""
