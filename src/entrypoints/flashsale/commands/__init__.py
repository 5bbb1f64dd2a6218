"""The commands, one module a noun. They look at what is asked, call the core, and print."""
