"""Documents that are entries of feeds."""
