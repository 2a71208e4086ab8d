"""Sound of a file: decoded on the time base of its pictures, and turned into log-mel frames."""
