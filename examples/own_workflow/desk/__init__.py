"""A briefing desk. Empty, so that the sandbox has little to import."""
