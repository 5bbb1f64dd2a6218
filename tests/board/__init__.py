"""The board, drawn from a real sale: `make board`."""
