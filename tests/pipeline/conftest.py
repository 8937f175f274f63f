"""Property tests are judged by what they find, not by how fast a loaded machine is."""

from hypothesis import settings

settings.register_profile("pipeline", deadline=None)
settings.load_profile("pipeline")
