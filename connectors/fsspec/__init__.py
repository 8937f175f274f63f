"""Documents that are files on any file system that fsspec knows."""
