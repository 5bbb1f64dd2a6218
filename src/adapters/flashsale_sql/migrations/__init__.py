"""Alembic's folder: each file in `versions` brings the tables one step further, none back."""
