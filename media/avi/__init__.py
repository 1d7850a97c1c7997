"""AVI files, with the indexes of the first version and of OpenDML."""
