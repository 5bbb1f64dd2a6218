"""Drills: real faults on real servers, and one checker of what they left behind."""
