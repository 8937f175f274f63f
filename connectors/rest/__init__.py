"""Documents that are records of an API that answers with JSON."""
