"""The purchase protocol as a small model, searched exhaustively. README.md tells how."""
