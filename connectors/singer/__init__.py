"""Documents that are rows which a Singer tap reads."""
