"""`python -m audioml` is the same as `audioml`."""

from audioml.cli import main

if __name__ == "__main__":
    main()
