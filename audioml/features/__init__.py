"""What the model sees. A plug-in turns mono float32 audio into frames."""
