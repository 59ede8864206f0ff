"""Fairground: run, rank, refine, share and govern open language models on machines you own."""

__version__ = "0.1.0"
