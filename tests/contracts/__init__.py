"""The documents that other people build against, held to what was promised of them."""
