"""Documents that are pages of a website."""
