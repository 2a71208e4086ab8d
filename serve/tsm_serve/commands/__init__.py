"""One module per command: parses options, prints, and sets exit codes."""
