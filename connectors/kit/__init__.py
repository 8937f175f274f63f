"""What connectors share. Third-party connectors may use it, too."""
