"""Adapters inside one process: the embedded default, and fakes that pass the real contracts."""
