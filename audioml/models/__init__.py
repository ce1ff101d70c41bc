"""Networks. A plug-in builds a torch module."""
