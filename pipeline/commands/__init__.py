"""The commands of `memsync`, one module each. What a command needs is imported when it runs."""
