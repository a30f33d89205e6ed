"""A report each night. Empty, so that the sandbox has little to import."""
