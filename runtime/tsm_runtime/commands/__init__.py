"""The commands: options, messages, exit codes."""
