"""Lineage as a page: a drawn graph and, below it, all facts. It runs no script and asks nothing of any host."""
