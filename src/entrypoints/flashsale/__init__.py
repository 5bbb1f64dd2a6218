"""Flashsale: a flash-sale purchase engine. This package is the application around its core."""
