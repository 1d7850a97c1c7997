"""Access control: credentials, and areas that are not public."""
