"""Documents that are files of a git repository."""
