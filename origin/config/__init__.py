"""The configuration: options, their sources, and what is said of wrong ones."""
