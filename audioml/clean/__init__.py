"""What happens to a clip before its features. A plug-in turns one mono sound into another; they run in a chain."""
