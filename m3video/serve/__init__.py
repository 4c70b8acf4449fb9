"""One process that answers questions about the videos of one folder, over HTTP."""
