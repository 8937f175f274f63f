"""The same examples on every machine, judged by what they find and not by how fast they are."""

from hypothesis import settings

settings.register_profile("properties", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("properties")
