"""What is learned. A plug-in says all that differs between kinds of learning."""
