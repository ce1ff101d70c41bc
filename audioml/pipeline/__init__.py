"""Steps, the graph of steps, and the runner."""
