"""Two-pass rate control for video language models, with visual tokens as the bits."""

__version__ = "0.1.0"
