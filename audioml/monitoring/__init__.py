"""What is served, watched: drift of the audio and of the answers, and how the champion does on fresh labels."""
